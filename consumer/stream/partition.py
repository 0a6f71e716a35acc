"""One partition of both input topics: opened, read into its inboxes, worked off."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.stream.transaction import Batch

_INBOX_FULL = 4_000
_INBOX_LOW = 1_000
"""Records that wait in memory: enough to work on while more are fetched."""
_INBOX_FULL_BYTES = 8 << 20
_INBOX_LOW_BYTES = 2 << 20
"""What they may take: records may be a megabyte each, and that is what a broker sends at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTopics:
    """Names of the topics a partition reads."""

    signals: str
    trades: str


class PartitionWork(Protocol):
    """What is done with a partition's records; used by one task."""

    async def open(self, signals_offset: int, trades_offset: int) -> tuple[int, int]:
        """Bring the state up to date.

        Args:
            signals_offset: Up to which offset the group has worked off signals.
            trades_offset: The same of closed trades.

        Returns:
            The offsets from which signals and closed trades are to be read.
        """

    @property
    def accepts_trades(self) -> bool:
        """Whether closed trades may be worked off now; else they wait in their topic."""

    @property
    def accepts_signals(self) -> bool:
        """Whether signals may be worked off now; else they wait in their topic."""

    def step(
        self, trades: Sequence[ConsumerRecord], signals: Sequence[ConsumerRecord]
    ) -> Sequence[Batch]:
        """Work off a batch; what it leads to is sent next."""

    def committed(self, ends: Sequence[int | None]) -> None:
        """Take note that the step is visible; `ends` as Sink.publish gives them."""

    async def background(self) -> None:
        """Do what goes on beside the batches, until cancelled."""

    async def settle(self) -> None:
        """Wait a moment for what `background` does first, before anything is worked off."""

    async def close(self, timeout_s: float) -> None:
        """Finish what is worth finishing; the partition is given up."""

    def drop(self) -> None:
        """Let go of all that is kept in memory; nothing else is called after it."""


def _size(record: ConsumerRecord) -> int:
    """Give what a record takes [bytes]; the sizes are -1 where there is nothing."""
    size: int = record.serialized_value_size + record.serialized_key_size
    if record.headers:
        size += sum(len(name) + len(content or b"") for name, content in record.headers)
    return size


class Work(NamedTuple):
    """What a partition adds to a transaction."""

    batches: Sequence[Batch]
    offsets: dict[TopicPartition, int]
    """Where the group goes on after it."""


class Partition:
    """One partition of both input topics, from its assignment to its end.

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
        self._work = work
        self._consumer = consumer
        self._on_records = on_records
        self._inboxes: dict[TopicPartition, deque[ConsumerRecord]] = {
            self.signals: deque(),
            self.trades: deque(),
        }
        self._bytes = dict.fromkeys(self._inboxes, 0)
        self._held_back: set[TopicPartition] = set()

    async def run(self, signals_offset: int, trades_offset: int, first_trade: int) -> None:
        """Open, then keep the view up to date until cancelled.

        Args:
            signals_offset: Where signals are read from.
            trades_offset: Up to which offset the group has worked off closed trades.
            first_trade: The oldest closed trade that is still there.
        """
        try:
            signals_offset, trades_offset = await self._work.open(signals_offset, trades_offset)
            trades_offset = max(trades_offset, first_trade)
            background = asyncio.create_task(self._work.background())
            try:
                await self._work.settle()
                self._begin({self.signals: signals_offset, self.trades: trades_offset})
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

    def _begin(self, starts: dict[TopicPartition, int]) -> None:
        self.is_open = True
        for partition, offset in starts.items():  # no await in between: nothing else is received
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)

    async def close(self, timeout_s: float) -> None:
        """Finish what is worth finishing; the partition is given up."""
        if self.is_open:
            self.is_open = False
            await self._work.close(timeout_s)

    # Records

    def receive(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Take records that were read; they wait here, and too many hold reading back.

        Records of a partition that is not open are dropped: opening seeks to where it goes on.
        """
        if not self.is_open:
            return
        inbox = self._inboxes[partition]
        inbox.extend(records)
        self._bytes[partition] += sum(map(_size, records))
        is_full = len(inbox) >= _INBOX_FULL or self._bytes[partition] >= _INBOX_FULL_BYTES
        if is_full and partition not in self._held_back:
            self._consumer.pause(partition)
            self._held_back.add(partition)
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
        )

    def work_off(self, room: int, room_bytes: int) -> Work:
        """Work off the next records; `committed` follows, or nothing any more.

        Closed trades leave half of the room to signals that wait: a flood of them must not hold
        decisions up.

        Args:
            room: Records at most, above 1.
            room_bytes: The record that crosses this size is the last one.
        """
        takes_signals = bool(self._inboxes[self.signals]) and self._work.accepts_signals
        trades: list[ConsumerRecord] = []
        if self._work.accepts_trades:
            share, share_bytes = (
                (room // 2, room_bytes // 2) if takes_signals else (room, room_bytes)
            )
            trades, left = self._take(self.trades, share, share_bytes)
            room, room_bytes = room - len(trades), max(1, room_bytes - share_bytes + left)
        signals: list[ConsumerRecord] = []
        if takes_signals:
            signals, _ = self._take(self.signals, room, room_bytes)
        offsets = {
            partition: records[-1].offset + 1
            for partition, records in ((self.trades, trades), (self.signals, signals))
            if records
        }
        return Work(self._work.step(trades, signals), offsets)

    def _take(
        self, partition: TopicPartition, room: int, room_bytes: int
    ) -> tuple[list[ConsumerRecord], int]:
        """Take records out; give what is left of the room in bytes, too."""
        inbox = self._inboxes[partition]
        records: list[ConsumerRecord] = []
        left = room_bytes
        while inbox and len(records) < room and left > 0:
            record = inbox.popleft()
            left -= _size(record)
            records.append(record)
        self._bytes[partition] -= room_bytes - left
        if (
            partition in self._held_back
            and len(inbox) < _INBOX_LOW
            and self._bytes[partition] < _INBOX_LOW_BYTES
        ):
            self._consumer.resume(partition)
            self._held_back.discard(partition)
        return records, left

    def committed(self, ends: Sequence[int | None]) -> None:
        """Take note that the work is visible; `ends` as Sink.publish gives them."""
        self._work.committed(ends)
