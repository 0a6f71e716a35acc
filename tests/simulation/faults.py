"""What is done to the workers and their servers, drawn from a seed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.view import LATE_S

if TYPE_CHECKING:
    from tests.simulation.schedule import World
    from tests.simulation.worker import SimulatedWorker

_FROM_S = 0.1
GRACE_S = 9.0
"""Time of a worker to stop; then it is killed, as the real one kills itself [s]."""
_STEPS = 150
"""A fault that waits for a step of its process comes within so many."""


class Faults:
    """Draws the faults of a schedule and lets them come.

    Args:
        world: To whom they are done.
        until_s: When the last of them begins, if it waits for no step of a worker.
    """

    def __init__(self, world: "World", until_s: float) -> None:
        self._world = world
        self._until_s = until_s
        self._loop = world.loop
        self._draw = world.rng.random
        self.quiet_s = 0.0
        """When the last fault is over [s]; may still move until then."""
        self._is_quiet = False

    def plan(self) -> None:
        """Schedule all faults."""
        kinds: list[tuple[float, Callable[[float], None]]] = [
            (3.0, self._kill),
            (4.0, self._pause),
            (1.5, self._isolate),
            (1.0, self._broker_away),
            (1.5, self._bad_network),
            (1.2, self._slow_end),
            (0.8, self._stale_end),
            (1.0, self._stop),
            (1.0, self._join),
            (0.7, self._wipe),
            (0.7, self._roll_back),
            (0.7, self._view_away),
            (1.0, self._bad_view),
            (0.3, self._skew),
        ]
        total = sum(weight for weight, _ in kinds)
        for _ in range(1 + int(self._draw() * 5)):
            at_s = _FROM_S + (self._until_s - _FROM_S) * self._draw()
            pick = self._draw() * total
            for weight, kind in kinds:
                pick -= weight
                if pick < 0:
                    kind(at_s)
                    break
        self._loop.outside(self.quiet_s, self._be_quiet)

    def _be_quiet(self) -> None:
        self._is_quiet = True
        for worker in self._world.workers:
            worker.process.trip_at = 0
            worker.process.slow_end = None
            worker.process.stale_end = False

    def _lasts(self, at_s: float, duration_s: float) -> None:
        self.quiet_s = max(self.quiet_s, at_s + duration_s)

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        self._lasts(at_s, 0.0)
        self._loop.outside(at_s, act)

    def _worker(self) -> "SimulatedWorker | None":
        workers = self._world.workers
        return workers[int(self._draw() * len(workers))] if workers else None

    def _strike(self, at_s: float, act: "Callable[[SimulatedWorker], None]") -> None:
        """Let something befall a worker at a time, or at one of its next steps."""
        in_steps = int(self._draw() * _STEPS) if self._draw() < 0.6 else 0

        def strike() -> None:
            worker = self._worker()
            if worker is None:
                return
            if in_steps and not worker.process.trip_at:
                self._trip(worker, in_steps, act)
            else:
                act(worker)

        self._at(at_s, strike)

    def _trip(
        self, worker: "SimulatedWorker", steps: int, act: "Callable[[SimulatedWorker], None]"
    ) -> None:
        process = worker.process

        def trip() -> None:
            process.trip_at = 0
            act(worker)

        process.on_trip, process.trip_at = trip, process.steps + steps

    def _start(self) -> None:
        worker = self._world.start_worker()
        if not self._is_quiet and self._draw() < 0.3:  # openings are where it is dangerous
            steps = 1 + int(self._draw() * _STEPS)
            self._trip(worker, steps, self._stand_still if self._draw() < 0.6 else self._die)

    # Workers

    def _kill(self, at_s: float) -> None:
        self._strike(at_s, self._die)

    def _die(self, worker: "SimulatedWorker") -> None:
        if worker not in self._world.workers:
            return
        self._world.kill(worker)
        self._start_soon()

    def _start_soon(self) -> None:
        delay_s = 0.05 + self._draw() * 2.0
        self._lasts(self._loop.time(), delay_s)
        self._loop.outside(delay_s, self._start)

    def _pause(self, at_s: float) -> None:
        self._strike(at_s, self._stand_still)

    def _stand_still(self, worker: "SimulatedWorker") -> None:
        process = worker.process
        if process.is_paused:
            return
        self._world.say(f"{worker.name} stands still")
        process.is_paused = True
        self._world.cluster.suspect(process)

        def go_on() -> None:
            self._world.say(f"{worker.name} goes on")
            self._loop.resume(process)

        self._loop.outside(self._silence_s(), go_on)

    def _silence_s(self) -> float:
        """Shorter than a session's timeout, about as long, or longer."""
        kind, more = self._draw(), self._draw()
        silence_s = 0.6 * more if kind < 0.3 else 1.1 + more if kind < 0.75 else 2.0 + 3.0 * more
        self._lasts(self._loop.time(), silence_s)
        return silence_s

    def _isolate(self, at_s: float) -> None:
        self._strike(at_s, self._part)

    def _part(self, worker: "SimulatedWorker") -> None:
        process = worker.process
        if process.is_isolated:
            return
        self._world.say(f"{worker.name} reaches nobody")
        process.is_isolated = True
        self._world.cluster.suspect(process)

        def heal() -> None:
            self._world.say(f"{worker.name} reaches all again")
            process.is_isolated = False
            self._world.cluster.network.deliver_held()

        self._loop.outside(self._silence_s(), heal)

    def _stop(self, at_s: float) -> None:

        def stop() -> None:
            worker = self._worker()
            if worker is None:
                return
            self._world.say(f"{worker.name} is told to stop")
            worker.stop.set()
            self._loop.outside(GRACE_S, self._world.kill, worker)
            self._start_soon()

        self._at(at_s, stop)

    def _join(self, at_s: float) -> None:
        self._at(at_s, self._start)

    def _skew(self, at_s: float) -> None:
        def skew(worker: "SimulatedWorker") -> None:
            worker.process.skew_s = 3600.0 if self._draw() < 0.5 else -3600.0

        self._strike(at_s, skew)

    def _slow_end(self, at_s: float) -> None:
        long_s = 11.0 if self._draw() < 0.2 else 1.1
        delay_s = long_s * (1.0 + 0.5 * self._draw())
        delays = (delay_s, 0.0) if self._draw() < 0.6 else (0.0, delay_s)

        def slow(worker: "SimulatedWorker") -> None:
            self._world.say(f"{worker.name} ends its next transaction slowly: {delays}")
            worker.process.slow_end = delays

        self._lasts(at_s, delay_s)
        self._strike(at_s, slow)

    def _stale_end(self, at_s: float) -> None:
        def make_stale(worker: "SimulatedWorker") -> None:
            self._world.say(f"the next end of {worker.name} is lost, and comes late")
            worker.process.stale_end = True

        self._lasts(at_s, 2.5)
        self._strike(at_s, make_stale)

    # Servers

    def _for_a_while(self, at_s: float, longest_s: float, thing: Any, name: str) -> None:
        duration_s = longest_s * self._draw()
        self._lasts(at_s, duration_s)

        def begin() -> None:
            self._world.say(f"{type(thing).__name__} {name}")
            setattr(thing, name, True)

        def end() -> None:
            self._world.say(f"{type(thing).__name__} {name} no more")
            setattr(thing, name, False)
            self._world.cluster.network.deliver_held()

        self._at(at_s, begin)
        self._at(at_s + duration_s, end)

    def _broker_away(self, at_s: float) -> None:
        longest_s = 14.0 if self._draw() < 0.1 else 2.0
        self._for_a_while(at_s, longest_s, self._world.cluster.network, "is_away")

    def _bad_network(self, at_s: float) -> None:
        self._for_a_while(at_s, 1.5, self._world.cluster.network, "is_bad")

    def _view_away(self, at_s: float) -> None:
        self._for_a_while(at_s, 2.5, self._world.store, "is_away")

    def _bad_view(self, at_s: float) -> None:
        self._lasts(at_s, 2.5 + LATE_S + 0.5)  # what was held up may come so late
        self._for_a_while(at_s, 2.5, self._world.store, "is_bad")

    def _wipe(self, at_s: float) -> None:
        def wipe() -> None:
            self._world.say("the view is wiped")
            self._world.store.wipe()

        self._at(at_s, wipe)

    def _roll_back(self, at_s: float) -> None:
        steps = 1 + int(self._draw() * 8)

        def roll_back() -> None:
            self._world.say(f"the view loses its last {steps} writes")
            self._world.store.roll_back(steps)

        self._at(at_s, roll_back)
