"""What a transaction sends, on a real Kafka."""

import uuid
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.connection import KafkaConnection
from consumer.local.stack import Stack
from consumer.stream import transaction
from consumer.stream.transaction import Batch, TransactionalSink
from tests.support.kafka_io import KafkaIo


async def published(
    stack: Stack, kafka: KafkaIo, topic: str, batches: Sequence[Batch]
) -> tuple[Sequence[int | None], list[ConsumerRecord]]:
    """Publish batches in one transaction; give where they end, and all records."""
    await kafka.create(topic, 2)
    sink = TransactionalSink(KafkaConnection(bootstrap_servers=stack.bootstrap_servers), topic)
    await sink.start()
    try:
        ends = await sink.publish(batches, {TopicPartition(topic, 1): 0})
    finally:
        await sink.stop()
    return ends, await kafka.read(topic)


async def test_batches_for_one_log_go_out_together(stack: Stack, kafka: KafkaIo) -> None:
    """As where several partitions tell the pool at once: the client takes one at a time of a log."""
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    batches = [
        Batch(topic, 0, [(b"a", b"1", [], 1_000), (b"a", b"2", [], 2_000)]),
        Batch(topic, 0, []),
        Batch(topic, 0, [(b"b", b"3", [("h", b"x")], 3_000)]),
        Batch(topic, None, []),
    ]

    ends, records = await published(stack, kafka, topic, batches)

    assert [(r.offset, r.key, r.value, r.timestamp) for r in records] == [
        (0, b"a", b"1", 1_000),
        (1, b"a", b"2", 2_000),
        (2, b"b", b"3", 3_000),
    ]
    assert records[2].headers == (("h", b"x"),)
    assert ends == [3, None, 3, None]


async def test_more_than_a_batch_holds_goes_out_in_several(stack: Stack, kafka: KafkaIo) -> None:
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    value = b"x" * (transaction._MAX_BATCH_BYTES // 3)
    records = [(b"k", value, [], n) for n in range(1, 8)]

    ends, found = await published(stack, kafka, topic, [Batch(topic, 0, records)])

    assert [r.timestamp for r in found] == [1, 2, 3, 4, 5, 6, 7]
    assert ends == [found[-1].offset + 1]
