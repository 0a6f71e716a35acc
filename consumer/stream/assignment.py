"""What the group gave to this worker, from then until it takes it away."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.errors import FencedError, RefusedError, TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, let_clients_on
from consumer.stream.log_reader import LogEnds
from consumer.stream.membership import Member
from consumer.stream.ownership import final_offsets
from consumer.stream.partition import Offsets, Partition, Work
from consumer.stream.transaction import SLOW_COMMIT_S, Batch, Packed, Sink

_ASK_TIMEOUT_S = 10.0
_MAX_RECORDS = 4_000
"""Records of a transaction: some 0.1 s of work, above which larger ones save nothing and answer late."""
_FEW = 16
"""Waiting records of a partition that go with the next transaction, whoever has many."""
_MOST_SHARES = 2
"""Partitions that fill a transaction: where more have records enough they take turns, since a partition's
part of it costs the broker, and here, nearly the same for one record as for hundreds."""
_AHEAD_FROM = 1_000
"""Waiting records from which the next transaction is prepared while one commits. With fewer of them the
worker keeps up: records that come meanwhile are answered together, from what is known then."""
_MAX_BYTES = 2 << 20
"""Size of a transaction's input, its last partition aside: the most expensive valid messages take a tenth
of what the group waits for a member, which does not turn meanwhile."""
_REST_S = 0.2  # between two looks whether waiting records may be worked off
_CLOSE_TIMEOUT_S = 1.0


def _offsets_of(partition: Partition, found: Mapping[TopicPartition, int]) -> Offsets:
    candles = 0 if partition.candles is None else found[partition.candles]
    return Offsets(found[partition.signals], found[partition.trades], candles)


def _waiting(partition: Partition) -> int:
    return sum(map(partition.waiting, partition.logs))


def _is_full(works: Mapping[int, Work]) -> bool:
    """Tell whether a transaction takes no more partitions."""
    return (
        sum(work.records for work in works.values()) >= _MAX_RECORDS
        or sum(work.size for work in works.values()) >= _MAX_BYTES
    )


class Assignment:
    """Partitions that are opened together and served by one transaction after the other.

    Args:
        connection: How to reach Kafka.
        consumer: Of the session; it is asked where logs begin and end.
        member: Who the group gave the partitions to.
        group_id: Consumer group.
        make_sink: Gives a new sink, of an owner that never was.
        partitions: What was assigned.
        start: Where a group without offsets starts in `signals`.
        on_skipped: Told topic and count of records that retention deleted before they were read.
        on_committed: Called after each transaction.
        wake: Set when records came in.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        consumer: AIOKafkaConsumer,
        member: Member,
        *,
        group_id: str,
        make_sink: Callable[[], Sink],
        partitions: Iterable[Partition],
        start: Literal["earliest", "latest"],
        on_skipped: Callable[[str, int], None],
        on_committed: Callable[[], None],
        wake: asyncio.Event,
    ) -> None:
        self.partitions = {partition.number: partition for partition in partitions}
        self._turns = list(self.partitions.values())
        """Who was served longest ago comes first."""
        self.last_commit_s = 0.0
        """How long the last transaction took [s]."""
        self._connection = connection
        self._consumer = consumer
        self._member = member
        self._group_id = group_id
        self._make_sink = make_sink
        self._sink = make_sink()
        self._start: Literal["earliest", "latest"] = start
        self._on_skipped = on_skipped
        self._on_committed = on_committed
        self._wake = wake
        self._is_stopped = False
        self._committed: dict[TopicPartition, int] = {}
        self._ahead: dict[int, Work] = {}
        """By partition: what the next transaction begins with."""

    def stop(self) -> None:
        """Let `run` end after the transaction in hand, and the one that is prepared."""
        self._is_stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Open, then work off records until stopped; what is begun is finished first.

        What it raises leaves the transaction in hand invisible: the next owner reads it again.

        Raises:
            FencedError, TransientError: Give everything up and join anew.
            RefusedError: The servers hold what does not fit.
        """
        lives: list[asyncio.Task[None]] = []
        try:
            lives = await self._open()
            while not self._is_stopped or self._ahead:
                for life in lives:
                    if life.done():
                        life.result()  # never returns by itself: raises why it ended
                await self._serve()
        finally:
            # whoever gives up waiting for this cancels it, wherever it is
            try:
                await asyncio.gather(*(p.close(_CLOSE_TIMEOUT_S) for p in self._all))
            finally:
                for life in lives:
                    life.cancel()
                try:
                    if lives:
                        await asyncio.wait(lives)
                finally:
                    await self._sink.stop()

    @property
    def _all(self) -> Iterable[Partition]:
        return self.partitions.values()

    # Opening, in this order and no other: former owners are shut out, their offsets are read,
    # the partitions are claimed, the state is brought up to date, records are let in

    async def _open(self) -> list[asyncio.Task[None]]:
        logs = [log for p in self._all for log in p.logs]
        if not logs:
            return []
        await self._sink.start()
        committed = await final_offsets(self._connection, self._group_id, logs)
        try:
            # only now: until he was shut out, a former owner may have passed what has just come
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                first = await self._consumer.beginning_offsets(logs)
                last = await self._consumer.end_offsets(logs)
        except KAFKA_ERRORS as error:
            raise TransientError(f"Kafka: {describe(error)}") from error
        for log in logs:
            await self._check_end(log, committed[log] or 0, last[log])
        self._committed = {
            log: self._start_of(committed[log], first[log], last[log]) for log in logs
        }
        for signals in (p.signals for p in self._all):
            offset = committed[signals]
            if offset is not None and offset < first[signals]:
                # of the other logs a fold tells what it did not find
                self._on_skipped(signals.topic, first[signals] - offset)
        await self._claim()
        lives = [
            asyncio.create_task(
                p.run(_offsets_of(p, self._committed), _offsets_of(p, first)),
                name=f"partition {p.number}",
            )
            for p in self._all
        ]
        for life in lives:
            life.add_done_callback(lambda _: self._wake.set())
        return lives

    async def _check_end(self, log: TopicPartition, committed: int, last: int) -> None:
        if committed <= last:
            return
        async with LogEnds(self._connection) as ends:
            written = await ends.written(log)
        if committed <= written:  # a producer's transaction is not finished yet
            raise TransientError(
                f"{log.topic}-{log.partition}: a transaction is open before offset {committed}"
            )
        raise RefusedError(
            f"{log.topic}-{log.partition}: the group stands at offset {committed}, "
            f"the log ends at {written}: was the topic made anew? Use another KAFKA_GROUP_ID and "
            "run `meta-strategy qtable rebuild`"
        )

    def _start_of(self, committed: int | None, first: int, last: int) -> int:
        if committed is None:
            return first if self._start == "earliest" else last
        return max(committed, first)

    async def _claim(self) -> None:
        """Name the sink's owner beside the offsets; the group refuses it to a former member."""
        named = {log: (offset, self._sink.owner) for log, offset in self._committed.items()}
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                await self._member.commit(named)
        except KAFKA_ERRORS as error:
            raise FencedError(f"the partitions are not ours: {describe(error)}") from error

    # Serving

    async def _serve(self) -> None:
        works, self._ahead = self._ahead, {}
        if not self._is_stopped:
            busy = self._busy
            for partition in busy:
                if _is_full(works):
                    break
                if partition.number not in works:
                    works[partition.number] = self._work_off(partition, len(busy))
        if not works:
            self._wake.clear()
            # records that may not be worked off now are looked at again without being woken
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REST_S):
                    await self._wake.wait()
            return
        offsets = {log: offset for work in works.values() for log, offset in work.offsets.items()}
        started = time.perf_counter()
        ends = await self._publish([b for work in works.values() for b in work.batches], offsets)
        self.last_commit_s = time.perf_counter() - started
        self._committed.update(offsets)
        self._on_committed()
        position = 0
        for number, work in works.items():
            self.partitions[number].committed(ends[position : position + len(work.batches)])
            position += len(work.batches)
        # the view writes what is committed, between two steps: where there always is a next one, it
        # would never come to it
        await asyncio.sleep(0)
        if self.last_commit_s > SLOW_COMMIT_S:
            await self._recycle()

    async def _publish(
        self, batches: Sequence[Batch | Packed], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        """Send a transaction, and prepare the next one until it is answered, if enough waits; see Sink."""
        if sum(map(_waiting, self._busy)) < _AHEAD_FROM:
            return await self._sink.publish(batches, offsets)
        preparing = asyncio.create_task(self._work_ahead())
        try:
            ends = await self._sink.publish(batches, offsets)
        finally:
            preparing.cancel()  # it waits between two partitions only
            await asyncio.wait({preparing})
        if not preparing.cancelled():
            preparing.result()
        return ends

    async def _work_ahead(self) -> None:
        busy = self._busy
        for partition in busy:
            # else all would be prepared before the first request of the transaction is out
            await let_clients_on()
            if self._is_stopped or _is_full(self._ahead):
                return
            if partition.has_work and partition.may_run_ahead:
                self._ahead[partition.number] = self._work_off(partition, len(busy))

    @property
    def _busy(self) -> list[Partition]:
        """Who has work, in the order of their turns: few records first, then who waits longest."""
        busy = [p for p in self._turns if p.has_work]
        return sorted(busy, key=lambda p: _waiting(p) > _FEW)

    def _work_off(self, partition: Partition, among: int) -> Work:
        """Work off a partition's share, one of so many; its next turn comes after the others'."""
        self._turns.remove(partition)
        self._turns.append(partition)
        shares = min(among, _MOST_SHARES)
        work = partition.work_off(_MAX_RECORDS // shares, _MAX_BYTES // shares)
        return work._replace(batches=self._sink.pack(work.batches))

    async def _recycle(self) -> None:
        """Become a new owner, so that no delayed request of the old one can decide anything."""
        await self._sink.stop()
        self._sink = self._make_sink()
        await self._sink.start()
        found = await final_offsets(self._connection, self._group_id, self._committed)
        for log, offset in self._committed.items():
            if found[log] != offset:
                raise FencedError(f"{log}: committed {offset}, found {found[log]}: not by us")
        await self._claim()
