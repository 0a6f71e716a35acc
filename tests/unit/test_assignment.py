"""Serving partitions: one transaction after the other."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.stream import assignment as assignment_module
from consumer.stream.assignment import Assignment
from consumer.stream.membership import Member
from consumer.stream.partition import Partition, Work
from consumer.stream.transaction import Batch

_BACKLOG = 50
_LOG = TopicPartition("signals", 0)


class QuickSink:
    """Commits at once."""

    owner = "me"

    def __init__(self) -> None:
        self.sent: list[dict[TopicPartition, int]] = []
        self.is_stopped = False

    async def start(self) -> None:
        pass

    def pack(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        return batches

    async def publish(
        self, batches: Sequence[Batch], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        for _ in range(3):
            await asyncio.sleep(0)
        self.sent.append(dict(offsets))
        return [None] * len(batches)

    async def stop(self) -> None:
        self.is_stopped = True


class SlowSink(QuickSink):
    """Commits when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = asyncio.Semaphore(0)
        self.begun = asyncio.Semaphore(0)

    async def publish(
        self, batches: Sequence[Batch], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        self.begun.release()
        await self.may_commit.acquire()
        return await super().publish(batches, offsets)

    async def committed(self, count: int) -> None:
        """Let transactions commit, and wait until the next one is begun."""
        for _ in range(count):
            await self.begun.acquire()
            self.may_commit.release()
        await self.begun.acquire()


class Busy:
    """A partition with a backlog of batches."""

    number = 0
    logs: Sequence[TopicPartition] = ()
    may_run_ahead = True

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
        return Work([], dict.fromkeys(self.logs, self.steps))

    def waiting(self, _: TopicPartition) -> int:
        return _BACKLOG - self.steps

    def committed(self, _: Sequence[int | None]) -> None:
        self.at_rest.set()

    async def close(self, _: float) -> None:
        pass


def make_assignment(sink: QuickSink, *partitions: Busy) -> Assignment:
    return Assignment(
        KafkaConnection(bootstrap_servers="nowhere"),
        cast("AIOKafkaConsumer", None),
        cast("Member", None),
        group_id="group",
        make_sink=lambda: sink,
        partitions=[cast("Partition", partition) for partition in partitions],
        start="earliest",
        on_skipped=lambda *_: None,
        on_committed=lambda: None,
        wake=asyncio.Event(),
    )


async def test_a_backlog_lets_the_view_have_the_steps_between() -> None:
    """It kept the view from every write until it was worked off, however long that took."""
    partition = Busy()
    assignment = make_assignment(QuickSink(), partition)
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


class Waiting(Busy):
    """One whose waiting records are counted."""

    logs = (_LOG,)


class Held(Waiting):
    """One whose view waits for a state that is committed as a whole."""

    number = 1
    may_run_ahead = False


class Full(Busy):
    """One that always has more, a number of records at a time."""

    has_work = True

    def __init__(self, number: int, *, records: int = 2_000, size: int = 0) -> None:
        super().__init__()
        self.number = number
        self.logs = (TopicPartition("signals", number),)
        self.rooms: list[int] = []
        self.waits = _BACKLOG
        self._worth = (records, size)

    def waiting(self, _: TopicPartition) -> int:
        return self.waits

    def work_off(self, *room: int) -> Work:
        self.rooms.append(room[0])
        return Work([], {self.logs[0]: len(self.rooms)}, *self._worth)


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., asyncio.Task[None]]]:
    """Serves partitions that are open, from `ahead_from` waiting records on ahead of commits."""
    tasks: list[asyncio.Task[None]] = []

    async def no_opening(_: Assignment) -> list[asyncio.Task[None]]:
        return []

    monkeypatch.setattr(Assignment, "_open", no_opening)

    def serve(assignment: Assignment, ahead_from: int) -> asyncio.Task[None]:
        monkeypatch.setattr(assignment_module, "_AHEAD_FROM", ahead_from)
        tasks.append(asyncio.create_task(assignment.run()))
        return tasks[-1]

    yield serve
    for task in tasks:
        task.cancel()


async def test_where_many_wait_the_next_transaction_is_prepared_while_one_commits(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    sink, busy, held = SlowSink(), Waiting(), Held()
    serving(make_assignment(sink, busy, held), 10)
    await sink.begun.acquire()
    await turns()

    assert (busy.steps, held.steps) == (2, 1)

    sink.may_commit.release()
    await sink.begun.acquire()
    await turns()
    assert sink.sent == [{_LOG: 1}]
    assert (busy.steps, held.steps) == (3, 2)


async def test_where_few_wait_nothing_is_prepared(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    """What comes while one transaction commits is decided after it, from all that is known then."""
    sink, busy = SlowSink(), Waiting()
    serving(make_assignment(sink, busy), _BACKLOG)
    await sink.begun.acquire()
    await turns()

    assert busy.steps == 1


async def test_partitions_with_many_records_take_turns(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    """What a transaction takes of each must not shrink with their number: its costs do not."""
    sink, partitions = SlowSink(), [Full(number) for number in range(5)]
    serving(make_assignment(sink, *partitions), 10**9)
    await sink.committed(3)

    taken = [sorted(log.partition for log in offsets) for offsets in sink.sent]
    assert taken == [[0, 1], [2, 3], [0, 4]]
    assert {room for partition in partitions for room in partition.rooms} == {2_000}


async def test_many_partitions_with_few_records_each_go_together(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    sink, partitions = SlowSink(), [Full(number, records=10) for number in range(64)]
    serving(make_assignment(sink, *partitions), 10**9)
    await sink.committed(1)

    assert len(sink.sent[0]) == 64


async def test_who_has_few_records_need_not_wait_for_those_who_have_many(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    sink, partitions = SlowSink(), [Full(number) for number in range(4)]
    few = Full(4, records=3)
    few.waits = 3
    serving(make_assignment(sink, *partitions, few), 10**9)
    await sink.committed(3)

    taken = [sorted(log.partition for log in offsets) for offsets in sink.sent]
    assert all(4 in numbers for numbers in taken)
    assert {number for numbers in taken for number in numbers} == {0, 1, 2, 3, 4}


async def test_large_records_fill_a_transaction(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    sink, partitions = SlowSink(), [Full(number, records=2, size=1 << 20) for number in range(5)]
    serving(make_assignment(sink, *partitions), 10**9)
    await sink.committed(1)

    assert len(sink.sent[0]) == 2


async def test_a_stop_commits_what_is_prepared_and_begins_nothing_more(
    serving: Callable[..., asyncio.Task[None]],
) -> None:
    sink, busy = SlowSink(), Waiting()
    assignment = make_assignment(sink, busy)
    running = serving(assignment, 10)
    await sink.begun.acquire()
    await turns()
    assignment.stop()
    sink.may_commit.release()
    sink.may_commit.release()
    async with asyncio.timeout(10):
        await running

    assert sink.sent == [{_LOG: 1}, {_LOG: 2}]
    assert busy.steps == 2


async def test_an_error_of_what_is_prepared_ends_it(
    serving: Callable[..., asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, busy = SlowSink(), Waiting()
    running = serving(make_assignment(sink, busy), 10)
    await sink.begun.acquire()

    def broken(*_: int) -> Work:
        raise RuntimeError("broken")

    monkeypatch.setattr(busy, "work_off", broken)
    await turns()
    sink.may_commit.release()

    with pytest.raises(RuntimeError, match="broken"):
        async with asyncio.timeout(10):
            await running


class Unclosable(Busy):
    """A partition without work whose view does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = _BACKLOG
        self.closing = asyncio.Event()

    async def close(self, _: float) -> None:
        self.closing.set()
        await asyncio.Event().wait()


async def test_giving_up_what_is_being_closed_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time for it may end while it waits for the view."""
    sink, partition = QuickSink(), Unclosable()
    assignment = make_assignment(sink, partition)
    life = asyncio.create_task(asyncio.Event().wait())

    async def opened() -> list[asyncio.Task[object]]:
        return [life]

    monkeypatch.setattr(assignment, "_open", opened)
    running = asyncio.create_task(assignment.run())
    assignment.stop()
    await partition.closing.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=10)

    assert running.cancelled()
    assert life.cancelled()
    assert sink.is_stopped
