"""Merged logs -> a state, and what bringing it up to date came across."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.stored import Position
from consumer.errors import BadMessageError
from consumer.learn import follow, learn
from consumer.merging import Merged, MergedCandle, MergedTrade
from consumer.ports import Record


@dataclass(slots=True)
class CatchUp:
    """What bringing a state up to date came across."""

    decisions: int = 0
    trades: int = 0
    candles: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """By topic: deleted by retention before they were folded."""
    refused: list[tuple[Record, BadMessageError]] = field(default_factory=list)
    """Input behind the group's offset that goes to the dead letters."""


class LogFold:
    """Folds merged logs into a state.

    Args:
        state: Standing where they begin.
        found: What is come across is added to it.
        signals_log: Topic and partition that the decisions answer; those of another one, before a
            migration, count all the same.
        upto: Where the group is said to go on in the input.
        last: Where the logs end.
        is_atomic: Whether what a decision has seen was worked off, whatever the group is said to stand at.
    """

    def __init__(
        self,
        state: PartitionState,
        found: CatchUp,
        *,
        signals_log: tuple[str, int],
        upto: Position,
        last: Position,
        is_atomic: bool,
    ) -> None:
        self.upto = upto
        self._state = state
        self._found = found
        self._signals_topic, self._signals_partition = signals_log
        self._last = last
        self._is_atomic = is_atomic
        self._seen_trades = max(upto.trades, state.position.trades)
        self._seen_candles = max(upto.candles, state.position.candles)

    def fold(self, batch: Sequence[Merged]) -> int:
        """Fold the next records; give how many of them were not foreign."""
        state, found, last = self._state, self._found, self._last
        foreign = 0
        for one in batch:
            record = one.record
            refused: FoldResult | CandleOutcome | BadMessageError | None = None
            worked_off = 0
            if isinstance(one, MergedTrade):
                refused = learn(
                    state, one.trade, offset=record.offset, timestamp_ms=record.timestamp
                )
                found.trades, worked_off = found.trades + 1, self.upto.trades
            elif isinstance(one, MergedCandle):
                refused = follow(state, one.candle, offset=record.offset)
                found.candles, worked_off = found.candles + 1, self.upto.candles
            elif (decision := one.decision) is not None:
                # a decision may have seen an offset that holds no record
                self._seen_trades = max(self._seen_trades, min(decision.table_offset, last.trades))
                self._seen_candles = max(
                    self._seen_candles, min(decision.candles_offset or 0, last.candles)
                )
                state.admit(
                    decision.remembered,
                    is_exploration=decision.is_exploration,
                    entry=decision.entry,
                )
                source = decision.source
                if (
                    source is not None
                    and source[1] == self._signals_partition
                    and source[0] == self._signals_topic
                ):
                    state.answer(source[2])
                found.decisions += 1
            else:
                foreign += 1
            if (
                isinstance(refused, BadMessageError)
                and not self._is_atomic
                and record.offset >= worked_off
            ):
                found.refused.append((record, refused))
        return len(batch) - foreign

    def end(self) -> None:
        """Let the state stand behind all that was folded, and behind what its decisions have seen."""
        state = self._state
        state.position = Position(
            self._last.decisions,
            max(self._seen_trades, state.position.trades),
            max(self._seen_candles, state.position.candles),
        )
