"""SIGTERM under load with all well, Kafka frozen or dead, Redis frozen: when does the process end?"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from chaos.faults import Hand
from chaos.scene import Scene
from chaos.servers import Servers
from chaos.storm import SESSION_S, outcome

KINDS = ("under load", "kafka frozen", "kafka dead", "redis frozen", "both frozen")
LIMIT_S = 10.0
_WORKERS = 4
_BEFORE_S = 1.5
"""Longest time a server is hurt before the signal comes [s]."""


async def measure(*, count: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Stop four workers at a time, `count` in all, the kinds by turns."""
    started = time.monotonic()
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    codes: dict[str, list[int | None]] = {kind: [] for kind in KINDS}
    rng = random.Random(seed)
    async with Servers() as servers:
        scene = Scene(
            servers,
            workers=_WORKERS,
            session_s=SESSION_S,
            rate=300.0,
            total=None,
            share=0.5,
            seed=seed,
        )
        async with scene:
            hand = Hand(servers, scene.fleet, rng, session_s=SESSION_S)
            done = 0
            number = 0
            while done < count:
                kind = KINDS[number % len(KINDS)]
                number += 1
                slots = scene.fleet.slots[: count - done]
                for slot in scene.fleet.slots:
                    await slot.metrics()
                results = await _stop(kind, servers, slots, rng)
                done += len(results)
                codes[kind] += [code for code, _ in results]
                took[kind] += [seconds for _, seconds in results]
                say(
                    f"stops: {done} of {count}, {kind}: "
                    + ", ".join(f"{s:.1f} s" for _, s in results)
                )
                for slot in slots:
                    slot.start()
                await asyncio.gather(*(slot.wait_ready() for slot in scene.fleet.slots))
                scene.traffic.check()
            await scene.traffic.stop_sending()
            settled_s = await scene.settled()
            result = await outcome(scene, hand, settled_s, say)
    in_time = sum(s <= LIMIT_S for found in took.values() for s in found)
    return {
        "what": "stops",
        "seed": seed,
        "count": count,
        "in_time": in_time,
        "exit_s": took,
        "exit_codes": codes,
        "took_s": time.monotonic() - started,
        **result,
    }


async def _stop(
    kind: str, servers: Servers, slots: list[Any], rng: random.Random
) -> list[tuple[int | None, float]]:
    (broker,), (redis,) = servers.brokers, servers.redis_nodes
    if kind in {"kafka frozen", "both frozen"}:
        broker.pause()
    if kind in {"redis frozen", "both frozen"}:
        redis.pause()
    if kind == "kafka dead":
        broker.kill()
    await asyncio.sleep(rng.uniform(0.0, _BEFORE_S))
    try:
        return list(await asyncio.gather(*(slot.stop(LIMIT_S + 5) for slot in slots)))
    finally:
        if kind == "kafka dead":
            await broker.start()
        else:
            broker.resume()
        redis.resume()
