"""What a transaction sends, on a real Kafka."""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.errors import TransientError
from consumer.local.stack import Stack
from consumer.stream import transaction
from consumer.stream.at_least_once import AtLeastOnceSink
from consumer.stream.membership import Member
from consumer.stream.read_record import ReadRecord
from consumer.stream.transaction import Batch, TransactionalSink
from tests.support.kafka_io import KafkaIo


async def published(
    stack: Stack, kafka: KafkaIo, topic: str, batches: Sequence[Batch]
) -> tuple[Sequence[int | None], list[ReadRecord]]:
    """Publish batches in one transaction; give where they end, and all records."""
    await kafka.create(topic, 2)
    sink = TransactionalSink(KafkaConnection(bootstrap_servers=stack.bootstrap_servers), topic)
    await sink.start()
    try:
        ends = await sink.publish(sink.pack(batches), {TopicPartition(topic, 1): 0})
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


async def test_what_was_written_before_goes_out_with_what_was_not(
    stack: Stack, kafka: KafkaIo
) -> None:
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    much = [(b"k", b"%d" % n, [("h", b"x")], n) for n in range(1, 301)]

    ends, found = await published(
        stack,
        kafka,
        topic,
        [Batch(topic, 0, much), Batch(topic, 1, much[:1]), Batch(topic, 0, much[:2])],
    )

    assert [r.value for r in found if r.partition == 0] == [r[1] for r in (*much, *much[:2])]
    assert {r.headers for r in found} == {(("h", b"x"),)}
    assert ends == [302, 1, 302]


async def test_more_than_a_batch_holds_goes_out_in_several(stack: Stack, kafka: KafkaIo) -> None:
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    value = b"x" * (transaction._MAX_BATCH_BYTES // 3)
    many, few = ([(b"k", value, [], n) for n in range(1, count + 1)] for count in (7, 3))

    ends, found = await published(
        stack, kafka, topic, [Batch(topic, 0, many), Batch(topic, 1, few)]
    )

    sent = [[r.timestamp for r in found if r.partition == number] for number in (0, 1)]
    assert sent == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3]]
    assert ends == [7, 3]


class Sent:
    """A member's sink, at least once, and what its group holds as committed.

    Args:
        consumer: The member.
        sink: Its sink.
        member: Who it is.
    """

    def __init__(self, consumer: AIOKafkaConsumer, sink: AtLeastOnceSink, member: Member) -> None:
        (self.log,) = consumer.assignment()
        self.sink = sink
        self.member = member
        self._consumer = consumer

    async def publish(self, offset: int) -> None:
        """Send a record, whose input is worked off before an offset."""
        batch = Batch(self.log.topic, 0, [(b"k", b"%d" % offset, [], 1_000)])
        await self.sink.publish([batch], {self.log: offset})

    async def publish_on(self) -> None:
        """Send one record after the other."""
        for offset in itertools.count(1):
            await self.publish(offset)

    async def committed(self) -> int | None:
        """Give the offset that the group holds."""
        found: int | None = await self._consumer.committed(self.log)
        return found


@contextlib.asynccontextmanager
async def at_least_once(stack: Stack, kafka: KafkaIo) -> AsyncIterator[Sent]:
    topic = f"sink-{uuid.uuid4().hex[:8]}"
    await kafka.create(topic, 1)
    connection = KafkaConnection(bootstrap_servers=stack.bootstrap_servers)
    consumer = AIOKafkaConsumer(
        topic, **connection.options(), group_id=topic, enable_auto_commit=False
    )
    async with contextlib.AsyncExitStack() as ends:
        ends.push_async_callback(consumer.stop)
        await consumer.start()
        async with asyncio.timeout(30.0):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=20)
        member = Member(consumer)
        sink = AtLeastOnceSink(connection, topic, member)
        ends.push_async_callback(sink.stop)
        await sink.start()
        yield Sent(consumer, sink, member)


async def test_offsets_follow_what_was_sent_without_another_call(
    stack: Stack, kafka: KafkaIo
) -> None:
    async with at_least_once(stack, kafka) as sent, asyncio.timeout(30.0):
        await sent.publish(1)
        while await sent.committed() != 1:
            pass
        await sent.publish(2)
        await sent.publish(3)
        while await sent.committed() != 3:
            pass


async def test_stopping_commits_the_offsets_of_all_that_was_sent(
    stack: Stack, kafka: KafkaIo
) -> None:
    async with at_least_once(stack, kafka) as sent:
        for offset in range(1, 6):
            await sent.publish(offset)

        await sent.sink.stop()

        assert await sent.committed() == 5


async def test_a_former_member_sends_no_more_once_the_group_has_refused_its_offsets(
    stack: Stack, kafka: KafkaIo
) -> None:
    async with at_least_once(stack, kafka) as sent, asyncio.timeout(30.0):
        sent.member._generation -= 1

        with pytest.raises(TransientError, match="IllegalGeneration"):
            await sent.publish_on()

        assert await sent.committed() is None
