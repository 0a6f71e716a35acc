"""Kafka clients of the harness: they go on whatever the brokers do meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from consumer.stream.clients import stop_within

_BATCH_BYTES = 400_000
_STOP_S = 5.0
_RETRY_S = 0.5
_SEND_LIMIT_S = 120.0


class Out(NamedTuple):
    """A record to send."""

    partition: int
    key: bytes | None
    value: bytes


class Sender:
    """Sends records until they are acknowledged, whatever the brokers do meanwhile.

    What was sent twice because an acknowledgement was lost stands in the log twice: the oracle goes by
    the log.

    Args:
        bootstrap_servers: Of the brokers.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: AIOKafkaProducer | None = None
        self.resent = 0

    async def send(self, topic: str, records: Sequence[Out]) -> None:
        """Send records, in order within a partition, and wait until all are acknowledged."""
        left = list(_batched(records))
        deadline = time.monotonic() + _SEND_LIMIT_S
        while left:
            try:
                left = await self._try(topic, left)
            except (KafkaError, OSError, AssertionError):
                await self.stop()
            if left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}: not acknowledged within {_SEND_LIMIT_S:g} s")
                self.resent += len(left)
                await asyncio.sleep(_RETRY_S)

    async def _try(self, topic: str, groups: Sequence[Sequence[Out]]) -> list[Sequence[Out]]:
        producer = await self._started()
        futures = []
        for group in groups:
            builder = producer.create_batch()
            for _, key, value in group:
                builder.append(key=key, value=value, timestamp=None)
            builder.close()
            sending = producer.send_batch(builder, topic, partition=group[0].partition)
            futures.append(await sending)
        results = await asyncio.gather(*futures, return_exceptions=True)
        failed = [g for g, r in zip(groups, results, strict=True) if isinstance(r, BaseException)]
        if failed:
            await self.stop()
        return failed

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                enable_idempotence=True,
                max_batch_size=2 * _BATCH_BYTES,
                request_timeout_ms=20_000,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def stop(self) -> None:
        """Close the connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_within(producer, _STOP_S)


def _batched(records: Sequence[Out]) -> list[Sequence[Out]]:
    open_groups: dict[int, list[Out]] = {}
    sizes: dict[int, int] = {}
    done: list[Sequence[Out]] = []
    for record in records:
        group = open_groups.setdefault(record.partition, [])
        group.append(record)
        size = sizes.get(record.partition, 0) + len(record.value) + 100
        sizes[record.partition] = size
        if size > _BATCH_BYTES:
            done.append(open_groups.pop(record.partition))
            sizes[record.partition] = 0
    return [*done, *open_groups.values()]


@asynccontextmanager
async def log_reader(
    bootstrap_servers: str, logs: Sequence[TopicPartition], **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """Read what is committed in some logs, from their beginning, outside any group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=50,
        **options,
    )
    consumer.assign(list(logs))
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_within(consumer, _STOP_S)
