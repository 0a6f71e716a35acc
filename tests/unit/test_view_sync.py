"""What the keeper of a view makes of heartbeats; the view itself is tested in tests/contract."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position, StoredPartition
from consumer.errors import TransientError
from consumer.ports import WriteAnswer
from consumer.store import view_sync
from consumer.store.view_sync import ViewSync
from schemas import MarketRegime, Side
from tests.support.memory_view import MemoryDelta, MemoryView


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s


class HeldView(MemoryView):
    """Holds its answers back until it is let go; can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()
        self.is_away = False
        self.rewrites = 0

    async def write(self, delta: MemoryDelta) -> WriteAnswer:
        await self._gate()
        return await super().write(delta)

    async def rewrite(self, delta: MemoryDelta) -> WriteAnswer:
        self.rewrites += 1
        await self._gate()
        return await super().rewrite(delta)

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        return await super().positions(partitions)

    async def _gate(self) -> None:
        self.begun.set()
        await self.go.wait()
        if self.is_away:
            raise TransientError("away")


class Bench:
    def __init__(self, *, since: Position | None = None) -> None:
        self.view = HeldView()
        self.clock = ManualClock()
        self.state = PartitionState(FoldSettings())
        self.rewinds = 0
        if since is not None:
            self.view.partitions[0] = self.state.stored()
        self.sync: ViewSync[MemoryDelta] = ViewSync(
            self.view,
            0,
            self.state,
            since=since,
            clock=self.clock,
            on_rewind=self._rewound,
        )

    def _rewound(self) -> None:
        self.rewinds += 1

    def step(self, *names: str) -> None:
        self.sync.begin_step()
        for name in names:
            self.state.admit(
                OpenDecision(
                    name,
                    "default",
                    "X",
                    Side.LONG,
                    MarketRegime.UNKNOWN,
                    None,
                    "scalp",
                    1.0,
                    0.8,
                    0,
                ),
                is_exploration=False,
            )
        self.state.position = Position(self.state.position.decisions + len(names), 0)
        self.sync.end_step()


async def test_a_large_write_is_no_loss_to_the_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the watermark away while it lasts: a heartbeat in between finds nothing."""
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    before = bench.sync.expected
    bench.view.go.clear()
    monkeypatch.setattr(view_sync, "REWRITE_FROM", 1)
    bench.step("a", "b")
    await bench.view.begun.wait()

    bench.sync.heard(None, before)
    bench.sync.heard(None, bench.sync.expected)

    assert (bench.view.rewrites, bench.rewinds) == (1, 0)
    # at the pace of a backlog as many would come as are written, and another rewrite would follow
    assert (bench.sync.holds_trades, bench.sync.is_behind) == (True, False)
    bench.view.go.set()
    await bench.sync.written()
    assert not bench.sync.holds_trades
    bench.sync.heard(None, before)
    assert bench.rewinds == 0
    running.cancel()


async def test_much_is_written_anew_only_where_it_is_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of a backlog a rewrite takes so long that as much has come meanwhile: one would follow the other."""
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    bench.step(*"abcdefgh")
    await bench.sync.written()
    monkeypatch.setattr(view_sync, "REWRITE_FROM", 1)

    bench.step("i", "j")
    await bench.sync.written()
    few = bench.view.rewrites
    bench.step(*"klmnopqrstuvwxyz")
    await bench.sync.written()

    assert (few, bench.view.rewrites) == (0, 1)
    running.cancel()


async def test_a_loss_is_noticed_once_and_healed() -> None:
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    bench.step("a")
    await bench.sync.written()
    bench.view.partitions.clear()

    bench.sync.heard(None, bench.sync.expected)
    bench.sync.heard(None, bench.sync.expected)
    assert bench.sync.is_behind
    await bench.sync.written()

    assert bench.rewinds == 1
    assert not bench.sync.is_behind
    found: StoredPartition = bench.view.partitions[0]
    assert found == bench.state.stored()
    running.cancel()


async def test_an_opening_that_changed_nothing_writes_where_it_stands() -> None:
    """Markers and refused trades move the position alone: who waits for the view waits for that."""
    bench = Bench(since=Position())
    bench.state.position = Position(1, 2)
    sync: ViewSync[MemoryDelta] = ViewSync(
        bench.view,
        0,
        bench.state,
        since=Position(),
        clock=bench.clock,
        on_rewind=bench._rewound,
    )
    running = asyncio.create_task(sync.run())

    async with asyncio.timeout(10):
        await sync.written()

    assert bench.view.partitions[0].position == Position(1, 2)
    running.cancel()


async def test_what_is_not_committed_is_never_written() -> None:
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    bench.step("a")
    bench.sync.begin_step()
    bench.state.position = Position(7, 7)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert bench.view.partitions[0].position == Position()

    bench.sync.end_step()
    await bench.sync.written()
    assert bench.view.partitions[0].position == Position(7, 7)
    running.cancel()


async def test_with_several_steps_in_hand_it_waits_for_the_last_and_says_so() -> None:
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    bench.sync.begin_step()
    bench.state.position = Position(0, 1)
    bench.sync.begin_step()
    bench.state.position = Position(1, 2)
    bench.sync.end_step()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert bench.sync.wants_rest
    assert bench.view.partitions[0].position == Position()

    bench.sync.end_step()
    await bench.sync.written()
    assert not bench.sync.wants_rest
    assert bench.view.partitions[0].position == Position(1, 2)
    running.cancel()


async def test_a_server_that_reads_and_does_not_write_confirms_nothing() -> None:
    """Decisions go on from memory for a limited time: its heartbeats must not extend it."""
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    bench.view.is_away = True
    bench.step("a")
    await bench.view.begun.wait()
    await asyncio.sleep(0)

    bench.clock.now_s = 100.0
    bench.sync.heard(Position(), bench.sync.expected)

    assert bench.sync.is_degraded
    assert bench.sync.age_s == 100.0
    bench.view.is_away = False
    await bench.sync.written()
    assert bench.sync.age_s == 0.0
    running.cancel()


@pytest.fixture
async def resting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A bench that runs, and rests for an hour after each write."""
    monkeypatch.setattr(view_sync, "_REST_S", 3600.0)
    bench = Bench(since=Position())
    running = asyncio.create_task(bench.sync.run())
    yield bench
    running.cancel()


async def test_who_waits_for_the_view_does_not_wait_for_its_rest(resting: Bench) -> None:
    resting.step("a")
    await resting.sync.written()
    resting.step("b")

    async with asyncio.timeout(10):
        await resting.sync.written()

    assert resting.view.partitions[0] == resting.state.stored()


async def test_many_changes_do_not_wait_for_the_end_of_a_rest(
    resting: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of too many would hold the server up, and above a limit become a rewrite."""
    monkeypatch.setattr(view_sync, "_MANY", 3)

    async def position_after(*names: str) -> Position:
        resting.step(*names)
        for _ in range(20):
            await asyncio.sleep(0)
        return resting.view.partitions[0].position

    assert await position_after("a") == Position(1, 0)
    assert await position_after("b") == Position(1, 0)
    assert await position_after("c", "d") == Position(4, 0)
    assert await position_after("e", "f") == Position(4, 0)


async def test_a_loss_does_not_wait_for_the_end_of_a_rest(resting: Bench) -> None:
    resting.step("a")
    for _ in range(20):
        await asyncio.sleep(0)
    resting.view.partitions.clear()

    resting.sync.heard(None, resting.sync.expected)
    async with asyncio.timeout(10):
        while resting.sync.is_behind:
            await asyncio.sleep(0)

    assert resting.view.partitions[0] == resting.state.stored()
