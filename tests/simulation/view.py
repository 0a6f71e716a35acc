"""The view in memory behind the simulated network: it can be away, lose replies and lose writes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from consumer.domain.stored import Position, StoredPartition
from consumer.errors import TransientError
from consumer.ports import WriteAnswer
from tests.simulation.cluster import Cluster
from tests.simulation.loop import Process
from tests.simulation.oracle import Watch
from tests.support.memory_view import MemoryDelta, MemoryView

_TIMEOUT_S = 0.5
_KEPT = 12
_BROKEN_IN_A_BAD_HOUR = 0.15
LATE_S = 2.0
"""How much later than its sender gave up a command may come [s]."""


class Store:
    """What all workers share: the view's server.

    Args:
        cluster: Whose loop and chance.
        watch: Told each state that a worker writes.
    """

    def __init__(self, cluster: Cluster, watch: Watch) -> None:
        self._cluster = cluster
        self.view = MemoryView()
        self.is_away = False
        self.is_bad = False
        """Whether requests and replies are lost often."""
        self.watch = watch
        self.rewriters: dict[int, object] = {}
        """Who began to write a partition anew last; only he may end it."""
        self._past: list[dict[int, StoredPartition]] = []

    def remember(self) -> None:
        """Keep what is there now, to lose what comes after it one day."""
        self._past.append(dict(self.view.partitions))
        del self._past[:-_KEPT]

    def wipe(self) -> None:
        """Lose everything."""
        self.view.partitions.clear()
        self.rewriters.clear()

    def roll_back(self, steps: int) -> None:
        """Lose the last writes, confirmed ones too."""
        if self._past:
            self.rewriters.clear()
            self.view.partitions = dict(self._past[-min(steps, len(self._past))])

    def ask(
        self, process: Process, what: str, request: Callable[[], Any], *, is_read: bool = False
    ) -> "asyncio.Future[Any]":
        """Send a command; TransientError when no answer comes, whatever became of it."""
        loop = self._cluster.loop
        future = loop.create_future()
        command = _Command(process, what, request, is_read, future)
        loop.outside(self._cluster.network.delay_s(), self._arrive, command)
        return future

    def _arrive(self, command: "_Command", *, is_late: bool = False) -> None:
        process, what, request, is_read, future = command
        cluster = self._cluster
        if process.is_isolated or self.is_away:
            cluster.loop.outside(_TIMEOUT_S, _fail, future)
            return
        if self.is_bad and cluster.random() < _BROKEN_IN_A_BAD_HOUR:
            if not is_late:  # it may still come, long after its sender gave up
                if cluster.random() < 0.5:
                    delay_s = _TIMEOUT_S + cluster.random() * LATE_S
                    cluster.loop.outside(delay_s, self._arrive_late, command)
                elif cluster.random() < 0.5:
                    request()
                cluster.loop.outside(_TIMEOUT_S, _fail, future)
            return
        result = request()
        if cluster.network.trace is not None:
            cluster.network.trace(f"{process.name}: view {what} -> {result!r:.60}")
        if is_read:
            _answer(future, result)
        elif not is_late:
            cluster.loop.outside(cluster.network.delay_s(), _answer, future, result)

    def _arrive_late(self, command: "_Command") -> None:
        self._arrive(command, is_late=True)


class _Command(NamedTuple):
    process: Process
    what: str
    request: Callable[[], Any]
    is_read: bool
    future: "asyncio.Future[Any]"


def _answer(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(TransientError("the view does not answer"))


class SimulatedView:
    """One worker's connection to the view; see the View port."""

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process

    async def load(self, partition: int) -> StoredPartition | None:
        """See View."""
        view = self._store.view
        found: StoredPartition | None = await self._store.ask(
            self._process, f"load {partition}", lambda: view.partitions.get(partition), is_read=True
        )
        return found

    def prepare(self, partition: int, state: Any, since: Position) -> MemoryDelta:
        """See View."""
        return self._store.view.prepare(partition, state, since)

    def forget(self, partition: int) -> None:
        """See View."""
        self._store.view.forget(partition)

    async def write(self, delta: MemoryDelta) -> WriteAnswer:
        """See View."""

        def write() -> WriteAnswer:
            self._store.watch.on_write(delta)
            self._store.remember()
            before = self._store.view.partitions.get(delta.partition)
            answer = _now(self._store.view.write(delta))
            if answer is WriteAnswer.APPLIED:
                self._store.watch.on_applied(before and before.position, delta)
            return answer

        found: WriteAnswer = await self._store.ask(
            self._process, f"write {delta.partition} {tuple(delta.position)}", write
        )
        return found

    async def rewrite(self, delta: MemoryDelta) -> WriteAnswer:
        """See View: the partition is away from the first command until the last."""
        token = object()

        def clear() -> None:
            self._store.remember()
            self._store.view.partitions.pop(delta.partition, None)
            self._store.rewriters[delta.partition] = token

        def put() -> WriteAnswer:
            if self._store.rewriters.get(delta.partition) is not token:
                return WriteAnswer.OTHER_OWNER
            self._store.watch.on_write(delta)
            del self._store.rewriters[delta.partition]
            return _now(self._store.view.rewrite(delta))

        await self._store.ask(self._process, f"clear {delta.partition}", clear)
        found: WriteAnswer = await self._store.ask(
            self._process, f"rewrite {delta.partition} {tuple(delta.position)}", put
        )
        return found

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        """See View."""
        view = self._store.view
        found: Mapping[int, Position | None] = await self._store.ask(
            self._process,
            "positions",
            lambda: {
                number: stored.position if (stored := view.partitions.get(number)) else None
                for number in partitions
            },
            is_read=True,
        )
        return found


def _now(coroutine: Any) -> WriteAnswer:
    """Run a method of the view in memory: it awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        found: WriteAnswer = result.value
        return found
    raise AssertionError("the view in memory waits for something")
