"""Steady traffic with random faults: is memory flat, and is no lag left?"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from chaos.faults import Fault, Hand, running
from chaos.scene import Scene
from chaos.servers import Servers
from chaos.storm import SESSION_S, outcome

_SAMPLE_S = 5.0
_FAULT_EVERY_S = (15.0, 45.0)
_WARM = 1 / 3
"""Share of the time in which windows fill and memory is to grow [1]."""


async def measure(
    *,
    minutes: float,
    signals_per_s: float,
    trades_per_s: float,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run two workers: one lives all through, the other is killed and paused, servers are hurt.

    Args:
        minutes: How long.
        signals_per_s: Pace.
        trades_per_s: Pace of closed trades, as a share of the decisions.
        seed: Of all draws.
        say: Told how it goes.
    """
    started = time.monotonic()
    samples: list[tuple[float, float, int]] = []
    async with Servers() as servers:
        scene = Scene(
            servers,
            workers=2,
            session_s=SESSION_S,
            rate=signals_per_s,
            total=None,
            share=min(1.0, trades_per_s / signals_per_s),
            seed=seed,
        )
        async with scene:
            rng = random.Random(seed)
            hand = Hand(servers, scene.fleet, rng, session_s=SESSION_S)
            ends_at = time.monotonic() + minutes * 60
            lived = scene.fleet.slots[0]

            async def sample() -> None:
                while True:
                    await asyncio.sleep(_SAMPLE_S)
                    tally = scene.traffic.tally
                    behind = tally.signals - tally.answered
                    samples.append((time.monotonic() - started, lived.rss_mib, behind))
                    if len(samples) % 6 == 0:
                        say(
                            f"soak: {tally.signals:,} sent, {behind:,} behind, {tally.trades:,} "
                            f"trades, {lived.rss_mib:.0f} MiB; {dict(hand.done.counts)}"
                        )

            async with running(scene.fleet.watch(), sample()):
                while time.monotonic() < ends_at:
                    wait_s = min(rng.uniform(*_FAULT_EVERY_S), ends_at - time.monotonic())
                    await asyncio.sleep(max(0.0, wait_s))
                    scene.traffic.check()
                    await _one_fault(hand, scene, rng)
                await scene.traffic.stop_sending()
                settled_s = await scene.settled()
            result = await outcome(scene, hand, settled_s, say)
    times = [t for t, *_ in samples]
    calm = [s for s in samples if s[0] >= times[-1] * _WARM]
    return {
        "what": "soak",
        "seed": seed,
        "minutes": minutes,
        "signals_per_s": signals_per_s,
        "trades_per_s": trades_per_s,
        "took_s": time.monotonic() - started,
        "rss_mib": [round(rss, 1) for _, rss, _ in samples],
        "rss_slope_mib_per_h": slope([(t / 3600, rss) for t, rss, _ in calm]),
        "rss_start_mib": calm[0][1],
        "rss_end_mib": calm[-1][1],
        "behind_most": max(behind for *_, behind in samples),
        "tally": {
            "signals": scene.traffic.tally.signals,
            "trades": scene.traffic.tally.trades,
        },
        **result,
    }


async def _one_fault(hand: Hand, scene: Scene, rng: random.Random) -> None:
    victim = scene.fleet.slots[1]
    faults: list[Fault] = [
        partial(hand.kill, victim),
        partial(hand.pause, victim),
        hand.kill_broker,
        hand.freeze_broker,
        hand.lose_redis,
        hand.freeze_redis,
        hand.hurt_network,
        hand.hurt_network,
    ]
    await rng.choice(faults)()


def slope(points: list[tuple[float, float]]) -> float:
    """Give the slope of the line of least squares."""
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
