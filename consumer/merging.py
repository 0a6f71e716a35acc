"""The logs of a partition -> one sequence of records, as they were folded live."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from consumer.decision_log import LoggedDecision, decode_logged_decision
from consumer.domain.quick import quick
from consumer.errors import BadMessageError
from consumer.pipeline import decoded_candle, decoded_trade
from consumer.ports import Record
from schemas import Candle, TradeClosed

_BATCH: Final = 500
"""Records that are given at once, about."""


class MergedDecision(NamedTuple):
    """A record of the decisions' log."""

    record: Record
    decision: LoggedDecision | None
    """None for a foreign record."""


class MergedTrade(NamedTuple):
    """A record of the closed trades' log."""

    record: Record
    trade: TradeClosed | BadMessageError


class MergedCandle(NamedTuple):
    """A record of the candles' log."""

    record: Record
    candle: Candle | BadMessageError


Merged = MergedDecision | MergedTrade | MergedCandle
"""A record of one of a partition's logs."""


def _decision(record: Record) -> MergedDecision:
    return quick(MergedDecision, (record, decode_logged_decision(record.value, record.timestamp)))


def _trade(record: Record) -> Merged:
    return quick(MergedTrade, (record, decoded_trade(record)))


def _candle(record: Record) -> Merged:
    return quick(MergedCandle, (record, decoded_candle(record)))


class InputLog:
    """Records of an input log, given out as far as is asked.

    Args:
        read: Reads a record's message.
    """

    def __init__(self, read: Callable[[Record], Merged]) -> None:
        self._read = read
        self._held: list[Merged] = []
        self._at = 0
        self._is_done = False

    def put(self, records: Sequence[Record] | None) -> None:
        """Add its next records, when all before are given out; None: there are no more."""
        if records is None:
            self._is_done = True
            return
        # all at once: the code of a stage stays in the processor's caches
        self._held, self._at = [self._read(record) for record in records], 0

    def take_below(self, offset: int, batch: list[Merged]) -> bool:
        """Add the next records below an offset to a batch; tell whether these were all."""
        held, at = self._held, self._at
        end = len(held)
        while at < end:
            one = held[at]
            if one.record.offset >= offset:
                self._at = at
                return True
            batch.append(one)
            at += 1
        self._at = at
        return self._is_done


class LogMerger:
    """Merges the logs of a partition: before a decision comes the input that it has seen.

    Before a decision with `table_offset` T and `candles_offset` C come the trades below T and the candles
    below C, so that a trade at offset t sees exactly the decisions with T <= t, a candle at offset c
    exactly those with C <= c.
    """

    def __init__(self) -> None:
        self.trades = InputLog(_trade)
        self.candles = InputLog(_candle)
        self.lacking: InputLog | None = None
        """Of which more has to be put before the next decision can be given."""
        self._decisions: list[MergedDecision] = []
        self._at = 0

    def put(self, records: Sequence[Record]) -> None:
        """Add the next decisions, when all before are given out."""
        self._decisions, self._at = [_decision(record) for record in records], 0

    @property
    def holds_decisions(self) -> bool:
        """Whether not all decisions were given out."""
        return self._at < len(self._decisions)

    def take(self) -> list[Merged]:
        """Give the next records: until enough, until all decisions are, or until something is lacking."""
        batch: list[Merged] = []
        self.lacking = None
        while self._at < len(self._decisions) and len(batch) < _BATCH:
            found = self._decisions[self._at]
            decision = found.decision
            if decision is not None:
                if not self.trades.take_below(decision.table_offset, batch):
                    self.lacking = self.trades
                    break
                if not self.candles.take_below(decision.candles_offset or 0, batch):
                    self.lacking = self.candles
                    break
            batch.append(found)
            self._at += 1
        return batch
