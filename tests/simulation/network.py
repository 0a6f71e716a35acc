"""What lies between a process and the servers: delays, losses, silence."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from aiokafka.errors import ConcurrentTransactions, KafkaConnectionError, KafkaError

from tests.simulation.loop import Process, SimLoop

_QUICK_S = 0.003
_LATE_SHARE = 0.02
_AT_ONCE_SHARE = 0.5
"""Of the answers: they come in the step in which the request arrives, which saves one."""
_LATE_S = 0.2
_BREAK_S = 0.005
"""Until a client notices a broken connection."""
_NOTICED_S = 1.05
"""From when a client may find a silent connection broken: above what the worker calls slow."""
_RETRY_S = 0.1
_COMMIT_WAIT_S = 0.002
"""What clients wait before they ask again."""
_HELD_UP_SHARE = 0.3
_HELD_UP_S = 5.0
"""How late the request of a dead or paused process may still arrive."""
_BROKEN_IN_A_BAD_HOUR = 0.12


class Disconnected(KafkaConnectionError):  # type: ignore[misc]  # noqa: N818
    """The connection broke: whether the request took effect is not known."""


_ASKED_AGAIN = (Disconnected, ConcurrentTransactions)


@dataclass(slots=True, eq=False)
class _Call:
    process: Process
    what: str
    request: Callable[[], Any]
    future: "asyncio.Future[Any]"
    retries: bool = False
    is_read: bool = False
    after_s: float = 0.0
    was_held_up: bool = False


class Network:
    """All connections of all processes.

    Args:
        loop: Where things happen later.
        rng: Decides how long they take, and what is lost.
        trace: Told what happens; None: nobody listens.
    """

    def __init__(self, loop: SimLoop, rng: Random, trace: Callable[[str], None] | None) -> None:
        self.loop = loop
        self._random = rng.random
        self.trace = trace
        self.is_away = False
        """Whether the broker answers nobody."""
        self.is_bad = False
        """Whether connections break often."""
        self._stale: list[_Call] = []
        self._held: list[tuple[Process, Callable[[], None]]] = []

    def later(self, delay_s: float | None, callback: Callable[[], None]) -> object:
        """Put off what a server does; None: as long as a small thing takes it."""
        return self.loop.outside(self.delay_s() if delay_s is None else delay_s, callback)

    def delay_s(self) -> float:
        """Draw the time of one way."""
        draw = self._random()
        if draw < _LATE_SHARE:
            return _LATE_S * self._random()
        return _QUICK_S * draw

    def call(
        self,
        process: Process,
        what: str,
        request: Callable[[], Any],
        *,
        retries: bool = False,
        ends: bool = False,
        is_read: bool = False,
    ) -> "asyncio.Future[Any]":
        """Send a request; the future has its answer.

        Args:
            process: Whose connection.
            what: For the trace.
            request: What the server does when it arrives; it may do so long after all gave up.
            retries: Whether the client asks again, for ever, after a broken connection and while a
                transaction is being ended.
            ends: Whether it ends a transaction: a process may have to wait long for that.
            is_read: Whether it changes nothing: both ways are one step then.

        Raises:
            Disconnected: No answer will come.
            KafkaError: As the server answers.
        """
        future = self.loop.create_future()
        call = _Call(process, what, request, future, retries, is_read)
        before = 0.0
        if ends and process.stale_end:
            process.stale_end = False
            self._stale.append(_Call(process, f"late {what}", request, self.loop.create_future()))
            before = _NOTICED_S + self._random()
        elif self._stale and what.startswith("produce"):
            self._let_come()
        if ends and process.slow_end is not None:
            (before, call.after_s), process.slow_end = process.slow_end, None
        self.loop.outside(self.delay_s() + before, self._arrive, call)
        return future

    def _arrive(self, call: "_Call") -> None:
        process = call.process
        if self.is_away or process.is_isolated:
            self._held.append((process, functools.partial(self._arrive, call)))
            return
        if (process.is_dead or process.is_paused) and not call.was_held_up:
            call.was_held_up = True
            if self._random() < _HELD_UP_SHARE:
                self.loop.outside(_HELD_UP_S * self._random(), self._arrive, call)
                return
        is_broken = self.is_bad and self._random() < _BROKEN_IN_A_BAD_HOUR
        result, error = None, None
        if is_broken and self._random() < 0.5:
            error = Disconnected(f"{call.what} was lost")
        else:
            try:
                result = call.request()
            except KafkaError as refusal:
                error = refusal.with_traceback(None)  # else it and this frame hold each other
            if is_broken:
                error = Disconnected(f"the answer to {call.what} was lost")
        if self.trace is not None:
            self.trace(f"{process.name}: {call.what} -> {error or result!r}")
        if error is not None and call.retries and isinstance(error, _ASKED_AGAIN):
            wait_s = _RETRY_S if is_broken else _COMMIT_WAIT_S
            self.loop.inside(process, wait_s, functools.partial(self._again, call))
        elif not (is_broken or call.after_s) and (call.is_read or self._random() < _AT_ONCE_SHARE):
            self._answer(process, call.future, result, error)
        else:
            delay_s = _BREAK_S if is_broken else self.delay_s()
            self.loop.outside(
                delay_s + call.after_s, self._answer, process, call.future, result, error
            )

    def _let_come(self) -> None:
        """Let the lost ends arrive at the worst time: when another transaction has begun."""
        stale, self._stale = self._stale, []
        for call in stale:
            self.loop.outside(_QUICK_S + _QUICK_S * self._random(), self._arrive, call)

    def _again(self, call: "_Call") -> None:
        if not call.future.done():
            self.loop.outside(self.delay_s(), self._arrive, call)

    def _answer(
        self,
        process: Process,
        future: "asyncio.Future[Any]",
        result: Any,
        error: KafkaError | None,
    ) -> None:
        if process.is_isolated:
            self._held.append((process, lambda: self._answer(process, future, result, error)))
        elif not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def answer(self, process: Process, future: asyncio.Future[Any], result: Any) -> None:
        """Answer a request that had to wait for something."""
        self.loop.outside(self.delay_s(), self._answer, process, future, result, None)

    def deliver_held(self) -> None:
        """Let what was held up arrive, in the order in which it was sent."""
        held, self._held = self._held, []
        for process, arrive in held:
            if self.is_away or process.is_isolated:
                self._held.append((process, arrive))
            else:
                arrive()
