"""Keeps the view of one partition up with its state in memory."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, NamedTuple

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import FencedError, RefusedError, TransientError
from consumer.ports import Clock, D, View, WriteAnswer

_FIRST_BACKOFF_S = 0.05
_LAST_BACKOFF_S = 1.0  # a server that is back is used within a second
_REST_S = 0.2
"""Between two writes of a view: what changes meanwhile goes in one. A page is this much behind."""
_LONG_REST_S = 1.0
"""The same after a write of at least `_SOME` changes, as between two heartbeats: most of what is learned meanwhile
is of few arms."""
_SOME = 200
"""Below it somebody may wait for the table between two trades, as the demo does."""
_MANY = 5_000
"""Changes that end the rest: some 10 ms of the server's one thread, and of ours."""
_DEGRADED_AFTER_S = 2.0
"""Two heartbeats without a word of the view make a decision degraded."""
REWRITE_FROM = 50_000
"""Fields from which a write is a rewrite, in parts, where all are not twice as many: one script call of that size
takes the server 0.1 s on a slow machine, in which it answers nobody."""


class Expected(NamedTuple):
    """What a heartbeat must find."""

    position: Position
    """At least."""
    rewrites: int
    """Rewrites begun so far: an answer from before another one says nothing."""


class ViewSync(Generic[D]):
    """Writes what a state's folds changed, in the background, and notices when the view lost it.

    Only committed states are written: `begin_step` and `end_step` enclose what is not committed
    yet, one step or several. Writes are idempotent, so each is repeated until it is answered.

    Args:
        view: Where to write.
        partition: Whose state it is.
        state: What to write; at the position `since` it is the same as the view.
        since: Where the view stands; None when nothing whole is there.
        clock: For the age of the last confirmation.
        on_rewind: Called each time the view turns out to have lost writes.
    """

    def __init__(
        self,
        view: View[D],
        partition: int,
        state: PartitionState,
        *,
        since: Position | None,
        clock: Clock,
        on_rewind: Callable[[], None],
    ) -> None:
        self._view = view
        self._partition = partition
        self._state = state
        self._clock = clock
        self._on_rewind = on_rewind
        self.since = since or Position()
        self._is_lost = since is None
        self._is_rewriting = False
        self._rewrites = 0
        self._is_write_failing = False
        self._is_heartbeat_failing = False
        self._confirmed_at = clock.monotonic()
        self._wake = asyncio.Event()
        self.wants_rest = False
        """Whether it waits for a state without anything that is not committed."""
        self._steps = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._is_written = asyncio.Event()
        self._waiting = 0
        """How many wait for the view to stand where the state does."""
        self._is_due = asyncio.Event()
        """Set while the next write is not to be put off."""
        if self._is_lost or state.pending or state.position != self.since:
            self._wake.set()

    # What the partition asks

    @property
    def is_behind(self) -> bool:
        """Whether the view did not answer, or has lost what it held."""
        return self._is_lost or self._is_write_failing or self._is_heartbeat_failing

    @property
    def holds_trades(self) -> bool:
        """Whether closed trades are to wait: it is behind, or written anew, and as much would have come meanwhile."""
        return self.is_behind or self._is_rewriting

    @property
    def expected(self) -> Expected | None:
        """What a heartbeat that is sent now must find; None while the view is not whole."""
        if self._is_lost or self._is_rewriting:
            return None
        return Expected(self.since, self._rewrites)

    @property
    def age_s(self) -> float:
        """Time since the view last confirmed to stand where it should [s]."""
        return self._clock.monotonic() - self._confirmed_at

    @property
    def is_degraded(self) -> bool:
        """Whether decisions are made from a table that the view has not confirmed lately."""
        return self.is_behind or self.age_s > _DEGRADED_AFTER_S

    def begin_step(self) -> None:
        """Say that the state is about to hold what is not committed."""
        self._steps += 1
        self._at_rest.clear()

    def end_step(self) -> None:
        """Say that the oldest step is committed."""
        self._steps -= 1
        if not self._steps:
            self._at_rest.set()
        if self._state.position != self.since:
            self._wake.set()
        self._look_if_due()

    # The work

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            FencedError: Somebody else writes this partition.
            RefusedError: The view belongs to other settings.
        """
        while True:
            await self._wake.wait()
            self.wants_rest = True
            while not self._at_rest.is_set():
                await self._at_rest.wait()
            self.wants_rest = False
            rest_s = await self._write()
            if self._state.position == self.since:
                self._is_written.set()
                self._is_written.clear()
            else:
                self._wake.set()
            await self._rest(rest_s)

    async def _write(self) -> float:
        """Let the view have what was changed; give how long to rest afterwards [s].

        Apart from `run`, which would keep what was written while it rests.
        """
        # no await from here to the prepared write: the state stands still
        self._wake.clear()
        state = self._state
        rewrites = self._is_lost or state.is_scattered or _is_most(state)
        if rewrites:
            state.touch_all()
        rest_s = _REST_S if state.pending < _SOME else _LONG_REST_S
        delta = self._view.prepare(self._partition, state, self.since)
        state.pack()
        self._look_if_due()
        self._rewrites += rewrites
        self._is_rewriting = rewrites
        await self._deliver(delta, rewrites=rewrites)
        self._is_rewriting = False
        return rest_s

    async def _rest(self, rest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._is_due.wait()

    def _look_if_due(self) -> None:
        if self._is_lost or self._waiting or self._state.pending >= _MANY:
            self._is_due.set()
        else:
            self._is_due.clear()

    async def _deliver(self, delta: D, *, rewrites: bool) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                if rewrites:
                    answer = await self._view.rewrite(delta)
                else:
                    answer = await self._view.write(delta)
            except TransientError:
                self._is_write_failing = True
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)
                continue
            self._is_write_failing = False
            match answer:
                case WriteAnswer.APPLIED | WriteAnswer.ALREADY_APPLIED:
                    self.since = delta.position
                    self._is_lost = False
                    self._confirm()
                    return
                case WriteAnswer.REWOUND:
                    self._lose()
                    return
                case WriteAnswer.OTHER_OWNER:
                    raise FencedError(f"partition {self._partition}: the view has another writer")
                case WriteAnswer.META_MISMATCH:
                    raise RefusedError(
                        f"partition {self._partition}: its view was folded with other settings by "
                        "another worker meanwhile"
                    )

    def _confirm(self) -> None:
        self._confirmed_at = self._clock.monotonic()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._on_rewind()
        self._wake.set()
        self._look_if_due()

    async def written(self) -> None:
        """Wait until the view stands where the state does; the caller limits the time."""
        self._waiting += 1
        self._look_if_due()
        try:
            while self._is_lost or self._state.position != self.since:
                await self._is_written.wait()
        finally:
            self._waiting -= 1
            self._look_if_due()

    # The heartbeat

    def heard(self, position: Position | None, expected: Expected | None) -> None:
        """Take a heartbeat's answer.

        Args:
            position: Where the view stood; None when nothing whole was there.
            expected: What `expected` was when it was sent: later writes may have passed it.
        """
        if expected is None or expected.rewrites != self._rewrites:
            self._is_heartbeat_failing = False
            return  # it was being written anew, or is since then: not whole in between
        if position is None or not position.reaches(expected.position):
            self._lose()
            return
        self._is_heartbeat_failing = False
        if not self._is_write_failing:  # a server that reads and does not write confirms nothing
            self._confirm()

    def not_heard(self) -> None:
        """Take note that a heartbeat was not answered."""
        self._is_heartbeat_failing = True


def _is_most(state: PartitionState) -> bool:
    """Tell whether much has changed, and most of all there is."""
    fields = state.pending_fields
    return fields > REWRITE_FROM and 2 * fields > state.all_fields
