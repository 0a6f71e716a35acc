"""Serving partitions: one transaction after the other."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.stream.assignment import Assignment
from consumer.stream.membership import Member
from consumer.stream.partition import Partition, Work
from consumer.stream.transaction import Batch

_BACKLOG = 50


class QuickSink:
    """Commits at once."""

    owner = "me"

    async def start(self) -> None:
        pass

    async def publish(
        self, batches: Sequence[Batch], _: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        for _ in range(3):
            await asyncio.sleep(0)
        return [None] * len(batches)

    async def stop(self) -> None:
        pass


class Busy:
    """A partition with a backlog of batches."""

    number = 0
    logs: Sequence[TopicPartition] = ()

    def __init__(self) -> None:
        self.steps = 0
        self.at_rest = asyncio.Event()
        self.at_rest.set()

    @property
    def has_work(self) -> bool:
        return self.steps < _BACKLOG

    def work_off(self, *_: int) -> Work:
        self.at_rest.clear()
        self.steps += 1
        return Work([], {})

    def committed(self, _: Sequence[int | None]) -> None:
        self.at_rest.set()

    async def close(self, _: float) -> None:
        pass


async def test_a_backlog_lets_the_view_have_the_steps_between() -> None:
    """It kept the view from every write until it was worked off, however long that took."""
    partition = Busy()
    assignment = Assignment(
        KafkaConnection(bootstrap_servers="nowhere"),
        cast("AIOKafkaConsumer", None),
        cast("Member", None),
        group_id="group",
        make_sink=QuickSink,
        partitions=[cast("Partition", partition)],
        start="earliest",
        on_skipped=lambda *_: None,
        on_committed=lambda: None,
        wake=asyncio.Event(),
    )
    seen: list[int] = []

    async def write() -> None:
        # as the view does it: only what is committed is written
        while partition.steps < _BACKLOG:
            await asyncio.sleep(0)
            while not partition.at_rest.is_set():
                await partition.at_rest.wait()
            seen.append(partition.steps)
        assignment.stop()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(assignment.run())
        tasks.create_task(write())

    assert set(range(1, _BACKLOG)) <= set(seen)
