"""Bugs to be planted, one at a time: the simulation has to find each of them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from unittest import mock

from aiokafka import TopicPartition

from consumer import rebuild
from consumer.domain.remembered import Remembered
from consumer.errors import FencedError, RefusedError, TransientError
from consumer.merging import MergedCandle, MergedTrade
from consumer.pool import Pooling
from consumer.ports import WriteAnswer
from consumer.store.view_sync import ViewSync
from consumer.stream import assignment, ownership
from consumer.stream.assignment import Assignment
from consumer.stream.clients import admin_client
from consumer.stream.partition import Partition
from consumer.stream.session import Session
from consumer.stream.transaction import Batch, Packed, TransactionalSink
from tests.simulation.cluster import DEAD_LETTERS, POOL, Cluster
from tests.simulation.consumer import FakeMember
from tests.simulation.log import NewRecord
from tests.simulation.schedule import FoundError, run_seed
from tests.simulation.worker import simulated_clients
from tests.support.memory_view import MemoryDelta, MemoryView

Plant = Callable[[contextlib.ExitStack], None]
PLANTED: dict[str, Plant] = {}
"""Each puts one bug into the product, until the stack is closed."""

_publish = TransactionalSink.publish
_merged_batches = rebuild.merged_batches
_final_offsets = ownership.final_offsets


def _bug(plant: Plant) -> Plant:
    PLANTED[plant.__name__] = plant
    return plant


def _replace(stack: contextlib.ExitStack, place: Any, name: str, wrong: Any) -> None:
    stack.enter_context(mock.patch.object(place, name, wrong))


def find(name: str, seeds: Iterable[int]) -> tuple[int | None, str]:
    """Plant a bug and run schedules until one of them shows it.

    Returns:
        The seed and what was seen; None and nothing when none did.
    """
    with simulated_clients(), contextlib.ExitStack() as stack:
        PLANTED[name](stack)
        for seed in seeds:
            try:
                run_seed(seed)
            except FoundError as error:
                return seed, str(error)
    return None, ""


# Ownership


async def _only_read(
    connection: Any, group_id: str, partitions: Iterable[TopicPartition]
) -> Mapping[TopicPartition, int | None]:
    async with admin_client(connection) as admin:
        found = await ownership._committed(admin, group_id, list(partitions))
    return {log: entry.offset for log, entry in found.items()}


@_bug
def one_id_a_worker(stack: contextlib.ExitStack) -> None:
    """The usual recipe: the same transactional id for ever, and nobody else is shut out."""
    start = TransactionalSink.start

    async def named_start(self: TransactionalSink) -> None:
        self.client_id = f"meta-strategy-worker-{self._connection.bootstrap_servers}"
        await start(self)

    _replace(stack, TransactionalSink, "start", named_start)
    _replace(stack, assignment, "final_offsets", _only_read)


@_bug
def nobody_is_shut_out(stack: contextlib.ExitStack) -> None:
    """Offsets are read and claimed, former owners go on."""
    _replace(stack, assignment, "final_offsets", _only_read)


@_bug
def offsets_read_before_shutting_out(stack: contextlib.ExitStack) -> None:
    """What the former owner commits meanwhile is not seen."""

    async def final_offsets(
        connection: Any, group_id: str, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, int | None]:
        logs = list(partitions)
        before = await _only_read(connection, group_id, logs)
        await _final_offsets(connection, group_id, logs)
        return before

    _replace(stack, assignment, "final_offsets", final_offsets)


@_bug
def bounds_read_before_shutting_out(stack: contextlib.ExitStack) -> None:
    """The logs' ends are older than the offsets they are compared with."""

    async def final_offsets(
        connection: Any, group_id: str, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, int | None]:
        logs = list(partitions)
        ends = {log: Cluster.current.broker.logs[log].end for log in logs}
        found = await _final_offsets(connection, group_id, logs)
        for log, end in ends.items():
            if (found[log] or 0) > end:
                raise RefusedError(f"{log}: the group stands at {found[log]}, the end is {end}")
        return found

    _replace(stack, assignment, "final_offsets", final_offsets)


@_bug
def no_claim(stack: contextlib.ExitStack) -> None:
    """A new owner is named by its first transaction only."""

    async def claim(self: Assignment) -> None:
        await asyncio.sleep(0)

    _replace(stack, Assignment, "_claim", claim)


@_bug
def claim_of_any_generation(stack: contextlib.ExitStack) -> None:
    """A claim is taken from former members, too."""

    async def commit(self: FakeMember, offsets: Mapping[TopicPartition, Any]) -> None:
        cluster = self.consumer.cluster
        await cluster.network.call(
            self.consumer.process,
            "claim",
            lambda: cluster.broker.commit_offsets(dict(offsets)),
            retries=True,
        )

    _replace(stack, FakeMember, "commit", commit)


@_bug
def repaired_in_place(stack: contextlib.ExitStack) -> None:
    """A worker that was shut out takes its id again, and goes on."""

    async def publish(
        self: TransactionalSink,
        batches: Sequence[Batch | Packed],
        offsets: Mapping[TopicPartition, int],
    ) -> Sequence[int | None]:
        try:
            return await _publish(self, batches, offsets)
        except FencedError:
            await self.stop()
            await self.start()
            return await _publish(self, batches, offsets)

    _replace(stack, TransactionalSink, "publish", publish)


@_bug
def slow_commits_not_recycled(stack: contextlib.ExitStack) -> None:
    """A late request of a slow commit decides a later transaction of the same epoch."""
    _replace(stack, assignment, "SLOW_COMMIT_S", float("inf"))


# Transactions


@_bug
def failed_commits_ignored(stack: contextlib.ExitStack) -> None:
    """A transaction that failed counts as committed."""

    async def publish(
        self: TransactionalSink,
        batches: Sequence[Batch | Packed],
        offsets: Mapping[TopicPartition, int],
    ) -> Sequence[int | None]:
        try:
            return await _publish(self, batches, offsets)
        except (FencedError, TransientError):
            await self.stop()
            await self.start()
            return [None] * len(batches)

    _replace(stack, TransactionalSink, "publish", publish)


@_bug
def offsets_apart_from_outputs(stack: contextlib.ExitStack) -> None:
    """Offsets are committed first, outputs in a second transaction."""

    async def publish(
        self: TransactionalSink,
        batches: Sequence[Batch | Packed],
        offsets: Mapping[TopicPartition, int],
    ) -> Sequence[int | None]:
        await _publish(self, [], offsets)
        return await _publish(self, batches, {})

    _replace(stack, TransactionalSink, "publish", publish)


@_bug
def outputs_apart_from_offsets(stack: contextlib.ExitStack) -> None:
    """Outputs are committed first, offsets in a second transaction."""

    async def publish(
        self: TransactionalSink,
        batches: Sequence[Batch | Packed],
        offsets: Mapping[TopicPartition, int],
    ) -> Sequence[int | None]:
        ends = await _publish(self, batches, {})
        await _publish(self, [], offsets)
        return ends

    _replace(stack, TransactionalSink, "publish", publish)


def _records_of(batch: Batch | Packed) -> list[NewRecord]:
    if isinstance(batch, Packed):
        return [record for one in batch.built for record in one.builder.records]
    return [NewRecord(*record) for record in batch.records]


def _outside(stack: contextlib.ExitStack, topic: str) -> None:
    async def publish(
        self: TransactionalSink,
        batches: Sequence[Batch | Packed],
        offsets: Mapping[TopicPartition, int],
    ) -> Sequence[int | None]:
        log = Cluster.current.broker.logs.get(TopicPartition(topic, 0))
        kept = []
        for batch in batches:
            if batch.topic == topic and log is not None:
                log.append(_records_of(batch), None)
                kept.append(Batch(topic, batch.partition, []))
            else:
                kept.append(batch)
        return await _publish(self, kept, offsets)

    _replace(stack, TransactionalSink, "publish", publish)


@_bug
def dead_letters_outside_the_transaction(stack: contextlib.ExitStack) -> None:
    """They are visible at once, whatever becomes of the offsets."""
    _outside(stack, DEAD_LETTERS)


@_bug
def told_outside_the_transaction(stack: contextlib.ExitStack) -> None:
    """Others know of rewards that may be learned again."""
    _outside(stack, POOL)


@_bug
def pool_not_read_at_an_opening(stack: contextlib.ExitStack) -> None:
    """A new owner may know less than its decisions already name."""
    catch_up = Pooling.catch_up

    async def nothing(_: Pooling) -> None:
        await asyncio.sleep(0)

    async def run(self: Pooling) -> None:
        while True:
            with contextlib.suppress(TransientError):
                await catch_up(self)
            await asyncio.sleep(1.0)

    _replace(stack, Pooling, "catch_up", nothing)
    _replace(stack, Pooling, "run", run)


# Records


@_bug
def records_before_opening(stack: contextlib.ExitStack) -> None:
    """What the client reads by itself before a partition is open is worked off as well."""

    def receive(self: Partition, partition: TopicPartition, records: Sequence[Any]) -> None:
        self._inboxes[partition].put(records)
        self._on_records()

    assigned = Session.on_partitions_assigned

    def on_partitions_assigned(self: Session, logs: Iterable[TopicPartition]) -> None:
        logs = list(logs)
        assigned(self, logs)
        self.consumer.resume(*logs)

    _replace(stack, Partition, "receive", receive)
    _replace(stack, Session, "on_partitions_assigned", on_partitions_assigned)


@_bug
def no_deduplication(stack: contextlib.ExitStack) -> None:
    """A repeated signal is answered again."""
    _replace(stack, Remembered, "knows", lambda *_: False)


@_bug
def candles_folded_late(stack: contextlib.ExitStack) -> None:
    """At an opening candles come after all decisions, whoever had seen them."""

    async def merged_batches(*arguments: Any, **options: Any) -> Any:
        found = [one async for batch in _merged_batches(*arguments, **options) for one in batch]
        yield sorted(found, key=lambda one: isinstance(one, MergedCandle))

    _replace(stack, rebuild, "merged_batches", merged_batches)


# The table and its view


@_bug
def decisions_folded_late(stack: contextlib.ExitStack) -> None:
    """At an opening trades are folded first, whatever decisions they belong to."""

    async def merged_batches(*arguments: Any, **options: Any) -> Any:
        found = [one async for batch in _merged_batches(*arguments, **options) for one in batch]
        yield sorted(found, key=lambda one: not isinstance(one, MergedTrade))

    _replace(stack, rebuild, "merged_batches", merged_batches)


@_bug
def no_watermark_compare(stack: contextlib.ExitStack) -> None:
    """A write applies wherever the view stands."""

    async def write(self: MemoryView, delta: MemoryDelta) -> WriteAnswer:
        return await self.rewrite(delta)

    _replace(stack, MemoryView, "write", write)


@_bug
def view_written_before_the_commit(stack: contextlib.ExitStack) -> None:
    """The view may have what no transaction has made visible."""

    def begin_step(self: ViewSync[Any]) -> None:
        self._wake.set()

    _replace(stack, ViewSync, "begin_step", begin_step)


@_bug
def view_written_while_a_step_is_prepared(stack: contextlib.ExitStack) -> None:
    """The view takes the end of a step for that of all there are."""

    def end_step(self: ViewSync[Any]) -> None:
        self._at_rest.set()
        self._wake.set()

    _replace(stack, ViewSync, "end_step", end_step)


@_bug
def losses_not_noticed(stack: contextlib.ExitStack) -> None:
    """Nobody compares where the view stands with where it should."""

    def heard(self: ViewSync[Any], *_: object) -> None:
        self._confirm()

    _replace(stack, ViewSync, "heard", heard)
