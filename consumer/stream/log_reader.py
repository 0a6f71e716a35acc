"""Reads stretches of a log, outside any group."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Literal, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, let_clients_on, stop_within
from consumer.stream.inbox import Inbox, Marks
from consumer.stream.read_record import ReadRecord

_SILENCE_TIMEOUT_S = 30.0
"""Longest wait for records that the broker said to have."""
_POLL_MS = 200
_FETCH_BYTES = 1 << 20
_FETCH_WAIT_MS = 10
"""What is asked for is there: a broker that waits for more to come, of any log, holds the others up."""
_MAX_RECORDS = 5_000
"""Taken from the client at once: a batch that unpacks to millions of empty ones would fill the memory."""
_MARKS = Marks(full=10_000, low=5_000, full_bytes=1 << 20, low_bytes=512 << 10)
"""Of a log: more of it comes while the rest is worked on."""
_AT_ONCE = 100
"""Records given at once, a few milliseconds of work."""
_LOOK_S = 0.05
_OPEN_TRANSACTION_S = 45.0
"""Longest wait for an open transaction: what a dead worker left is ended sooner, by its timeout and the broker's
next look."""


class LogReader:
    """A consumer without a group, for some partitions; an async context manager.

    It connects when it is first asked for something: most openings find nothing to read.

    Args:
        connection: How to reach Kafka.
        partitions: That may be read; bounds are given of any.
        isolation: Whether records of open and aborted transactions count.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        partitions: Sequence[TopicPartition],
        *,
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    ) -> None:
        self._connection = connection
        self._partitions = partitions
        self._isolation = isolation
        self._connecting = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._inboxes: dict[TopicPartition, Inbox] = {}
        """Of the logs that are being read."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close(2.0)

    async def close(self, timeout_s: float) -> None:
        """Close the connections, within a time."""
        if self._consumer is not None:
            await stop_within(self._consumer, timeout_s)

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is not None:
                return self._consumer
            consumer = AIOKafkaConsumer(
                **self._connection.options(),
                enable_auto_commit=False,
                isolation_level=self._isolation,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=_FETCH_BYTES,
                fetch_max_bytes=4 * _FETCH_BYTES,
                fetch_max_wait_ms=_FETCH_WAIT_MS,
            )
            consumer.assign(list(self._partitions))
            try:
                async with asyncio.timeout(_SILENCE_TIMEOUT_S):
                    await consumer.start()
            except BaseException as error:
                await stop_within(consumer, 2.0)
                if isinstance(error, KAFKA_ERRORS):
                    raise TransientError(f"Kafka: {describe(error)}") from error
                raise
            consumer.pause(*self._partitions)  # the client reads ahead: only what is asked for
            self._consumer = consumer
            return consumer

    async def begins(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Give the first offset of each log, by one request to each broker.

        Raises:
            TransientError: Kafka did not answer.
        """
        return await self._asked(AIOKafkaConsumer.beginning_offsets, partitions)

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Give the offset behind the last record of each log that counts, by one request to each broker.

        With `read_committed` that is where the first transaction begins that is not finished yet.

        Raises:
            TransientError: Kafka did not answer.
        """
        return await self._asked(AIOKafkaConsumer.end_offsets, partitions)

    async def _asked(
        self,
        ask: Callable[
            [AIOKafkaConsumer, Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]
        ],
        partitions: Sequence[TopicPartition],
    ) -> Mapping[TopicPartition, int]:
        consumer = await self._connected()
        try:
            async with asyncio.timeout(_SILENCE_TIMEOUT_S):
                return await ask(consumer, partitions)
        except KAFKA_ERRORS as error:
            raise TransientError(f"Kafka: {describe(error)}") from error

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Give the first offset of a log and its end; see `begins` and `ends`."""
        first = await self.begins([partition])
        last = await self.ends([partition])
        return first[partition], last[partition]

    async def read(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[ReadRecord]:
        """Give the committed records with offsets in [start, end), in order; see `batches`."""
        async for records in self.batches(partition, start, end):
            for record in records:
                yield record

    async def batches(
        self, partition: TopicPartition, start: int, end: int
    ) -> AsyncIterator[Sequence[ReadRecord]]:
        """Give the committed records with offsets in [start, end), in order, some at a time.

        More is read meanwhile. Several logs may be read in turns, each once at a time.

        Raises:
            TransientError: Kafka did not send them in time.
        """
        if start >= end:
            return
        consumer = await self._connected()
        inbox = self._inboxes[partition] = Inbox(consumer, partition, _MARKS)
        try:
            consumer.seek(partition, start)
            consumer.resume(partition)
            while inbox or await consumer.position(partition) < end:
                if not inbox:
                    await self._read_on(consumer, partition)
                if records := [one for one in inbox.take(_AT_ONCE) if one.offset < end]:
                    yield records
                elif inbox:
                    break  # what is left is behind the end
                await let_clients_on()
        except KAFKA_ERRORS as error:
            raise TransientError(f"Kafka: {describe(error)}") from error
        finally:
            # not another's, begun where this was left early
            if self._inboxes.get(partition) is inbox:
                del self._inboxes[partition]
                consumer.pause(partition)

    async def _read_on(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Take all that the client has, until some of a log was there, or what is no record.

        The client asks a broker for nothing while it holds records of any of its logs.
        """
        async with asyncio.timeout(_SILENCE_TIMEOUT_S):
            before = await consumer.position(partition)
            while await consumer.position(partition) == before:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
                for log, records in found.items():
                    self._inboxes[log].put(records)


class LogEnds:
    """Where logs begin and end, and whether all that was written can be read; an async context manager.

    Args:
        connection: How to reach Kafka.
        on_wait: Told of a log, and of the offset where its first open transaction begins, when that has to be
            waited for.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        on_wait: Callable[[TopicPartition, int], None] = lambda *_: None,
    ) -> None:
        self._on_wait = on_wait
        self._readable = LogReader(connection, ())
        self._written = LogReader(connection, (), isolation="read_uncommitted")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close(2.0)

    async def close(self, timeout_s: float) -> None:
        """Close the connections, within a time."""
        await asyncio.gather(self._readable.close(timeout_s), self._written.close(timeout_s))

    async def begins(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Give the first offset of each log."""
        return await self._readable.begins(partitions)

    async def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Give the offset up to which each log can be read."""
        return await self._readable.ends(partitions)

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Give the first offset of a log and the one up to which it can be read."""
        return await self._readable.bounds(partition)

    async def written(self, partition: TopicPartition) -> int:
        """Give the offset behind the last record of a log, committed or not."""
        return (await self._written.ends([partition]))[partition]

    async def settled(self, partition: TopicPartition) -> None:
        """Wait until all that was written to a log by now can be read.

        A broker acknowledges a transaction before it has written its markers, and what is behind the first
        missing one cannot be read: a log that only owners of a partition write to must be waited for.

        Raises:
            TransientError: A transaction stays open, or Kafka did not answer.
        """
        written = await self.written(partition)
        end = (await self.ends([partition]))[partition]
        if end < written:
            self._on_wait(partition, end)
        try:
            async with asyncio.timeout(_OPEN_TRANSACTION_S):
                while end < written:
                    await asyncio.sleep(_LOOK_S)
                    end = (await self.ends([partition]))[partition]
        except TimeoutError:
            raise TransientError(
                f"{partition.topic}-{partition.partition}: a transaction stays open at offset {end}"
            ) from None
