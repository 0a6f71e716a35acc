"""An event loop in virtual time, for several processes that can be stopped at any step."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any
from unittest import mock

_PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Process:
    """Tasks that live, stand still and die together.

    A real one runs its callbacks first come, first served; so does this one. What is random is
    when the network answers, and at which step a process is stopped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_paused = False
        self.is_isolated = False
        self.pauses = 0
        self.skew_s = 0.0
        """What its wall clock is wrong by [s]."""
        self.slow_end: tuple[float, float] | None = None
        """Delays of the next end of a transaction: before it takes effect, and after [s]."""
        self.stale_end = False
        """Whether its next end of a transaction is lost on the way, sent again, and comes twice."""
        self.steps = 0
        self.trip_at = 0
        """At which step `on_trip` is called; 0: never."""
        self.on_trip: Callable[[], None] | None = None
        self.held: list[_Due] = []
        """What would have run while it stood still."""
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def answers(self) -> bool:
        """Whether the servers hear of it."""
        return not (self.is_dead or self.is_paused or self.is_isolated)


class Handle:
    """What lets a callback never run."""

    is_cancelled = False

    def cancel(self) -> None:
        """Let it never run."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self.is_cancelled


_Due = tuple[
    float,
    int,
    Handle | None,
    Callable[..., Any],
    tuple[Any, ...],
    contextvars.Context | None,
    Process | None,
]
"""When it is due, its place among those that are due then, and what runs where.

A plain tuple without a handle where nobody can cancel it: a schedule makes a thousand of them.
"""


class SimLoop(asyncio.AbstractEventLoop):
    """Runs what is due in order; when nothing is, time jumps to the next timer.

    No sockets, no threads, no clock of the machine: one run is a function of what is scheduled.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._ready: deque[_Due] = deque()
        self._timers: list[_Due] = []
        self._order = 0
        self.processes: list[Process] = []
        self.is_over = False

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now_s

    get_debug: Any = staticmethod(bool)
    """False; asked with each future and each task, and this takes no step of the interpreter."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass over what is reported when objects are collected: the run has judged it already."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **options)
        process = _PROCESS.get()
        if process is not None:
            process.tasks.append(task)
        return task

    def call_soon(
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        if context is not None:  # tasks and futures, which never cancel it
            self._ready.append((0.0, 0, None, callback, args, context, context.get(_PROCESS)))
            return None
        handle = Handle()
        self._ready.append((0.0, 0, handle, callback, args, None, _PROCESS.get()))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        self._order = order = self._order + 1
        handle = Handle()
        heappush(self._timers, (when, order, handle, callback, args, context, process))
        return handle

    # What the simulation asks of it

    def outside(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call later, of no process: what happens in the network and in the servers."""
        self._order = order = self._order + 1
        heappush(self._timers, (self._now_s + delay, order, None, callback, args, None, None))

    def inside(self, process: Process, delay: float, callback: Callable[..., Any]) -> None:
        """Call later, in a process: never when it is dead, not before it goes on when paused."""
        self._order = order = self._order + 1
        heappush(self._timers, (self._now_s + delay, order, None, callback, (), None, process))

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a process's first task."""
        if process not in self.processes:
            self.processes.append(process)
        context = contextvars.copy_context()
        context.run(_PROCESS.set, process)
        return context.run(self.create_task, coroutine)

    def run(self) -> None:
        """Run until `is_over` is set, or nothing is left to do."""
        asyncio.events._set_running_loop(self)  # what run_forever does, too
        try:
            # the original asks the system each time whether it is still in the same process
            with mock.patch.object(asyncio.events, "get_running_loop", self._running):
                self._run()
        finally:
            asyncio.events._set_running_loop(None)

    def _running(self) -> "SimLoop":
        return self

    def _run(self) -> None:
        ready, timers = self._ready, self._timers
        while not self.is_over:
            if ready:
                due = ready.popleft()
            elif timers:
                due = heappop(timers)
            else:
                return
            when, _, handle, callback, args, context, process = due
            if handle is not None and handle.is_cancelled:
                continue
            if when > self._now_s:  # noqa: PLR1730  # a call for each step
                self._now_s = when
            if process is not None:
                if process.is_dead:
                    continue
                if process.is_paused:
                    process.held.append(due)
                    continue
                process.steps += 1
                if process.steps == process.trip_at and process.on_trip is not None:
                    ready.appendleft(due)
                    process.on_trip()
                    continue
            if context is not None:
                context.run(callback, *args)
            elif process is None:
                callback(*args)
            else:
                token = _PROCESS.set(process)
                try:
                    callback(*args)
                finally:
                    _PROCESS.reset(token)

    def end(self) -> None:
        """Let `run` return after this step."""
        self.is_over = True

    def resume(self, process: Process) -> None:
        """Let a paused process go on: what became due meanwhile runs at once, in its order."""
        process.is_paused = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def close(self) -> None:
        """End what still runs, without another step of it in this world."""
        # else what they begin at their end goes to another loop, and stays there
        asyncio.events._set_running_loop(self)
        try:
            for process in self.processes:
                process.is_dead = True
                for task in process.tasks:
                    if not task.done():
                        _end(task)
                process.tasks.clear()
        finally:
            asyncio.events._set_running_loop(None)
        self._ready.clear()
        self._timers.clear()


def _end(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # it is meant to end in the middle
    coroutine = task.get_coro()
    for _ in range(20):
        try:
            coroutine.close()  # type: ignore[union-attr]
        except BaseException:  # noqa: BLE001, S112
            continue  # it awaits something while it ends: nobody answers any more
        return
