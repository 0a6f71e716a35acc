"""What the client raises while Kafka does not answer as it should is one more reason to try again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream import dead_letter, groups, ownership, session
from consumer.stream.clients import admin_client
from consumer.stream.dense_producer import DenseProducer
from consumer.stream.log_reader import LogReader
from consumer.stream.partition import InputTopics
from consumer.stream.session import Session
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


TRADES = TopicPartition("trade-closed", 0)


class TakenAway:
    """A consumer that is asked of partitions it has no more, as in the middle of a rebalance."""

    def __init__(self, **_: Any) -> None:
        self.is_assigned = True

    def highwater(self, _: TopicPartition) -> int:
        assert self.is_assigned, "Partition is not assigned"
        return 7

    async def position(self, _: TopicPartition) -> int:
        self.is_assigned = False
        return 5

    async def start(self) -> None:
        pass

    def subscribe(self, *_: Any, **__: Any) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def getmany(self, **_: Any) -> dict[TopicPartition, Any]:
        raise AssertionError("Partition is not assigned")


@pytest.fixture
async def taken_away(monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session with such a consumer."""
    monkeypatch.setattr(session, "AIOKafkaConsumer", TakenAway)
    return Session(
        CONNECTION,
        InputTopics(signals=LOG.topic, trades=TRADES.topic),
        group_id="group",
        guarantee="exactly_once",
        start="earliest",
        make_work=lambda _: SimpleNamespace(),  # type: ignore[arg-type,return-value]
        on_skipped=lambda *_: None,
        on_committed=lambda: None,
    )


async def test_partitions_that_are_taken_away_while_lags_are_asked_for(
    taken_away: Session,
) -> None:
    """The heartbeat asks; what it raises ends the worker."""
    partition = SimpleNamespace(is_open=True, logs=[LOG, TRADES], waiting=lambda _: 0)
    taken_away._assignment = SimpleNamespace(partitions={0: partition})  # type: ignore[assignment]

    assert await taken_away.lags() == {LOG: 2}


async def test_who_gives_an_assignment_up_twice_cancels_it_once(
    taken_away: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance and the end of the session may meet: the second cancel would hit the clean-up."""
    monkeypatch.setattr(session, "_REVOKE_TIMEOUT_S", 0.0)
    may_end, cancelled, newer = asyncio.Event(), asyncio.Event(), SimpleNamespace()

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await may_end.wait()

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    taken_away._assignment = SimpleNamespace(stop=lambda: None)  # type: ignore[assignment]
    taken_away._serving = serving
    giving_up = [asyncio.create_task(taken_away._close_assignment()) for _ in range(2)]
    await cancelled.wait()
    taken_away._assignment = newer  # type: ignore[assignment]
    may_end.set()
    await asyncio.wait(giving_up, timeout=10)

    assert serving.cancelling() == 1
    assert taken_away._assignment is newer


async def test_a_partition_that_is_taken_away_between_two_steps(taken_away: Session) -> None:
    with pytest.raises(TransientError, match="not assigned"):
        await taken_away.run(asyncio.Event())


@pytest.mark.parametrize(
    ("error", "text"), [(TimeoutError(), "TimeoutError"), (OSError("refused"), "refused")]
)
def test_an_error_without_words_is_named(error: Exception, text: str) -> None:
    assert describe(error) == text


async def test_a_coordinator_that_is_not_there_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    not_yet: list[Any] = [
        GroupCoordinatorNotAvailableError(),
        SimpleNamespace(groups=[(GroupLoadInProgressError.errno, "group", "", "")]),
        SimpleNamespace(groups=[(0, "group", "Stable", "consumer")]),
    ]

    async def describe_consumer_groups(_: list[str]) -> list[Any]:
        answer = not_yet.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    @asynccontextmanager
    async def connected(_: KafkaConnection) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(describe_consumer_groups=describe_consumer_groups)

    monkeypatch.setattr(groups, "admin_client", connected)
    monkeypatch.setattr(groups, "_AGAIN_S", 0.0)

    assert await groups.has_members(CONNECTION, "group")
