"""Kafka as the tests use it: topics of their own, records sent with all their parts, logs read whole."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import InvalidReplicationFactorError
from aiokafka.structs import RecordMetadata

from consumer.stream.read_record import ReadRecord

POLL_S = 0.02
"""How often a condition is looked at: far below what is waited for, far above what a look costs [s]."""


async def eventually(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]],
    *,
    timeout_s: float = 40.0,
    what: str = "the condition",
) -> Any:
    """Wait until a condition holds, and give what it returned.

    Args:
        condition: Plain or a coroutine function; a false result means "not yet".
        timeout_s: Longest wait [s].
        what: Named when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """A record to send; everything but the value may be left to chance."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


def keyed(message: Mapping[str, Any], **parts: Any) -> Out:
    """Make the record of a message as a well-behaved producer does: JSON, keyed by symbol."""
    value = json.dumps(message, separators=(",", ":")).encode()
    return Out(value=value, key=message["symbol"].encode(), **parts)


def content(record: ReadRecord) -> dict[str, Any]:
    """Read the JSON of a record."""
    found: dict[str, Any] = json.loads(record.value)
    return found


def headers_of(record: ReadRecord, prefix: str = "") -> dict[str, str]:
    """Give the headers of a record whose names start with a prefix."""
    return {k: v.decode() for k, v in record.headers if k.startswith(prefix)}


class Tail:
    """Follows a topic from its beginning: all committed records, in the order they became readable."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self.topic = topic
        self.records: list[ReadRecord] = []

    def __len__(self) -> int:
        return len(self.records)

    async def poll(self, timeout_ms: int = 50) -> list[ReadRecord]:
        """Read what is new."""
        found = await self._consumer.getmany(timeout_ms=timeout_ms)
        new = [record for records in found.values() for record in records]
        self.records += new
        return new

    async def until(
        self, condition: Callable[[list[ReadRecord]], Any], *, timeout_s: float = 40.0
    ) -> list[ReadRecord]:
        """Read on until the records meet a condition."""
        deadline = time.monotonic() + timeout_s
        while not condition(self.records):
            assert time.monotonic() < deadline, (
                f"{self.topic} has {len(self.records)} records after {timeout_s:g} s"
            )
            await self.poll()
        return self.records

    async def count(self, number: int, *, timeout_s: float = 40.0) -> list[ReadRecord]:
        """Read on until there are at least so many records."""
        return await self.until(lambda records: len(records) >= number, timeout_s=timeout_s)


class KafkaIo:
    """Clients of one broker, shared by all tests of a session.

    Args:
        bootstrap_servers: The broker.
        writes: Whether records will be sent; a producer asks for the right to.
        security: What the clients need besides to be let in.
    """

    producer: AIOKafkaProducer

    def __init__(self, bootstrap_servers: str, *, writes: bool = True, **security: Any) -> None:
        self._options = {"bootstrap_servers": bootstrap_servers, **security}
        self._writes = writes
        self.admin = AIOKafkaAdminClient(**self._options)
        if writes:
            # 1 MiB: nothing of the broker's limit is to be kept from a poison message
            self.producer = AIOKafkaProducer(
                **self._options, enable_idempotence=True, max_request_size=4 << 20
            )

    async def __aenter__(self) -> Self:
        # topics of finished tests are deleted; that their producer misses them is no news
        logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)
        await self.admin.start()
        if self._writes:
            await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writes:
            await self.producer.stop()
        await self.admin.close()

    # Topics

    async def create(
        self, name: str, partitions: int, configs: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic and wait until it can be used."""
        topic = NewTopic(name, partitions, 1, topic_configs=dict(configs or {}))

        async def is_made() -> bool:
            response = await self.admin.create_topics([topic])
            ((_, code, *_),) = response.topic_errors
            # a broker that stood still takes none until it is let in again, a moment later
            assert code in {0, InvalidReplicationFactorError.errno}, response
            return bool(code == 0)

        await eventually(is_made, what=f"topic {name} taken")

        async def is_there() -> bool:
            (found,) = await self.admin.describe_topics([name])
            parts = found["partitions"]
            return len(parts) == partitions and all(p["leader"] >= 0 for p in parts)

        await eventually(is_there, what=f"topic {name}")

    async def remove(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        await self.admin.delete_topics([name])

        async def is_gone() -> bool:
            return await self.partitions(name) == 0

        await eventually(is_gone, what=f"the end of topic {name}")

    async def partitions(self, name: str) -> int:
        """Count the partitions of a topic; 0 when it is not there."""
        (found,) = await self.admin.describe_topics([name])
        return len(found["partitions"]) if found["error_code"] == 0 else 0

    async def ends(
        self, name: str, *, isolation_level: str = "read_committed"
    ) -> dict[TopicPartition, int]:
        """Give the offset behind the last record of each partition."""
        async with self.consumer(isolation_level=isolation_level) as consumer:
            logs = [TopicPartition(name, n) for n in range(await self.partitions(name))]
            found: dict[TopicPartition, int] = await consumer.end_offsets(logs)
            return found

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Give a group's offsets in a topic, by partition; ones without are left out."""
        found = await self.admin.list_consumer_group_offsets(group)
        return {p.partition: o.offset for p, o in found.items() if p.topic == topic}

    # Records

    async def send(self, topic: str, records: Iterable[Out]) -> list[RecordMetadata]:
        """Send records in order and give where each one stands."""
        sent = [await self._begin(topic, record) for record in records]
        return list(await asyncio.gather(*sent))

    async def _begin(self, topic: str, record: Out) -> asyncio.Future[RecordMetadata]:
        headers = list(record.headers)
        if record.value is None and record.key is None:
            # other producers can send this; this client only in a batch made by hand
            batch = self.producer.create_batch()
            batch.append(key=None, value=None, timestamp=record.timestamp_ms, headers=headers)
            batch.close()
            return await self.producer.send_batch(batch, topic, partition=record.partition)
        return await self.producer.send(
            topic,
            record.value,
            key=record.key,
            partition=record.partition,
            headers=headers,
            timestamp_ms=record.timestamp_ms,
        )

    @asynccontextmanager
    async def consumer(self, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """Give a consumer that belongs to no group and sees what is committed."""
        consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            isolation_level=options.pop("isolation_level", "read_committed"),
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=20,
            **options,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def tail(self, topic: str) -> AsyncIterator[Tail]:
        """Follow a topic from its beginning."""
        async with self.consumer() as consumer:
            consumer.assign([TopicPartition(topic, n) for n in range(await self.partitions(topic))])
            yield Tail(consumer, topic)

    async def read(
        self, topic: str, *, isolation_level: str = "read_committed"
    ) -> list[ReadRecord]:
        """Read a topic to its present end; by partition, then by offset.

        Partitions of one transaction show it one after the other, and that of one may be what told
        the caller to read: an open transaction is waited for, therefore.
        """
        ends = await self.ends(topic, isolation_level="read_uncommitted")
        logs = list(ends)
        async with self.consumer(isolation_level=isolation_level) as consumer:
            consumer.assign(logs)
            found: list[ReadRecord] = []

            async def take() -> bool:
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    found.extend(records)
                return all([await consumer.position(log) >= ends[log] for log in logs])

            await eventually(take, timeout_s=30.0, what=f"{topic} read to its end")
        return sorted(found, key=lambda record: (record.partition, record.offset))
