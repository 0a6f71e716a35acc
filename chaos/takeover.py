"""How long answers stay away after a worker was killed, beside a plain worker's."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from aiokafka.errors import KafkaError

from bench.broker import PARTITIONS
from chaos.fleet import Slot
from chaos.scene import GROUP, Scene
from chaos.servers import Servers
from chaos.storm import SESSION_S
from consumer.errors import TransientError
from consumer.stream.clients import admin_client

CONTENDERS = ("worker", "plain")
_ROUNDS = 2
_GAP_LIMIT_S = 90.0
_QUIET_S = 1.0
"""With answers from every partition for so long, the group is taken to be at work [s]."""
_OVER_S = SESSION_S + 3.0
"""By then the dead member is missed, and the group is at work again or still silent [s]."""


class Arrivals:
    """When answers came in from each partition."""

    def __init__(self) -> None:
        self.moments: dict[int, list[float]] = {n: [] for n in range(PARTITIONS)}

    def note(self, partition: int, moment: float, count: int) -> None:
        """Take note of `count` answers read at once."""
        del count
        self.moments[partition].append(moment)

    def gap_s(self, killed: float) -> float | None:
        """Give the longest silence of a partition around a kill [s]; None while it may go on."""
        now = time.monotonic()
        if now - killed < _OVER_S or any(m[-1] < now - _QUIET_S for m in self.moments.values()):
            return None
        longest = 0.0
        for moments in self.moments.values():
            before = max(moment for moment in moments if moment <= killed)
            near = [before, *(moment for moment in moments if moment > killed)]
            longest = max(longest, *(b - a for a, b in pairwise(near)))
        return longest

    def forget(self, before: float) -> None:
        """Drop what is old."""
        for number, moments in self.moments.items():
            self.moments[number] = [m for m in moments if m > before]


async def measure(
    *, kills: int, rate: float, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Kill one of two workers again and again, the contenders by turns."""
    gaps: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(_ROUNDS):
        for contender in CONTENDERS if number % 2 == 0 else CONTENDERS[::-1]:
            wanted = kills * (number + 1) // _ROUNDS - len(gaps[contender])
            gaps[contender] += await _round(contender, wanted, rate, seed + number, say)
    return {
        "what": "takeover",
        "seed": seed,
        "session_s": SESSION_S,
        "rate": rate,
        "gaps_s": gaps,
        "p50_s": {name: percentile(found, 0.5) for name, found in gaps.items()},
        "p99_s": {name: percentile(found, 0.99) for name, found in gaps.items()},
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def _round(
    contender: str, kills: int, rate: float, seed: int, say: Callable[[str], None]
) -> list[float]:
    arrivals = Arrivals()
    async with Servers() as servers:
        scene = Scene(
            servers,
            workers=2,
            session_s=SESSION_S,
            rate=rate,
            total=None,
            share=0.5,
            seed=seed,
            poison=False,
            contender=contender,
            on_arrival=arrivals.note,
        )
        async with scene:
            found = []
            await _at_work(scene, arrivals)
            for number in range(kills):
                victim = scene.fleet.slots[number % 2]
                found.append(await _kill(scene, victim, arrivals))
                say(f"takeover: {contender}: kill {number + 1} of {kills}: {found[-1]:.2f} s")
                victim.start()
                await _at_work(scene, arrivals)
            return found


async def _kill(scene: Scene, victim: Slot, arrivals: Arrivals) -> float:
    killed = time.monotonic()
    victim.kill()
    while (gap := arrivals.gap_s(killed)) is None:
        scene.traffic.check()
        if time.monotonic() - killed > _GAP_LIMIT_S:
            tails = "\n".join(slot.tail() for slot in scene.fleet.slots)
            raise TimeoutError(f"no answers within {_GAP_LIMIT_S:g} s of a kill\n{tails}")
        await asyncio.sleep(0.1)
    arrivals.forget(time.monotonic() - _QUIET_S)
    return gap


async def _at_work(scene: Scene, arrivals: Arrivals) -> None:
    """Wait until both are members, and all partitions have answered since."""
    deadline = time.monotonic() + _GAP_LIMIT_S
    while True:
        if time.monotonic() > deadline:
            tails = "\n".join(slot.tail() for slot in scene.fleet.slots)
            raise TimeoutError(f"the group does not come to rest\n{tails}")
        scene.traffic.check()
        try:
            members, state = await _group(scene)
        except (KafkaError, TransientError):
            members, state = 0, ""
        if (members, state) == (2, "Stable"):
            since = time.monotonic()
            await asyncio.sleep(2 * _QUIET_S)
            if all(m and m[-1] > since for m in arrivals.moments.values()):
                return
        await asyncio.sleep(0.2)


async def _group(scene: Scene) -> tuple[int, str]:
    async with admin_client(scene.servers.connection) as admin:
        (response,) = await admin.describe_consumer_groups([GROUP])
        ((_, _, state, _, _, members, *_),) = response.groups
        return len(members), state
