"""What the runs ask of Kafka: filling topics, watching a group, reading decisions back."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from consumer.connection import KafkaConnection, TopicNames
from consumer.stream.topics import create_topics

PARTITIONS = 8
"""Of each topic, where nothing else is said."""

_BATCH_BYTES = 400_000
_READ_BYTES = 4 << 20  # few large answers: the reader shares the machine with what is measured


class Partitioning:
    """Kafka's default partitioner, remembered by key: there are few keys and many records.

    Args:
        partitions: How many there are.
    """

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self._partitioner = DefaultPartitioner()
        self._all = list(range(partitions))
        self._known: dict[bytes, int] = {}

    @property
    def count(self) -> int:
        """How many partitions there are."""
        return len(self._all)

    def __call__(self, key: bytes) -> int:
        """Give the partition of a key."""
        partition = self._known.get(key)
        if partition is None:
            partition = self._known[key] = self._partitioner(key, self._all, self._all)
        return partition


class Broker:
    """A Kafka, as the harness uses it.

    Args:
        bootstrap_servers: Its addresses.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self.connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
        self._partitionings: dict[str, Partitioning] = {}
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        self._watcher = AIOKafkaConsumer(**self.connection.options(), enable_auto_commit=False)

    async def start(self) -> None:
        """Connect."""
        await self._admin.start()
        await self._watcher.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._watcher.stop()
        await self._admin.close()

    async def create(self, topics: TopicNames, partitions: int) -> None:
        """Create a run's topics as `meta-strategy topics create` does."""
        await create_topics(self.connection, topics, partitions=partitions, replication=1)
        partitioning = Partitioning(partitions)
        for topic in topics.co_partitioned:
            self._partitionings[topic] = partitioning

    async def delete(self, topics: TopicNames) -> None:
        """Delete a run's topics."""
        await self._admin.delete_topics([*topics.co_partitioned, topics.dead_letters])
        for topic in topics.co_partitioned:
            del self._partitionings[topic]

    def partition_of(self, topic: str, key: bytes) -> int:
        """Give the partition of a key in a topic of a run."""
        return self._partitionings[topic](key)

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """List the partitions of a topic of a run."""
        return [TopicPartition(topic, n) for n in range(self._partitionings[topic].count)]

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Give the end of each partition of a topic."""
        found: dict[TopicPartition, int] = await self._watcher.end_offsets(
            self.partitions_of(topic)
        )
        return found

    async def end_offsets(self, topic: str) -> int:
        """Count the offsets of a topic: records and transaction markers."""
        return sum((await self.ends(topic)).values())

    async def committed(self, group_id: str, topics: Sequence[str]) -> int:
        """Count the records of topics that a group has worked off; nothing uncommitted counts."""
        try:
            found = await self._admin.list_consumer_group_offsets(group_id)
        except KafkaError:  # the coordinator may just be loading
            return 0
        return sum(max(0, o.offset) for p, o in found.items() if p.topic in topics)

    async def shares(self, group_id: str) -> list[int]:
        """Count the partitions of each member of a group; none while it is being rebalanced."""
        found = []
        try:
            responses = await self._admin.describe_consumer_groups([group_id])
        except KafkaError:  # the coordinator may just be loading
            return []
        for response in responses:
            for _, _, state, _, _, members, *_ in response.groups:
                if state != "Stable":
                    return []
                for member in members:
                    decoded = ConsumerProtocolMemberAssignment.decode(member[-1])
                    found.append(sum(len(numbers) for _, numbers in decoded.assignment))
        return found

    async def preload(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write keys and values, in large batches."""
        producer = AIOKafkaProducer(
            **self.connection.options(), acks="all", max_batch_size=2 * _BATCH_BYTES
        )
        await producer.start()
        try:
            sent = []
            builders = {}
            for key, value in records:
                partition = self.partition_of(topic, key)
                builder = builders.get(partition)
                if builder is None:
                    builder = builders[partition] = producer.create_batch()
                builder.append(key=key, value=value, timestamp=None)
                if builder.size() > _BATCH_BYTES:
                    sent.append(await producer.send_batch(builder, topic, partition=partition))
                    del builders[partition]
            for partition, builder in builders.items():
                sent.append(await producer.send_batch(builder, topic, partition=partition))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def reader(self, topic: str, *, wait_ms: int = 100) -> AsyncIterator[AIOKafkaConsumer]:
        """Read what is committed in a topic, from its beginning, without a group.

        Args:
            topic: Which one.
            wait_ms: Longest time the broker holds an empty answer back; meanwhile partitions that
                were not asked for wait, too.
        """
        consumer = AIOKafkaConsumer(
            **self.connection.options(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_READ_BYTES,
            fetch_max_wait_ms=wait_ms,
        )
        await consumer.start()
        try:
            consumer.assign(self.partitions_of(topic))
            await consumer.seek_to_beginning()
            yield consumer
        finally:
            await consumer.stop()

    async def read_all(self, topic: str) -> list[bytes]:
        """Read every committed value of a topic that nobody writes to any more."""
        values: list[bytes] = []
        ends_at = await self.end_offsets(topic)
        async with self.reader(topic) as consumer:
            partitions = list(consumer.assignment())
            while True:
                found = await consumer.getmany(timeout_ms=500)
                for records in found.values():
                    values.extend(record.value for record in records)
                positions = [await consumer.position(partition) for partition in partitions]
                if sum(positions) >= ends_at:
                    return values
