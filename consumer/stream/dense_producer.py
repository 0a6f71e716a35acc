"""Sends records to topics of its own, knowing the offset that each of them gets."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from consumer.connection import KafkaConnection
from consumer.errors import RefusedError, TransientError, describe
from consumer.ports import Record
from consumer.stream.clients import KAFKA_ERRORS, stop_within

_IN_FLIGHT = 2_000
"""Records sent before their acknowledgements are looked at: a few batches, a few megabytes."""
_ANSWER_TIMEOUT_S = 60.0
_MAX_REQUEST_BYTES = 64 << 20  # the topics' limits are to decide, not this client's
_partitioner = DefaultPartitioner()


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition that Kafka's default partitioner chooses for a key."""
    number: int = _partitioner(key, range(partitions), None)
    return number


class DenseProducer:
    """Sends records to chosen partitions of new topics, which nobody else writes to.

    Their offsets are dense from 0, since nothing here is a transaction: what is sent next has the
    offset that was counted. It is compared with what the broker says.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._producer = AIOKafkaProducer(
            **connection.options(),
            acks="all",
            enable_idempotence=True,
            max_request_size=_MAX_REQUEST_BYTES,
        )
        self._sent: dict[TopicPartition, int] = {}
        self._pending: list[tuple[TopicPartition, int, asyncio.Future[RecordMetadata]]] = []

    async def __aenter__(self) -> Self:
        with _kafka_errors():
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    await self._producer.start()
            except BaseException:
                await stop_within(self._producer, 2.0)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_within(self._producer, 5.0)

    def next_offset(self, log: TopicPartition) -> int:
        """Give the offset of the next record of a log."""
        return self._sent.get(log, 0)

    async def send(self, log: TopicPartition, record: Record, value: bytes | None) -> None:
        """Send a record with another value; key, headers and time stay.

        Raises:
            RefusedError: The topic does not take it, or somebody else writes to it.
            TransientError: Kafka does not answer.
        """
        if value is None and record.key is None:
            value = b""  # the client wants either; both are no message, and have the same hash
        with _kafka_errors(record):
            future = await self._producer.send(
                log.topic,
                value,
                key=record.key,
                partition=log.partition,
                headers=list(record.headers),
                timestamp_ms=record.timestamp,
            )
        offset = self.next_offset(log)
        self._sent[log] = offset + 1
        self._pending.append((log, offset, future))
        if len(self._pending) >= _IN_FLIGHT:
            await self.flush()

    async def flush(self) -> None:
        """Wait until all is acknowledged; raises as `send` does."""
        pending, self._pending = self._pending, []
        with _kafka_errors():
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                found = await asyncio.gather(*(future for _, _, future in pending))
        for (log, offset, _), metadata in zip(pending, found, strict=True):
            if metadata.offset != offset:
                raise RefusedError(
                    f"{log.topic}-{log.partition}: a record got offset {metadata.offset} instead "
                    f"of {offset}: somebody else writes to the new topics; stop that, and start "
                    "over with another --suffix"
                )


@contextmanager
def _kafka_errors(record: Record | None = None) -> Iterator[None]:
    try:
        yield
    except MessageSizeTooLargeError as error:
        where = f"{record.topic}-{record.partition}@{record.offset}: " if record else ""
        raise RefusedError(
            f"{where}a new topic takes no record of this size: make it with a larger "
            "max.message.bytes beforehand"
        ) from error
    except KAFKA_ERRORS as error:
        raise TransientError(f"Kafka: {describe(error)}") from error
