"""The life of one partition: open, work off batch by batch, close."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from consumer.errors import RefusedError, TransientError
from consumer.stream.transaction import SLOW_COMMIT_S, Batch, Sink

_ASK_TIMEOUT_S = 10.0
_MAX_RECORDS = 1_000
"""Records of a batch: some 30 ms of work, above which larger batches save little and answer late."""
_REST_S = 0.2  # between two looks whether waiting records may be worked off
_LONGEST_REST_S = 0.02
"""A partition rests after a commit for as long as the commit took, this at most. A transaction
costs worker and broker the same whatever its size; without a rest their number grows until the
machine is full, and everybody waits. A signal that comes to a rested partition waits for nothing."""
_INBOX_FULL = 4 * _MAX_RECORDS
_INBOX_LOW = _MAX_RECORDS
"""Records that wait in memory: enough to work on while more are fetched, some megabytes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTopics:
    """Names of the topics a partition reads."""

    signals: str
    trades: str


class PartitionWork(Protocol):
    """What is done with a partition's records; used by one task."""

    async def open(self, trades_offset: int) -> int:
        """Bring the state up to date.

        Args:
            trades_offset: Up to which offset the group has worked off closed trades.

        Returns:
            The offset from which closed trades are to be read.
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


class Partition:
    """One partition of both input topics, from its assignment to its end.

    Args:
        number: Which partition.
        consumer: Of the whole session; its records of this partition are read here alone.
        topics: Names of the input topics.
        make_sink: Gives a new sink; called at each opening.
        work: What is done with the records.
        start: Where a group without offsets starts in `signals`.
        on_skipped: Told topic and count of records that retention deleted before they were read.
        commits: How many partitions of the worker may be in a transaction at once.
    """

    def __init__(
        self,
        number: int,
        consumer: AIOKafkaConsumer,
        topics: InputTopics,
        *,
        make_sink: Callable[[], Sink],
        work: PartitionWork,
        start: Literal["earliest", "latest"],
        on_skipped: Callable[[str, int], None],
        commits: asyncio.Semaphore,
    ) -> None:
        self.number = number
        self.work = work
        self.is_open = False
        self._consumer = consumer
        self._signals = TopicPartition(topics.signals, number)
        self._trades = TopicPartition(topics.trades, number)
        self._make_sink = make_sink
        self._sink = make_sink()
        self._start: Literal["earliest", "latest"] = start
        self._on_skipped = on_skipped
        self._commits = commits
        self._is_stopped = False
        self._rest_until = 0.0
        self.last_commit_s = 0.0
        """How long its last transaction took [s]."""
        self._wake = asyncio.Event()
        self._inboxes: dict[TopicPartition, deque[ConsumerRecord]] = {
            self._signals: deque(),
            self._trades: deque(),
        }
        self._held_back: set[TopicPartition] = set()

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self._is_stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Open, then work off batches until stopped; the batch in hand is finished first.

        What it raises leaves the batch in hand invisible: its next owner reads it again.

        Raises:
            FencedError, TransientError: Give everything up and join anew.
            RefusedError: The servers hold what does not fit.
        """
        background: asyncio.Task[None] | None = None
        try:
            starts = await self._open()
            background = asyncio.create_task(self.work.background())
            await self.work.settle()
            self._begin(starts)
            while not self._is_stopped:
                if background.done():
                    background.result()  # never returns by itself: raises why it ended
                await self._serve()
        finally:
            self.is_open = False
            if background is not None:
                with contextlib.suppress(Exception):
                    await self.work.close(timeout_s=1.0)
                background.cancel()
                await asyncio.wait({background})
            await self._sink.stop()

    # Opening, in this order and no other

    async def _open(self) -> dict[TopicPartition, int]:
        await self._sink.start()  # shuts the former owner out: only now its offsets are final
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                partitions = [self._signals, self._trades]
                first = await self._consumer.beginning_offsets(partitions)
                last = await self._consumer.end_offsets(partitions)
                committed = {p: await self._consumer.committed(p) for p in partitions}
        except (KafkaError, TimeoutError) as error:
            raise TransientError(f"Kafka: {error or type(error).__name__}") from error
        starts = {
            p: self._start_of(p, committed[p], first[p], last[p])
            for p in (self._signals, self._trades)
        }
        starts[self._trades] = max(await self.work.open(starts[self._trades]), first[self._trades])
        return starts

    def _begin(self, starts: dict[TopicPartition, int]) -> None:
        self.is_open = True
        for partition, offset in starts.items():  # no await in between: nothing else is received
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)
        self._committed: dict[TopicPartition, int] = {}

    def _start_of(
        self, partition: TopicPartition, committed: int | None, first: int, last: int
    ) -> int:
        if committed is None:
            return first if self._start == "earliest" else last
        if committed > last:
            raise RefusedError(
                f"{partition.topic}-{partition.partition}: the group stands at offset {committed}, "
                f"the log ends at {last}: was the topic made anew? Use another KAFKA_GROUP_ID and "
                "run `meta-strategy qtable rebuild`"
            )
        if committed < first:
            self._on_skipped(partition.topic, first - committed)
            return first
        return committed

    # Serving

    def receive(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Take records that were read; they wait here, and too many hold reading back.

        Records of a partition that is not open are dropped: opening seeks to where it goes on.
        """
        if not self.is_open:
            return
        inbox = self._inboxes[partition]
        inbox.extend(records)
        if len(inbox) >= _INBOX_FULL and partition not in self._held_back:
            self._consumer.pause(partition)
            self._held_back.add(partition)
        self._wake.set()

    def waiting(self, partition: TopicPartition) -> int:
        """Count the records of a topic that were read and not worked off yet."""
        return len(self._inboxes[partition])

    def _take(self, partition: TopicPartition, room: int) -> list[ConsumerRecord]:
        inbox = self._inboxes[partition]
        records = [inbox.popleft() for _ in range(min(room, len(inbox)))]
        if partition in self._held_back and len(inbox) < _INBOX_LOW:
            self._consumer.resume(partition)
            self._held_back.discard(partition)
        return records

    async def _serve(self) -> None:
        if not self._has_work():
            self._wake.clear()
            # records that may not be worked off now are looked at again without being woken
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REST_S):
                    await self._wake.wait()
            return
        await self._rest()
        async with self._commits:  # what comes in while it waits for its turn goes along
            await self._work_off()

    async def _rest(self) -> None:
        """Let some records come together, unless there are enough for a whole batch."""
        backlog = len(self._inboxes[self._signals]) + len(self._inboxes[self._trades])
        rest_s = self._rest_until - time.perf_counter()
        if rest_s > 0 and backlog < _MAX_RECORDS and not self._is_stopped:
            await asyncio.sleep(rest_s)

    def _has_work(self) -> bool:
        return bool(
            (self._inboxes[self._signals] and self.work.accepts_signals)
            or (self._inboxes[self._trades] and self.work.accepts_trades)
        )

    async def _work_off(self) -> None:
        trades = self._take(self._trades, _MAX_RECORDS) if self.work.accepts_trades else []
        room = _MAX_RECORDS - len(trades)
        signals = self._take(self._signals, room) if self.work.accepts_signals else []
        if not trades and not signals:
            return
        batches = self.work.step(trades, signals)
        offsets = {
            partition: records[-1].offset + 1
            for partition, records in ((self._trades, trades), (self._signals, signals))
            if records
        }
        await self._publish(batches, offsets)

    async def _publish(
        self, batches: Sequence[Batch], offsets: Mapping[TopicPartition, int]
    ) -> None:
        started = time.perf_counter()
        ends = await self._sink.publish(batches, offsets)
        self._committed.update(offsets)
        self.work.committed(ends)
        ended = time.perf_counter()
        self.last_commit_s = ended - started
        self._rest_until = ended + min(_LONGEST_REST_S, self.last_commit_s)
        if self.last_commit_s > SLOW_COMMIT_S:
            await self._recycle()

    async def _recycle(self) -> None:
        """Take a new epoch, so that no delayed request of the old one can decide anything."""
        await self._sink.stop()
        self._sink = self._make_sink()
        await self._sink.start()
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                for partition, offset in self._committed.items():
                    found = await self._consumer.committed(partition)
                    if found != offset:
                        raise TransientError(
                            f"{partition}: committed {offset}, found {found}: somebody else did"
                        )
        except (KafkaError, TimeoutError) as error:
            raise TransientError(f"Kafka: {error or type(error).__name__}") from error
