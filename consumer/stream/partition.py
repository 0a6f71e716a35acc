"""One partition of all input topics: opened, read into its inboxes, worked off."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.stream.inbox import Inbox, Marks
from consumer.stream.read_record import ReadRecord
from consumer.stream.transaction import Batch, Packed

_MARKS = Marks(full=2_000, low=1_000, full_bytes=8 << 20, low_bytes=2 << 20)
"""Records that wait in memory: a partition's share of a transaction, and as much again while that is worked off."""
_SIGNALS_WAIT_S = 1.0
"""Longest wait of candles for signals that are said to be there and do not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTopics:
    """Names of the topics a partition reads."""

    signals: str
    trades: str
    candles: str = ""
    """Empty: none are read."""

    @property
    def all(self) -> list[str]:
        """Those there are."""
        return [name for name in (self.signals, self.trades, self.candles) if name]


class Offsets(NamedTuple):
    """An offset in each input topic."""

    signals: int
    trades: int
    candles: int = 0


class PartitionWork(Protocol):
    """What is done with a partition's records; used by one task."""

    async def open(self, offsets: Offsets) -> Offsets:
        """Bring the state up to date.

        Args:
            offsets: Up to which the group has worked off the input.

        Returns:
            From which it is to be read.
        """

    @property
    def accepts_trades(self) -> bool:
        """Whether closed trades and candles may be worked off now; else they wait in their topics."""

    @property
    def accepts_signals(self) -> bool:
        """Whether signals may be worked off now; else they wait in their topic."""

    @property
    def may_run_ahead(self) -> bool:
        """Whether a step may be made before the one before it is visible."""

    def step(
        self,
        trades: Sequence[ReadRecord],
        signals: Sequence[ReadRecord],
        candles: Sequence[ReadRecord],
    ) -> Sequence[Batch]:
        """Work off a batch; what it leads to is sent in the next transaction."""

    def committed(self, ends: Sequence[int | None]) -> None:
        """Take note that the oldest step in hand is visible; `ends` as Sink.publish gives them."""

    async def background(self) -> None:
        """Do what goes on beside the batches, until cancelled."""

    async def settle(self) -> None:
        """Wait a moment for what `background` does first, before anything is worked off."""

    async def close(self, timeout_s: float) -> None:
        """Finish what is worth finishing; the partition is given up."""

    def drop(self) -> None:
        """Let go of all that is kept in memory; nothing else is called after it."""


class Work(NamedTuple):
    """What a partition adds to a transaction."""

    batches: Sequence[Batch | Packed]
    offsets: dict[TopicPartition, int]
    """Where the group goes on after it."""
    records: int = 0
    """That were worked off."""
    size: int = 0
    """Of these records [bytes]."""


class Partition:
    """One partition of all input topics, from its assignment to its end.

    Args:
        number: Which partition.
        consumer: Of the whole session.
        topics: Names of the input topics.
        work: What is done with the records.
        on_records: Called when records came in.
    """

    def __init__(
        self,
        number: int,
        consumer: AIOKafkaConsumer,
        topics: InputTopics,
        *,
        work: PartitionWork,
        on_records: Callable[[], None],
    ) -> None:
        self.number = number
        self.is_open = False
        self.signals = TopicPartition(topics.signals, number)
        self.trades = TopicPartition(topics.trades, number)
        self.candles = TopicPartition(topics.candles, number) if topics.candles else None
        self.logs = [TopicPartition(name, number) for name in topics.all]
        self._work = work
        self._consumer = consumer
        self._on_records = on_records
        self._inboxes = {log: Inbox(consumer, log, _MARKS) for log in self.logs}
        self._next_signal = 0
        self._heard_at = 0.0

    async def run(self, offsets: Offsets, first: Offsets) -> None:
        """Open, then keep the view up to date until cancelled.

        Args:
            offsets: Up to which the group has worked off the input.
            first: The oldest that is still there.
        """
        try:
            offsets = await self._work.open(offsets)
            offsets = Offsets(*map(max, offsets, first))
            background = asyncio.create_task(self._work.background())
            try:
                await self._work.settle()
                self._begin(offsets)
                await background  # never returns by itself: raises why it ended
            finally:
                self.is_open = False
                background.cancel()
                await asyncio.wait({background})
        finally:
            self._drop()

    def _drop(self) -> None:
        # a failed session leaves circles of clients, tasks and errors, which the collector may not
        # look at for hours: what hangs on them must be little
        for inbox in self._inboxes.values():
            inbox.clear()
        self._work.drop()

    def _begin(self, offsets: Offsets) -> None:
        self.is_open = True
        self._next_signal, self._heard_at = offsets.signals, time.monotonic()
        for log, offset in zip((self.signals, self.trades, self.candles), offsets, strict=True):
            if log is not None:  # no await in between: nothing else is received
                self._consumer.seek(log, offset)
                self._consumer.resume(log)

    async def close(self, timeout_s: float) -> None:
        """Finish what is worth finishing; the partition is given up."""
        if self.is_open:
            self.is_open = False
            await self._work.close(timeout_s)

    # Records

    def receive(self, partition: TopicPartition, records: Sequence[ReadRecord]) -> None:
        """Take records that were read; they wait here, and too many hold reading back.

        Records of a partition that is not open are dropped: opening seeks to where it goes on.
        """
        if not self.is_open:
            return
        self._inboxes[partition].put(records)
        if partition == self.signals:
            self._next_signal, self._heard_at = records[-1].offset + 1, time.monotonic()
        self._on_records()

    def waiting(self, partition: TopicPartition) -> int:
        """Count the records of a topic that were read and not worked off yet."""
        return len(self._inboxes[partition])

    @property
    def has_work(self) -> bool:
        """Whether records wait that may be worked off now."""
        return self.is_open and bool(
            (self._inboxes[self.signals] and self._work.accepts_signals)
            or (self._inboxes[self.trades] and self._work.accepts_trades)
            or self._has_candles
        )

    @property
    def may_run_ahead(self) -> bool:
        """Whether records may be worked off before those that were worked off last are committed."""
        return self._work.may_run_ahead

    @property
    def _has_candles(self) -> bool:
        """Whether candles wait that may be worked off now."""
        if self.candles is None or not self._work.accepts_trades:
            return False
        inbox = self._inboxes[self.candles]
        return bool(inbox) and inbox.first.timestamp <= self._latest_candle_ms

    @property
    def _latest_candle_ms(self) -> float:
        """Record time up to which candles may be worked off [Unix ms].

        A signal that is decided after the candles that it is to be followed by cannot be followed: where
        both wait, as after a stop, candles must not run ahead of the signals.
        """
        if inbox := self._inboxes[self.signals]:
            return float(inbox.first.timestamp)
        end = self._consumer.last_stable_offset(self.signals)
        is_behind = end is None or end > self._next_signal
        # what is missing may be no record but a transaction's marker
        if is_behind and time.monotonic() - self._heard_at < _SIGNALS_WAIT_S:
            return -inf
        return inf

    def work_off(self, room: int, room_bytes: int) -> Work:
        """Work off the next records; `committed` follows, once for each call, or nothing any more.

        Closed trades leave half of the room to signals that wait: a flood of them must not hold
        decisions up.

        Args:
            room: Records at most, above 1.
            room_bytes: The record that crosses this size is the last one.
        """
        waiting = self._waiting_bytes
        signals_inbox, trades_inbox = self._inboxes[self.signals], self._inboxes[self.trades]
        takes_signals = bool(signals_inbox) and self._work.accepts_signals
        trades: list[ReadRecord] = []
        if self._work.accepts_trades:
            share = 2 if takes_signals else 1
            trades = trades_inbox.take(room // share, room_bytes // share)
            room -= len(trades)
        room_bytes = max(1, room_bytes - (waiting - self._waiting_bytes))
        signals = signals_inbox.take(room, room_bytes) if takes_signals else []
        candles: list[ReadRecord] = []
        if self.candles is not None and self._work.accepts_trades:
            room = max(1, room - len(signals))
            candles = self._inboxes[self.candles].take(room, room_bytes, self._latest_candle_ms)
        taken = {self.trades: trades, self.signals: signals, self.candles: candles}
        offsets = {log: records[-1].offset + 1 for log, records in taken.items() if log and records}
        return Work(
            self._work.step(trades, signals, candles),
            offsets,
            len(trades) + len(signals) + len(candles),
            waiting - self._waiting_bytes,
        )

    @property
    def _waiting_bytes(self) -> int:
        return sum(inbox.size for inbox in self._inboxes.values())

    def committed(self, ends: Sequence[int | None]) -> None:
        """Take note that the oldest work in hand is visible; `ends` as Sink.publish gives them."""
        # else its life has ended meanwhile, and its state with it: why is told next
        if self.is_open:
            self._work.committed(ends)
