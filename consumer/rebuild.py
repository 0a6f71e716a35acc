"""A partition's state recomputed from its logs: at an opening, after a loss, on demand."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.domain.partition_state import PartitionState, Position
from consumer.errors import BadMessageError, RefusedError
from consumer.learn import learn
from consumer.pipeline import decoded_trade
from consumer.stream.log_reader import LogReader
from consumer.wire import decode_logged_decision


@dataclass(slots=True)
class CatchUp:
    """What bringing a state up to date came across."""

    decisions: int = 0
    trades: int = 0
    skipped_decisions: int = 0
    """Deleted by retention before they were folded."""
    skipped_trades: int = 0
    refused: list[tuple[ConsumerRecord, BadMessageError]] = field(default_factory=list)
    """Closed trades behind the group's offset that go to the dead letters."""


class _Trades:
    """The log of closed trades, folded up to a given offset at a time."""

    def __init__(
        self,
        state: PartitionState,
        records: AsyncIterator[ConsumerRecord],
        trades_offset: int,
        found: CatchUp,
        on_progress: Callable[[int], None],
    ) -> None:
        self._state = state
        self._records = records
        self._next: ConsumerRecord | None = None
        self._trades_offset = trades_offset
        self._found = found
        self._on_progress = on_progress
        self._is_at_end = False

    async def fold_before(self, offset: int) -> None:
        """Fold the trades whose offset is below `offset`."""
        while not self._is_at_end:
            if self._next is None:
                self._next = await anext(self._records, None)
                if self._next is None:
                    self._is_at_end = True
                    break
            if self._next.offset >= offset:
                break
            self._fold(self._next)
            self._next = None
        position = self._state.position
        self._state.position = Position(position.decisions, max(position.trades, offset))

    def _fold(self, record: ConsumerRecord) -> None:
        result = learn(
            self._state,
            decoded_trade(record),
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        self._found.trades += 1
        self._on_progress(1)
        if isinstance(result, BadMessageError) and record.offset >= self._trades_offset:
            self._found.refused.append((record, result))


async def catch_up(
    state: PartitionState,
    reader: LogReader,
    decisions_log: TopicPartition,
    trades_log: TopicPartition,
    *,
    trades_offset: int | None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> CatchUp:
    """Fold what the logs hold past a state's position.

    The two logs are merged as they were folded live: before a decision with `table_offset` T the
    trades below T, so that a trade at offset t sees exactly the decisions with T <= t.

    Args:
        state: To bring up to date.
        reader: Assigned to both logs.
        decisions_log: Folded to its end.
        trades_log: Folded to `trades_offset`, or as far as a decision has seen it.
        trades_offset: Where the group goes on; None: to its end.
        on_progress: Told how many records were folded.

    Raises:
        RefusedError: The state stands beyond the end of a log.
        TransientError: Kafka did not answer.
    """
    found = CatchUp()
    first_decision, last_decision = await reader.bounds(decisions_log)
    first_trade, last_trade = await reader.bounds(trades_log)
    for log, position, last in (
        (decisions_log, state.position.decisions, last_decision),
        (trades_log, state.position.trades, last_trade),
    ):
        if position > last:
            raise RefusedError(
                f"{log.topic}-{log.partition}: the table is folded up to offset {position}, the "
                f"log ends at {last}: was the topic made anew? Run `meta-strategy qtable rebuild` "
                "to fold what it holds now"
            )
    found.skipped_decisions = max(0, first_decision - state.position.decisions)
    found.skipped_trades = max(0, first_trade - state.position.trades)
    start = Position(
        max(first_decision, state.position.decisions), max(first_trade, state.position.trades)
    )
    state.position = start
    stop = last_trade if trades_offset is None else min(trades_offset, last_trade)
    trades = _Trades(
        state,
        reader.read(trades_log, start.trades, last_trade),
        stop,
        found,
        on_progress,
    )
    async for record in reader.read(decisions_log, start.decisions, last_decision):
        decision = decode_logged_decision(record.value, record.timestamp)
        if decision is not None:
            await trades.fold_before(min(decision.table_offset, last_trade))
            state.admit(decision.remembered, is_exploration=decision.is_exploration)
            found.decisions += 1
            on_progress(1)
    await trades.fold_before(max(stop, state.position.trades))
    state.position = Position(last_decision, state.position.trades)
    return found
