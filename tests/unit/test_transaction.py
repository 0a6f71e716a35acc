"""What the stream package relies on in the pinned client."""

import asyncio
import inspect

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation
from aiokafka.producer import sender
from aiokafka.structs import RecordMetadata

from consumer.connection import KafkaConnection
from consumer.errors import FencedError
from consumer.stream import ownership, transaction
from consumer.stream.transaction import Batch, Packed, TransactionalSink


def test_the_clients_wait_between_transactions_is_the_constant_that_is_set() -> None:
    """A module constant without an option: this fails when a new version stops using it."""
    assert aiokafka.__version__ == "0.14.0"
    assert sender.BACKOFF_OVERRIDE == 0.002
    assert "return BACKOFF_OVERRIDE" in inspect.getsource(sender.AddPartitionsToTxnHandler)


def test_no_transaction_outlives_its_time_at_the_broker() -> None:
    """Else its fate would be decided behind the worker's back while it still waits."""
    assert transaction.COMMIT_TIMEOUT_S * 1000 < ownership.TRANSACTION_TIMEOUT_MS
    assert transaction.SLOW_COMMIT_S < transaction.COMMIT_TIMEOUT_S


class ShutOut:
    """A producer that is shut out while it waits to take the next batch."""

    async def begin_transaction(self) -> None:
        pass

    def create_batch(self) -> "ShutOut":
        return self

    def append(self, **_: object) -> object:
        return object()

    def close(self) -> None:
        pass

    async def send_batch(self, *_: object, **__: object) -> None:
        raise IllegalOperation("Can't send messages while not in transaction")


async def test_a_transaction_that_is_ended_while_batches_are_handed_over() -> None:
    """The client says that it is in none: one is shut out, and no bug of ours; a worker ended by it."""
    sink = TransactionalSink(KafkaConnection(bootstrap_servers="nowhere"), "group")
    sink._producer = ShutOut()

    with pytest.raises(FencedError, match="IllegalOperation"):
        await sink.publish([Batch("topic", 0, [(b"key", b"value", [], 0)])], {})


class TwoRecordBatches:
    """A producer whose batches hold two records; it says which it was handed."""

    def __init__(self) -> None:
        self.handed: list[tuple[int, int]] = []

    async def begin_transaction(self) -> None:
        pass

    async def send_offsets_to_transaction(self, *_: object) -> None:
        pass

    async def commit_transaction(self) -> None:
        pass

    def create_batch(self) -> "TwoRecordBuilder":
        return TwoRecordBuilder()

    async def send_batch(
        self, builder: "TwoRecordBuilder", topic: str, *, partition: int
    ) -> asyncio.Future[RecordMetadata]:
        begun = sum(count for number, count in self.handed if number == partition)
        self.handed.append((partition, builder.count))
        log = TopicPartition(topic, partition)
        sent: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        sent.set_result(RecordMetadata(topic, partition, log, 100 + begun, 0, 0, 0))
        return sent


class TwoRecordBuilder:
    def __init__(self) -> None:
        self.count = 0

    def append(self, **_: object) -> object | None:
        if self.count == 2:
            return None
        self.count += 1
        return object()

    def close(self) -> None:
        pass


async def test_first_batches_go_before_any_second_one() -> None:
    """The client takes a second one for a log only when the first has gone out: all others would wait for that."""
    sink, producer = (
        TransactionalSink(KafkaConnection(bootstrap_servers="nowhere"), "group"),
        TwoRecordBatches(),
    )
    sink._producer = producer
    record = (b"key", b"value", [], 0)

    ends = await sink.publish(
        [
            Batch("topic", 0, [record] * 5),
            Batch("topic", 1, [record]),
            Batch("topic", 2, [record] * 3),
        ],
        {},
    )

    assert producer.handed == [(0, 2), (1, 1), (2, 2), (0, 2), (2, 1), (0, 1)]
    assert ends == [105, 101, 103]


async def test_what_is_much_is_written_before_it_is_sent() -> None:
    sink = TransactionalSink(KafkaConnection(bootstrap_servers="nowhere"), "group")
    sink._producer = producer = TwoRecordBatches()
    record = (b"key", b"value", [], 0)
    batches = [
        Batch("topic", 0, [record] * 101),
        Batch("topic", 1, [record]),
        Batch("topic", 2, []),
        Batch("topic", 0, [record]),
    ]

    packed = sink.pack(batches)
    ends = await sink.publish(packed, {})

    assert [isinstance(one, Packed) for one in packed] == [True, False, False, False]
    assert packed[1:] == batches[1:]
    assert sum(count for number, count in producer.handed if number == 0) == 102
    assert ends == [202, 101, None, 202]
    assert sink.pack(packed) == packed
