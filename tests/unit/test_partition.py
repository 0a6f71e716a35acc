"""What waits in a worker's memory, and what goes into one transaction, is bounded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition

from consumer.errors import FencedError
from consumer.stream.partition import InputTopics, Offsets, Partition
from consumer.stream.read_record import ReadRecord
from consumer.stream.transaction import Batch

SIGNALS, TRADES = TopicPartition("signals", 0), TopicPartition("trade-closed", 0)
CANDLES = TopicPartition("candles", 0)
MEGABYTE = 1 << 20


class Consumer:
    """Remembers what is paused."""

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        pass

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)

    end: int | None = 0
    """Where the signals' log is said to end."""

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return self.end

    def resume(self, partition: TopicPartition) -> None:
        self.paused.discard(partition)


@dataclass
class Work:
    """Takes everything, and remembers how much it was given at once."""

    accepts_trades: bool = True
    accepts_signals: bool = True
    is_dropped: bool = False
    ends: bool = False
    """Whether its background ends by itself."""

    def __post_init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.committed_steps = 0
        self.candles: list[int] = []
        self.has_begun = asyncio.Event()

    async def open(self, offsets: Offsets) -> Offsets:
        return offsets

    def step(
        self,
        trades: Sequence[ReadRecord],
        signals: Sequence[ReadRecord],
        candles: Sequence[ReadRecord],
    ) -> Sequence[Batch]:
        self.steps.append((len(trades), len(signals)))
        self.candles.append(len(candles))
        return []

    def committed(self, ends: Sequence[int | None]) -> None:
        assert not self.is_dropped, "nothing is called after drop"
        self.committed_steps += 1

    async def background(self) -> None:
        self.has_begun.set()
        if self.ends:
            raise FencedError("somebody else writes")
        await asyncio.Event().wait()

    async def settle(self) -> None:
        pass

    async def close(self, timeout_s: float) -> None:
        pass

    def drop(self) -> None:
        self.is_dropped = True


class Bench:
    def __init__(self, candles: str = "") -> None:
        self.consumer, self.work = Consumer(), Work()
        self.partition = Partition(
            0,
            self.consumer,
            InputTopics(signals="signals", trades="trade-closed", candles=candles),
            work=self.work,
            on_records=lambda: None,
        )
        self.partition._begin(Offsets(0, 0))
        self._offset = 0

    def receive(
        self,
        log: TopicPartition,
        count: int,
        *,
        value: bytes = b"",
        headers: Sequence[tuple[str, bytes | None]] = (),
        time_ms: int = 0,
    ) -> None:
        records = []
        for _ in range(count):
            self._offset += 1
            records.append(
                ReadRecord(log.topic, 0, self._offset, time_ms, b"key", value, tuple(headers))
            )
        self.partition.receive(log, records)


@pytest.mark.parametrize("where", ["value", "headers"])
def test_a_few_large_records_hold_reading_back(where: str) -> None:
    """Counted as records alone, a thousand of a megabyte each would wait in memory."""
    bench = Bench()
    content = b"x" * MEGABYTE
    large = {"value": content} if where == "value" else {"headers": [("h", content), ("i", None)]}

    bench.receive(SIGNALS, 7, **large)  # type: ignore[arg-type]
    assert not bench.consumer.paused
    bench.receive(SIGNALS, 2, **large)  # type: ignore[arg-type]
    assert bench.consumer.paused == {SIGNALS}
    while bench.partition.waiting(SIGNALS) > 1:
        assert bench.consumer.paused == {SIGNALS}
        bench.partition.work_off(1_000, MEGABYTE)

    assert not bench.consumer.paused


def test_many_records_hold_reading_back() -> None:
    bench = Bench()

    bench.receive(TRADES, 1_999)
    assert not bench.consumer.paused
    bench.receive(TRADES, 1)
    assert bench.consumer.paused == {TRADES}
    bench.partition.work_off(1_000, MEGABYTE)
    assert bench.consumer.paused == {TRADES}
    bench.partition.work_off(2, MEGABYTE)

    assert not bench.consumer.paused
    assert bench.partition.waiting(TRADES) == 998


def test_a_batch_ends_at_its_size_or_count_whichever_is_first() -> None:
    """A thousand records of 64 KiB each would hold the loop up for longer than the group waits."""
    bench = Bench()
    bench.receive(TRADES, 2, value=b"t" * 60_000)
    bench.receive(SIGNALS, 20, value=b"s" * 60_000)
    bench.receive(SIGNALS, 20)

    offsets = []
    while bench.partition.has_work:
        offsets.append(bench.partition.work_off(10, 180_000).offsets)

    # the trades first; the record that crosses the limit is the last one
    assert bench.work.steps[:2] == [(2, 1), (0, 3)]
    assert sum(signals for _, signals in bench.work.steps) == 40
    assert max(signals for _, signals in bench.work.steps) == 10
    assert offsets[0] == {TRADES: 3, SIGNALS: 4}


def test_the_largest_record_is_worked_off_alone() -> None:
    bench = Bench()
    bench.receive(SIGNALS, 3, value=b"x" * MEGABYTE)

    for left in (2, 1, 0):
        bench.partition.work_off(1_000, 1)
        assert bench.partition.waiting(SIGNALS) == left


def test_a_flood_of_trades_leaves_half_of_each_batch_to_signals() -> None:
    """Decisions must not wait until a backlog of closed trades is folded."""
    bench = Bench()
    bench.receive(TRADES, 1_000)
    bench.receive(SIGNALS, 30)

    for _ in range(3):
        bench.partition.work_off(20, MEGABYTE)

    assert bench.work.steps == [(10, 10)] * 3
    bench.partition.work_off(20, MEGABYTE)
    assert bench.work.steps[-1] == (20, 0)


def test_huge_trades_leave_room_for_a_signal() -> None:
    bench = Bench()
    bench.receive(TRADES, 5, value=b"x" * MEGABYTE)
    bench.receive(SIGNALS, 5)

    bench.partition.work_off(20, MEGABYTE // 4)

    assert bench.work.steps == [(1, 1)]


@pytest.mark.parametrize("ends", [False, True], ids=["cancelled", "fenced"])
async def test_what_ends_is_let_go_of_at_once(ends: bool) -> None:
    """Whoever still holds the partition must not hold all that it remembered, nor work it off."""
    bench = Bench()
    bench.work.ends = ends
    life = asyncio.create_task(bench.partition.run(Offsets(0, 0), Offsets(0, 0)))
    bench.receive(SIGNALS, 3)
    await bench.work.has_begun.wait()

    if not ends:
        life.cancel()
    with pytest.raises(FencedError if ends else asyncio.CancelledError):
        await life

    assert bench.work.is_dropped
    assert bench.partition.waiting(SIGNALS) == 0
    assert not bench.partition.has_work


def a_bench_with_candles() -> Bench:
    return Bench("candles")


def test_candles_wait_for_the_signals_before_them() -> None:
    """A signal that is decided after its candles cannot be followed by them."""
    bench = a_bench_with_candles()
    bench.receive(SIGNALS, 1, time_ms=5)
    bench.receive(SIGNALS, 2, time_ms=20)
    bench.receive(CANDLES, 2, time_ms=10)
    bench.receive(CANDLES, 3, time_ms=30)

    found = []
    while bench.partition.has_work:
        found.append(bench.partition.work_off(1, MEGABYTE).offsets)

    assert bench.work.steps == [(0, 1), (0, 1), (0, 1), (0, 0), (0, 0)]
    assert bench.work.candles == [1, 1, 1, 1, 1]
    assert found[0].keys() == {SIGNALS, CANDLES}
    assert found[-1] == {CANDLES: 9}


def test_candles_wait_for_signals_that_were_not_read_yet() -> None:
    bench = a_bench_with_candles()
    bench.consumer.end = None
    bench.receive(CANDLES, 2)
    assert not bench.partition.has_work, "nothing was heard of the signals"
    bench.consumer.end = 40
    assert not bench.partition.has_work, "there are signals"

    bench.partition._heard_at -= 60.0  # none came: a marker may stand there, or a broker be away

    assert bench.partition.has_work
    bench.partition.work_off(10, MEGABYTE)
    assert bench.work.candles == [2]


def test_candles_wait_while_the_view_is_away() -> None:
    bench = a_bench_with_candles()
    bench.work.accepts_trades = False
    bench.receive(CANDLES, 2)

    assert not bench.partition.has_work
    bench.receive(SIGNALS, 1)
    bench.partition.work_off(10, MEGABYTE)
    assert bench.work.candles == [0]


async def test_what_is_committed_after_its_life_has_ended_is_told_nobody() -> None:
    """Its state is gone by then; why is what the worker has to be told."""
    bench = Bench()
    bench.work.ends = True
    bench.receive(SIGNALS, 2)
    bench.partition.work_off(1, MEGABYTE)
    bench.partition.committed([1])
    bench.partition.work_off(1, MEGABYTE)

    with pytest.raises(FencedError):
        await bench.partition.run(Offsets(0, 0), Offsets(0, 0))
    bench.partition.committed([2])

    assert bench.work.is_dropped
    assert bench.work.committed_steps == 1
