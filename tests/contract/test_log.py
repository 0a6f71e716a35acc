"""The simulated Kafka gives the answers of the real one."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

from consumer.local.stack import Stack
from consumer.stream.membership import Member
from tests.contract.log_scenarios import SCENARIOS, Step
from tests.simulation.clients import FakeAdmin
from tests.simulation.cluster import Cluster
from tests.simulation.consumer import FakeConsumer, FakeMember
from tests.simulation.producer import FakeProducer
from tests.support.kafka_io import KafkaIo

_ANSWER_S = 20.0
_LOOK_S = 0.02


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    def on_partitions_revoked(self, revoked: Any) -> None:
        pass

    def on_partitions_assigned(self, assigned: Any) -> None:
        pass


@dataclass
class Clients:
    """Real or fake ones, and the names of one scenario."""

    producer: Callable[..., Any]
    consumer: Callable[..., Any]
    admin: Callable[..., Any]
    member: Callable[[Any], Any]
    address: str
    name: str
    open: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    """Of consumers, by name, also when those have left."""

    @property
    def log(self) -> TopicPartition:
        return TopicPartition(self.name, 0)

    async def run(self, steps: list[Step]) -> None:
        """Go through a scenario; each answer is compared."""
        try:
            for number, step in enumerate(steps):
                answer = await self._answer(step)
                assert answer == step.answer, f"step {number}, {step}: {answer}"
        finally:
            for client in self.open.values():
                with contextlib.suppress(KafkaError, AssertionError):
                    await client.stop()

    async def _answer(self, step: Step) -> Any:
        if step.verb in {"read", "end", "held"}:
            deadline = asyncio.get_running_loop().time() + _ANSWER_S
            while True:
                try:
                    found = await getattr(self, f"_{step.verb}")()
                except KafkaError as error:
                    if not error.retriable:  # a broker that just began has no coordinator yet
                        raise
                    found = error
                if found == step.answer or asyncio.get_running_loop().time() > deadline:
                    return found
                await asyncio.sleep(_LOOK_S)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await getattr(self, f"_{step.verb}")(step.who, step.what)
        except (ProducerFenced, InvalidProducerEpoch):
            return "fenced"
        except (CommitFailedError, UnknownMemberIdError, IllegalGenerationError):
            return "refused"
        return "done"

    # Producers

    async def _start(self, who: str, _: Any) -> None:
        identity = f"{self.name}-{who.partition('/')[0]}"
        producer = self.open[who] = self.producer(
            bootstrap_servers=self.address, transactional_id=identity
        )
        await producer.start()

    async def _begin(self, who: str, _: Any) -> None:
        await self.open[who].begin_transaction()

    async def _send(self, who: str, value: str) -> None:
        await (await self.open[who].send(self.name, value.encode(), partition=0))

    async def _offsets(self, who: str, offset: int) -> None:
        await self.open[who].send_offsets_to_transaction(
            {self.log: OffsetAndMetadata(offset, who)}, self.name
        )

    async def _commit(self, who: str, _: Any) -> None:
        await self.open[who].commit_transaction()

    async def _abort(self, who: str, _: Any) -> None:
        await self.open[who].abort_transaction()

    # Members

    async def _join(self, who: str, _: Any) -> None:
        consumer = self.open[who] = self.consumer(
            bootstrap_servers=self.address,
            group_id=self.name,
            enable_auto_commit=False,
            heartbeat_interval_ms=3_000,
        )
        consumer.subscribe([self.name], listener=_Listener())
        await consumer.start()
        self.members[who] = self.member(consumer)

    async def _leave(self, who: str, _: Any) -> None:
        await self.open.pop(who).stop()

    async def _claim(self, who: str, offset: int) -> None:
        await self.members[who].commit({self.log: (offset, who)})

    async def _late(self, who: str, offset: int) -> None:
        async with self._no_member() as consumer:
            late, former = self.member(consumer), self.members[who]
            late._member_id, late._generation = former._member_id, former._generation
            await late.commit({self.log: (offset, who)})

    async def _outsider(self, who: str, offset: int) -> None:
        async with self._no_member() as consumer:
            await consumer.commit({self.log: (offset, who)})

    @contextlib.asynccontextmanager
    async def _no_member(self) -> AsyncIterator[Any]:
        consumer = self.consumer(
            bootstrap_servers=self.address, group_id=self.name, enable_auto_commit=False
        )
        consumer.assign([self.log])
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def _forget(self, who: str, what: str) -> None:
        member = self.members[who]
        if what == "generation":
            member._generation -= 1
        else:
            member._member_id = "never-given"

    # What is there

    async def _reader(self) -> Any:
        consumer = self.consumer(
            bootstrap_servers=self.address,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        consumer.assign([self.log])
        await consumer.start()
        return consumer

    async def _read(self) -> list[str]:
        consumer = await self._reader()
        try:
            last = (await consumer.end_offsets([self.log]))[self.log]
            found: list[str] = []
            consumer.seek(self.log, 0)
            while await consumer.position(self.log) < last:
                for records in (await consumer.getmany(self.log, timeout_ms=50)).values():
                    found += [record.value.decode() for record in records]
            return found
        finally:
            await consumer.stop()

    async def _end(self) -> int:
        consumer = await self._reader()
        try:
            found: int = (await consumer.end_offsets([self.log]))[self.log]
            return found
        finally:
            await consumer.stop()

    async def _held(self) -> tuple[int, str] | None:
        admin = self.admin(bootstrap_servers=self.address)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.name, partitions=[self.log])
            held = found.get(self.log)  # the client leaves it out while the group is loaded
            return None if held is None else (held.offset, held.metadata)
        finally:
            await admin.close()


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_real_kafka_answers_so(scenario: str, kafka: KafkaIo, stack: Stack) -> None:
    name = f"log-{uuid.uuid4().hex[:12]}"
    await kafka.create(name, 1)

    await Clients(
        AIOKafkaProducer,
        AIOKafkaConsumer,
        AIOKafkaAdminClient,
        Member,
        stack.bootstrap_servers,
        name,
    ).run(SCENARIOS[scenario])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_simulated_kafka_answers_so(scenario: str, seed: int) -> None:
    """Whatever its network's delays."""
    cluster = Cluster(Random(seed))
    cluster.broker.create_topic("log", 1)
    process = cluster.process("process")
    clients = Clients(FakeProducer, FakeConsumer, FakeAdmin, FakeMember, "process", "log")

    running = cluster.loop.spawn(process, clients.run(SCENARIOS[scenario]))
    running.add_done_callback(lambda _: cluster.loop.end())
    cluster.loop.run()

    running.result()
    cluster.loop.close()
