"""Faults of all kinds under traffic, then everything compared: the storm, and its kin."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal

from chaos.faults import Fault, Hand, Lane, run_lanes, running
from chaos.scene import Scene
from chaos.servers import Servers

SESSION_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done, and how often, while how much is sent."""

    what: str
    seed: int
    signals: int
    share: float
    rate: float
    workers: int = 3
    brokers: Literal[1, 3] = 1
    redis_nodes: Literal[1, 3] = 1
    kills: int = 0
    pauses: int = 0
    broker_kills: int = 0
    broker_freezes: int = 0
    redis_losses: int = 0
    redis_freezes: int = 0
    network: int = 0
    clock_jumps: int = 0
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    candles: bool = False
    """Whether signals are followed on paper."""
    has_refusals: bool = False
    """Whether starts that must be refused are tried at the end."""


def lanes_of(plan: Plan, hand: Hand, scene: Scene, rng: random.Random) -> list[Lane]:
    """Share the faults out: what must not overlap stands in one lane."""
    slots = scene.fleet.slots
    of_slot: dict[str, list[Fault]] = {s.name: [] for s in slots}
    for number in range(plan.kills):
        slot = slots[number % len(slots)]
        of_slot[slot.name].append(partial(hand.kill, slot))
    for number in range(plan.pauses):
        slot = slots[number % len(slots)]
        of_slot[slot.name].append(partial(hand.pause, slot))
    for number in range(plan.clock_jumps):
        slot = slots[number % len(slots)]
        of_slot[slot.name].append(partial(hand.jump_clock, slot))
    lanes = [Lane(name, faults) for name, faults in of_slot.items()]
    shared: list[tuple[str, list[tuple[Fault, int]]]] = [
        (
            "brokers",
            [(hand.kill_broker, plan.broker_kills), (hand.freeze_broker, plan.broker_freezes)],
        ),
        ("redis", [(hand.lose_redis, plan.redis_losses), (hand.freeze_redis, plan.redis_freezes)]),
        ("network", [(hand.hurt_network, plan.network)]),
    ]
    for name, wanted in shared:
        lanes.append(Lane(name, [fault for fault, count in wanted for _ in range(count)]))
    for lane in lanes:
        rng.shuffle(lane.faults)
    return [lane for lane in lanes if lane.faults]


async def run(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry a plan out, and compare everything at its end."""
    started = time.monotonic()
    servers = Servers(brokers=plan.brokers, redis_nodes=plan.redis_nodes)
    async with servers:
        say(f"{plan.what}: servers run, logs in {servers.logs}")
        scene = Scene(
            servers,
            workers=plan.workers,
            session_s=SESSION_S,
            rate=plan.rate,
            total=plan.signals,
            share=plan.share,
            seed=plan.seed,
            candles=plan.candles,
            guarantee=plan.guarantee,
        )
        async with scene:
            rng = random.Random(plan.seed)
            hand = Hand(servers, scene.fleet, rng, session_s=SESSION_S)
            leaders: list[dict[str, int]] = [await servers.leaders()]

            async def progress_lines() -> None:
                await _tell(scene, hand, say)

            async with running(scene.fleet.watch(), progress_lines()):
                lanes = lanes_of(plan, hand, scene, rng)
                await run_lanes(lanes, lambda: scene.traffic.progress, scene.traffic.check)
                await scene.traffic.is_sent.wait()
                say("the last fault is over: waiting for the rest")
                settled_s = await scene.settled()
                for slot in scene.fleet.slots:
                    await slot.wait_ready()
                leaders.append(await servers.leaders())
            result = await outcome(scene, hand, settled_s, say)
            refusals = await _refusals(scene) if plan.has_refusals else {}
            return {
                **asdict(plan),
                "took_s": time.monotonic() - started,
                **result,
                "coordinators": leaders,
                "refusals": refusals,
            }


async def outcome(
    scene: Scene, hand: Hand, settled_s: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Lose Redis once more with nothing going on, stop the workers, compare everything.

    Args:
        scene: Settled, nothing sent any more.
        hand: What was done.
        settled_s: How long it took to work everything off [s].
        say: Told how it goes.
    """
    idle_loss = await scene.lose_redis_idle()
    await scene.settled()
    lag = await scene.lag()
    rewinds = scene.fleet.counted("meta_strategy_rewinds_total")
    fenced = scene.fleet.counted("meta_strategy_fenced_total")
    stops = await scene.stop_workers()
    say("comparing")
    findings, hashes = await scene.judge()
    exits: Counter[str] = Counter()
    for slot in scene.fleet.slots:
        exits.update({str(code): n for code, n in slot.exits.items()})
    return {
        # asdict makes another Counter of a Counter: one of its pairs
        "faults": {f.name: getattr(hand.done, f.name) for f in fields(hand.done)},
        "findings": asdict(findings),
        "hashes": hashes,
        "settled_s": settled_s,
        "idle_loss": idle_loss,
        "lag": lag,
        "stops": stops,
        "rewinds": rewinds,
        "fenced": fenced,
        "unasked_exits": dict(exits),
        "tails": {
            slot.name: "\n".join(slot.last_words) or slot.tail()
            for slot, (code, _) in zip(scene.fleet.slots, stops, strict=True)
            if slot.exits or code
        },
        "secrets": scene.secrets_found(),
        "resent": scene.traffic.resent,
        "seen_again": scene.traffic.tally.seen_again,
        "starts": sum(slot.starts for slot in scene.fleet.slots),
    }


async def _tell(scene: Scene, hand: Hand, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(10)
        tally = scene.traffic.tally
        faults = ", ".join(f"{n} {name}" for name, n in sorted(hand.done.counts.items()))
        say(
            f"{tally.signals:,} sent, {tally.answered:,} answered, {tally.trades:,} trades; {faults}"
        )


async def _refusals(scene: Scene) -> dict[str, dict[str, Any]]:
    """Start workers that must refuse: exit code 1, and one line that says why."""
    found: dict[str, dict[str, Any]] = {}
    slot = scene.fleet.slots[0]
    for what, settings in (
        ("another alpha", {"META_STRATEGY_ALPHA": "0.3"}),
        ("another unit", {"META_STRATEGY_REWARD_UNIT": "risk"}),
    ):
        found[what] = await _refusal(slot, **settings)
    await scene.grow_signals()
    found["partition count changed"] = await _refusal(slot)
    return found


async def _refusal(slot: Any, **settings: str) -> dict[str, Any]:
    slot.start(**settings)
    if not await slot.ended(60.0):
        slot.kill()
    own = [line for line in slot.text().splitlines() if not line.startswith(("{", "["))]
    return {"exit_code": slot.exit_code, "line": own[-1] if own else ""}
