"""What is done to workers, brokers, Redis and the ways between them."""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from chaos.brokers import ChaosBroker
from chaos.fleet import KILLED, Fleet, Slot
from chaos.points import MOMENTS, OPENING, RARE, SERVING, Moment
from chaos.redis_nodes import ChaosRedis
from chaos.servers import Servers

_HIT_LIMIT_S, _OPENING_LIMIT_S = 5.0, 15.0
"""Longest wait for a worker to come to the place; then it is struck where it stands [s]. An opening
has to wait until the group misses the one before."""


@dataclass(slots=True)
class Done:
    """What was done so far."""

    counts: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    """Strikes by place."""
    failures: list[str] = field(default_factory=list)
    readiness: Counter[str] = field(default_factory=Counter)
    """What `/readyz` said while a server was away."""
    kept_pauses: int = 0
    """Pauses longer than the session timeout: zombies."""


class Hand:
    """Carries faults out; each method is one fault from its beginning to its end.

    Args:
        servers: To be hurt.
        fleet: To be hurt.
        rng: Of all draws.
        session_s: Session timeout of the workers [s].
    """

    def __init__(
        self, servers: Servers, fleet: Fleet, rng: random.Random, *, session_s: float
    ) -> None:
        self.done = Done()
        self._servers = servers
        self._fleet = fleet
        self._rng = rng
        self._session_s = session_s
        self._points = _endless(rng, [*SERVING, *SERVING, *OPENING, *RARE])
        self._brokers = _endless(rng, servers.brokers)
        self._nodes = _endless(rng, servers.redis_nodes)
        self._losses = _endless(
            rng, [self._redis_kill, self._redis_wipe, self._redis_roll_back, self._redis_flush]
        )

    # Workers

    async def kill(self, slot: Slot) -> None:
        """Kill a worker at a named place, or where it stands; start it again after a moment."""
        self._fleet.held.add(slot.name)
        try:
            if not await slot.ended(await self._strike(slot, signal.SIGKILL)):
                slot.control.disarm()
                slot.kill()
                self.done.struck["anywhere"] += 1
            else:
                self._note_place(slot)
            self.done.counts["kills"] += 1
            self._note_exit(slot)
            await asyncio.sleep(self._rng.uniform(0.0, 1.5))
            slot.start()
        finally:
            self._fleet.held.discard(slot.name)

    async def pause(self, slot: Slot) -> None:
        """Freeze a worker at a named place, or where it stands, mostly for longer than its session."""
        self._fleet.held.add(slot.name)
        try:
            if not await slot.stopped_by_itself(await self._strike(slot, signal.SIGSTOP)):
                slot.control.disarm()
                slot.signal(signal.SIGSTOP)
                self.done.struck["anywhere"] += 1
            else:
                self._note_place(slot)
            hold_s = self._session_s * self._rng.uniform(0.3, 2.0)
            self.done.kept_pauses += hold_s > self._session_s
            await asyncio.sleep(hold_s)
            slot.signal(signal.SIGCONT)
            self.done.counts["pauses"] += 1
        finally:
            self._fleet.held.discard(slot.name)

    async def _strike(self, slot: Slot, number: signal.Signals) -> float:
        """Order a strike; give the longest time it may take [s]."""
        point = next(self._points)
        moments: list[Moment] = [*MOMENTS]
        if number is signal.SIGSTOP:
            moments.remove("during")  # frozen in the middle of a call is what "anywhere" does
        moment = self._rng.choice(moments)
        passages = self._rng.randint(1, 30) if point in SERVING else self._rng.randint(1, 2)
        slot.control.arm(point, moment, number, passages)
        if point in OPENING and number is signal.SIGKILL:
            # it opens nothing by itself: one more kill makes it
            slot.kill()
            self.done.counts["kills"] += 1
            self.done.struck["anywhere"] += 1
            self._note_exit(slot)
            slot.start()
            return _OPENING_LIMIT_S
        return _HIT_LIMIT_S

    def _note_place(self, slot: Slot) -> None:
        is_armed, point, moment, *_ = slot.control.read()
        if not is_armed:  # else it ended of something else
            self.done.struck[f"{moment} {point}"] += 1

    def _note_exit(self, slot: Slot) -> None:
        code = slot.exit_code
        if code not in {KILLED, None}:
            self.done.failures.append(f"{slot.name} ended with {code}\n{slot.tail()}")

    async def jump_clock(self, slot: Slot) -> None:
        """Move a worker's wall clock by an hour, and back after a while."""
        slot.control.set_clock(self._rng.choice((-3600, 3600)))
        await asyncio.sleep(self._rng.uniform(2.0, 6.0))
        slot.control.set_clock(0)
        self.done.counts["clock jumps"] += 1

    # Brokers

    async def kill_broker(self) -> None:
        """Kill a broker and start it again."""
        broker = next(self._brokers)
        broker.kill()
        await self._watched("broker dead", self._rng.uniform(0.5, 4.0))
        await broker.start()
        self.done.counts["broker kills"] += 1

    async def freeze_broker(self) -> None:
        """Freeze a broker: it keeps its connections and answers nothing."""
        broker: ChaosBroker = next(self._brokers)
        broker.pause()
        try:
            await self._watched("broker frozen", self._rng.uniform(3.0, 12.0))
        finally:
            broker.resume()
        self.done.counts["broker freezes"] += 1

    # Redis

    async def lose_redis(self) -> None:
        """Let Redis lose something, in one way after the other."""
        await next(self._losses)(next(self._nodes))
        self.done.counts["redis losses"] += 1

    async def _redis_kill(self, node: ChaosRedis) -> None:
        node.kill()
        await self._watched("redis dead", self._rng.uniform(0.2, 4.0))
        await node.start()
        self.done.counts["redis kills"] += 1

    async def _redis_wipe(self, node: ChaosRedis) -> None:
        await node.lose_files()
        self.done.counts["redis wipes"] += 1

    async def _redis_roll_back(self, node: ChaosRedis) -> None:
        node.keep_files()
        await asyncio.sleep(self._rng.uniform(1.0, 4.0))
        await node.roll_back()
        self.done.counts["redis roll-backs"] += 1

    async def _redis_flush(self, node: ChaosRedis) -> None:
        async with Redis.from_url(node.url) as client:
            await client.flushall()
        self.done.counts["redis flushes"] += 1

    async def freeze_redis(self) -> None:
        """Freeze Redis."""
        node: ChaosRedis = next(self._nodes)
        node.pause()
        try:
            await self._watched("redis frozen", self._rng.uniform(2.0, 8.0))
        finally:
            node.resume()
        self.done.counts["redis freezes"] += 1

    # The ways between them

    async def hurt_network(self) -> None:
        """Make a way slow, cut it, let it be mute in one direction, or lose replies."""
        is_kafka = self._rng.random() < 0.5 or not self._servers.redis_proxies
        proxies = self._servers.kafka_proxies if is_kafka else self._servers.redis_proxies
        name = "kafka" if is_kafka else "redis"
        proxy = self._rng.choice(proxies)
        kind = self._rng.choice(("slow", "cut", "mute up", "mute down", "lost replies"))
        if kind == "slow":
            proxy.delay_s = self._rng.uniform(0.02, 0.3)
        elif kind == "cut":
            proxy.cut()
        elif kind == "mute up":
            proxy.mute("up")
        elif kind == "mute down":
            proxy.mute("down")
        else:
            proxy.lose_replies(self._rng.randint(1, 8))
        try:
            await asyncio.sleep(self._rng.uniform(2.0, 8.0))
        finally:
            proxy.heal()
        self.done.counts[f"{name} {kind}"] += 1

    async def _watched(self, what: str, seconds: float) -> None:
        """Wait, and note at the end what the workers' readiness says."""
        await asyncio.sleep(seconds)
        for slot in self._fleet.slots:
            if slot.name in self._fleet.held:
                continue
            status, body = await slot.readiness()
            reasons = "; ".join(body.get("reasons", [])) or "ready" if status else "no answer"
            self.done.readiness[f"{what}: {status} {_shortened(reasons)}"] += 1


def _shortened(reasons: str) -> str:
    return " ".join(word for word in reasons.split() if not any(c.isdigit() for c in word))[:120]


def _endless(rng: random.Random, things: Any) -> Any:
    """Give things in random order, all of them before any comes again."""
    while True:
        yield from rng.sample(list(things), len(things))


Fault = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Lane:
    """Faults that follow each other, each not before the run has come that far.

    Args:
        faults: In their order.
    """

    name: str
    faults: list[Fault]

    async def run(self, progress: Callable[[], float], check: Callable[[], None]) -> None:
        """Carry the faults out over the whole run."""
        for number, fault in enumerate(self.faults):
            while progress() < (number + 0.5) / len(self.faults) * 0.97:
                check()
                await asyncio.sleep(0.1)
            await fault()


async def run_lanes(
    lanes: list[Lane], progress: Callable[[], float], check: Callable[[], None]
) -> None:
    """Run lanes beside each other; the first error ends them all."""
    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            tasks.create_task(lane.run(progress, check), name=lane.name)


@contextlib.asynccontextmanager
async def running(*works: Awaitable[Any]) -> Any:
    """Let some works go on meanwhile; an error of theirs is raised at the end."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
