"""An event loop in virtual time, for several processes that can be stopped at any step."""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

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
        self.held: list[Handle] = []
        """What would have run while it stood still."""
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def answers(self) -> bool:
        """Whether the servers hear of it."""
        return not (self.is_dead or self.is_paused or self.is_isolated)


class Handle:
    """A callback that is due, or will be."""

    __slots__ = ("args", "callback", "context", "process", "when")

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        process: Process | None,
        when: float,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self.when = when

    def cancel(self) -> None:
        """Let it never run."""
        self.callback = None

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self.callback is None


class SimLoop(asyncio.AbstractEventLoop):
    """Runs what is due in order; when nothing is, time jumps to the next timer.

    No sockets, no threads, no clock of the machine: one run is a function of what is scheduled.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = 0
        self.processes: list[Process] = []
        self.steps = 0
        self.is_over = False

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

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
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        handle = Handle(callback, args, context, process, self._now_s)
        self._ready.append(handle)
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
        return self._at(when, Handle(callback, args, context, process, when))

    def _at(self, when: float, handle: Handle) -> Handle:
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, handle))
        return handle

    # What the simulation asks of it

    def outside(self, delay: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Call later, of no process: what happens in the network and in the servers."""
        when = self._now_s + delay
        return self._at(when, Handle(callback, args, None, None, when))

    def inside(self, process: Process, delay: float, callback: Callable[..., Any]) -> Handle:
        """Call later, in a process: never when it is dead, not before it goes on when paused."""
        when = self._now_s + delay
        return self._at(when, Handle(callback, (), None, process, when))

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
        ready, timers, step = self._ready, self._timers, self._step
        try:
            while not self.is_over:
                if not ready:
                    if not timers:
                        return
                    when, _, handle = heapq.heappop(timers)
                    if handle.callback is None:
                        continue
                    self._now_s = max(self._now_s, when)
                    step(handle)
                while ready and not self.is_over:
                    step(ready.popleft())
        finally:
            asyncio.events._set_running_loop(None)

    def _step(self, handle: Handle) -> None:
        callback, process = handle.callback, handle.process
        if callback is None:
            return
        if process is not None:
            if process.is_dead:
                return
            if process.is_paused:
                process.held.append(handle)
                return
            process.steps += 1
            if process.steps == process.trip_at and process.on_trip is not None:
                self._ready.appendleft(handle)
                process.on_trip()
                return
        self.steps += 1
        if handle.context is None:
            token = _PROCESS.set(process)
            try:
                callback(*handle.args)
            finally:
                _PROCESS.reset(token)
        else:
            handle.context.run(callback, *handle.args)

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
        self._ready.clear()
        self._timers.clear()
        for process in self.processes:
            process.is_dead = True
            for task in process.tasks:
                if not task.done():
                    _end(task)
            process.tasks.clear()


def _end(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # it is meant to end in the middle
    coroutine = task.get_coro()
    for _ in range(20):
        try:
            coroutine.close()  # type: ignore[union-attr]
        except BaseException:  # noqa: BLE001, S112
            continue  # it awaits something while it ends: nobody answers any more
        return
