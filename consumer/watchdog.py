"""Ends a worker that does not get on: by a thread, in case its loop is stuck."""

import threading
from collections.abc import Callable, Hashable

_TICK_S = 1.0
LIMIT_S = 60.0
"""Longest time without progress while something could be done. A rebalance takes half of it, a
frozen server is given up within a sixth; above, a supervisor's restart helps more than waiting."""


class Watchdog:
    """Waits to be fed; what is to be done otherwise is done once, in a thread of its own.

    It counts its own ticks instead of looking at a clock: a process that was frozen, and its thread
    with it, gets all of the time again.

    Args:
        starve: Called when nobody fed it for so long.
        limit_s: How long [s].
        tick_s: How often it looks [s].
    """

    def __init__(
        self, starve: Callable[[], None], *, limit_s: float = LIMIT_S, tick_s: float = _TICK_S
    ) -> None:
        self._starve = starve
        self._tick_s = tick_s
        self._limit = round(limit_s / tick_s)
        self._ticks = 0
        self._is_over = threading.Event()

    def start(self) -> None:
        """Begin to wait."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def feed(self) -> None:
        """Say that all is well."""
        self._ticks = 0

    def stop(self) -> None:
        """Wait no longer."""
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.wait(self._tick_s):
            self._ticks += 1
            if self._ticks > self._limit:
                self._starve()
                return


class Progress:
    """Tells whether a worker gets on, from two looks at it."""

    def __init__(self) -> None:
        self._last: Hashable = None

    def is_made(self, done: Hashable) -> bool:
        """Take what was done so far; tell whether it is something else than the last time."""
        is_made = done != self._last
        self._last = done
        return is_made
