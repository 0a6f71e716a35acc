"""A membership in the consumer group: a rebalance opens and closes partitions."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream.assignment import Assignment
from consumer.stream.at_least_once import AtLeastOnceSink
from consumer.stream.clients import KAFKA_ERRORS, stop_within
from consumer.stream.membership import Member
from consumer.stream.partition import InputTopics, Partition, PartitionWork
from consumer.stream.read_record import ReadRecord
from consumer.stream.transaction import Sink, TransactionalSink

_START_TIMEOUT_S = 20.0
"""Longest join: a coordinator that just came back may lose what it was asked, and answers nothing."""
_SESSION_TIMEOUT_MS = 10_000
_HEARTBEAT_MS = 2_000
_REBALANCE_TIMEOUT_MS = 10_000
"""How long a rebalance waits for members that do not join: twice what giving partitions up takes here.
After the loss of a coordinator these may be members that nobody is any more, and nothing else ends
them; joining must outlast it, or each attempt would leave one more."""
_POLL_MS = 1_000
_LONGEST_READ_REST_S = 0.015
"""Between two answers of the broker while records come, else each record is a request: an eighth
of what a commit takes, this at most."""
_MOST_READ = 5_000
"""Records taken from the client at once: a batch that unpacks to millions of empty ones would
fill the memory. The rest is taken a moment later, before the client asks for more."""
_NEVER_MS = 2**31 - 1  # a partition that waits for Redis does not poll, and is no dead member
_FETCH_BYTES = 128 << 10
"""Of a partition in one answer: a tenth of a second's work of all partitions, or one larger record. With
the client's 1 MiB, records have left the processor's caches before they are worked off."""
_FETCH_WAIT_MS = 25
"""Longest time the broker holds an empty answer back. While it does, partitions that were not
asked for wait too, so it bounds how long a lone signal lies; below, idling costs too much."""
_REVOKE_TIMEOUT_S = 3.0
"""For the batches in hand when partitions are taken away, or at a stop."""
_LEAVE_TIMEOUT_S = 1.5
_PROBE_TIMEOUT_S = 2.0
_POSITION_TIMEOUT_S = 0.1


class Session(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """One membership, from joining the group to leaving it.

    Args:
        connection: How to reach Kafka.
        topics: Names of the input topics.
        group_id: Consumer group, and prefix of the transactional ids.
        guarantee: Whether a batch is sent exactly once or at least once.
        start: Where a group without offsets starts in `signals`.
        make_work: Gives what is done with a partition's records.
        on_skipped: Told topic and count of records deleted before they were read.
        on_committed: Called after each transaction.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: InputTopics,
        *,
        group_id: str,
        guarantee: Literal["exactly_once", "at_least_once"],
        start: Literal["earliest", "latest"],
        make_work: Callable[[int], PartitionWork],
        on_skipped: Callable[[str, int], None],
        on_committed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._group_id = group_id
        self._guarantee = guarantee
        self._start: Literal["earliest", "latest"] = start
        self._make_work = make_work
        self._on_skipped = on_skipped
        self._on_committed = on_committed
        self.is_member = False
        """Whether the group has given an assignment, possibly an empty one, that still holds."""
        self._is_started = False
        self._assignment: Assignment | None = None
        self._serving: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.consumer = AIOKafkaConsumer(
            **connection.options(),
            group_id=group_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            # the only one of the client's that gives all topics' partition N to one member
            partition_assignment_strategy=[RangePartitionAssignor],
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=_NEVER_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Be a member until `stop` is set.

        Raises:
            FencedError, TransientError: Everything was given up; a new session may join.
            RefusedError: The servers hold what does not fit.
        """
        stopped = asyncio.create_task(stop.wait())
        reading: asyncio.Task[None] | None = None
        try:
            await self._join()
            reading = asyncio.create_task(self._read())
            reading.add_done_callback(self._ended)
            waited: set[asyncio.Future[Any]] = {stopped, self._failed}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            stopped.cancel()
            if reading is not None:
                reading.cancel()
            await self._close_assignment()
            self.is_member = False
            await stop_within(self.consumer, _LEAVE_TIMEOUT_S)
            # what fails from now on has nobody to tell
            if not self._failed.cancel() and not self._failed.cancelled():
                self._failed.exception()  # it was raised above, or the first failure was

    async def _join(self) -> None:
        self.consumer.subscribe(self._topics.all, listener=self)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self.consumer.start()
            self._is_started = True
        except KAFKA_ERRORS as error:
            raise TransientError(f"Kafka: {describe(error)}") from error

    async def _read(self) -> None:
        """Hand records to their partitions as they come.

        The client asks a broker for nothing while it holds records of any of its partitions: what
        was read must never stay with the client, or the busiest partition holds up all others.
        """
        while True:
            try:
                found = await self.consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_READ)
            except NoOffsetForPartitionError:
                continue  # not open yet: opening seeks to where it goes on
            except OffsetOutOfRangeError as error:
                raise TransientError(
                    f"records were deleted before they were read: {error}"
                ) from error
            if found:
                self._hand_out(found)
                await asyncio.sleep(self._read_rest_s())

    def _hand_out(self, found: Mapping[TopicPartition, list[ReadRecord]]) -> None:
        # apart: a name in a loop that waits would hold the last partition when it is given up
        partitions = self.partitions
        for log, records in found.items():
            if partition := partitions.get(log.partition):
                partition.receive(log, records)

    def _read_rest_s(self) -> float:
        commit_s = 0.0 if self._assignment is None else self._assignment.last_commit_s
        return min(_LONGEST_READ_REST_S, commit_s / 8)

    # Rebalances. The client only logs what these raise, calls them with its heartbeat stopped, and
    # reads on meanwhile: so the first is no coroutine and its first act is to hold the records
    # back, and neither lets an error out.

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Open what the group assigned, in a task of its own."""
        assigned = list(assigned)
        self.consumer.pause(*assigned)
        wake = asyncio.Event()
        member = Member(self.consumer)
        self._assignment = Assignment(
            self._connection,
            self.consumer,
            member,
            group_id=self._group_id,
            make_sink=functools.partial(self._make_sink, member),
            partitions=[
                Partition(
                    number,
                    self.consumer,
                    self._topics,
                    work=self._make_work(number),
                    on_records=wake.set,
                )
                for number in sorted({log.partition for log in assigned})
            ],
            start=self._start,
            on_skipped=self._on_skipped,
            on_committed=self._on_committed,
            wake=wake,
        )
        self._serving = asyncio.create_task(self._assignment.run(), name="serving")
        self._serving.add_done_callback(self._ended)
        self.is_member = True

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """Close everything: this client's rebalances take all partitions away."""
        self.is_member = False
        await self._close_assignment()

    def _make_sink(self, member: Member) -> Sink:
        if self._guarantee == "exactly_once":
            return TransactionalSink(self._connection, self._group_id)
        return AtLeastOnceSink(self._connection, self._group_id, member)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None or self._failed.done():
            return
        if isinstance(error, KAFKA_ERRORS):
            # such as a partition that was taken away between two steps
            again = TransientError(f"Kafka: {describe(error)}")
            again.__cause__, error = error, again
        self._failed.set_exception(error)

    async def _close_assignment(self) -> None:
        assignment, serving = self._assignment, self._serving
        if assignment is None or serving is None:
            return
        assignment.stop()
        _, late = await asyncio.wait({serving}, timeout=_REVOKE_TIMEOUT_S)
        if late:
            # a rebalance and the end of the session may meet here: a second cancel would hit the clean-up
            if not serving.cancelling():
                serving.cancel()
            await asyncio.wait(late, timeout=_LEAVE_TIMEOUT_S)
        if self._assignment is assignment:
            self._assignment = self._serving = None

    @property
    def partitions(self) -> Mapping[int, Partition]:
        """What was assigned, open or not."""
        return {} if self._assignment is None else self._assignment.partitions

    # What an operator is told

    async def lags(self) -> dict[TopicPartition, int]:
        """Count the records of each open partition that were not worked off yet."""
        found = {}
        for partition in list(self.partitions.values()):
            if not partition.is_open:
                continue
            for log in partition.logs:
                try:
                    end = self.consumer.highwater(log)
                    async with asyncio.timeout(_POSITION_TIMEOUT_S):
                        # the client's own position: it is behind the markers of transactions, too
                        position = await self.consumer.position(log)
                except KAFKA_ERRORS:
                    continue  # taken away meanwhile
                if end is not None:
                    found[log] = max(0, end - position) + partition.waiting(log)
        return found

    async def is_behind(self) -> bool:
        """Ask Kafka whether a log holds records that were not read, or read and not worked off.

        The client's own idea of where logs end comes with the records, which may be what is amiss.
        """
        partitions = [partition for partition in self.partitions.values() if partition.is_open]
        logs = [log for p in partitions for log in p.logs]
        if any(p.waiting(log) for p in partitions for log in p.logs):
            return True
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                ends = await self.consumer.end_offsets(logs) if logs else {}
                return any([ends[log] > await self.consumer.position(log) for log in logs])
        except KAFKA_ERRORS:
            return False  # the probe tells what is wrong

    async def probe(self) -> str | None:
        """Ask Kafka for its topics; say what is wrong, None when nothing is."""
        if not self._is_started:
            return "not connected yet"
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self.consumer.topics()
        except KAFKA_ERRORS as error:
            return f"does not answer: {describe(error)}"
        return None
