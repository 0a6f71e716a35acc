"""What the client raises while Kafka does not answer as it should is one more reason to try again."""

from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from consumer.connection import KafkaConnection
from consumer.errors import TransientError
from consumer.stream import dead_letter, groups, ownership, topics
from consumer.stream.clients import admin_client
from consumer.stream.dense_producer import DenseProducer
from consumer.stream.log_reader import LogReader
from consumer.stream.transaction import TransactionalSink

CONNECTION = KafkaConnection(bootstrap_servers="127.0.0.1:1")
LOG = TopicPartition("signals", 0)


async def connect_admin() -> None:
    async with admin_client(CONNECTION):
        pass


async def connect_reader() -> None:
    async with LogReader(CONNECTION, [LOG]) as reader:
        await reader.bounds(LOG)


async def connect_dense() -> None:
    async with DenseProducer(CONNECTION):
        pass


STARTS: dict[str, Callable[[], Awaitable[object]]] = {
    "admin": connect_admin,
    "reader": connect_reader,
    "dense producer": connect_dense,
    "sink": lambda: TransactionalSink(CONNECTION, "group").start(),
    "shutting out": lambda: ownership._shut_out(CONNECTION, "somebody"),
    "offsets": lambda: groups.commit_offsets(CONNECTION, "group", {LOG: 0}),
    "bounds": lambda: topics.log_bounds(CONNECTION, [LOG]),
    "dead letters": lambda: dead_letter.resend(CONNECTION, []),
}


@pytest.mark.parametrize("name", STARTS)
async def test_a_cluster_that_names_no_brokers_yet_is_tried_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that has just started may answer so; the client calls it an assertion, and a worker ended."""

    async def start(self: object) -> None:
        raise AssertionError("Did we not perform bootstrap?")

    for client in (AIOKafkaAdminClient, AIOKafkaConsumer, AIOKafkaProducer):
        monkeypatch.setattr(client, "start", start)

    with pytest.raises(TransientError, match="bootstrap"):
        await STARTS[name]()
