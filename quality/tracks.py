"""What is played: the kinds of worlds, and who plays them in this environment."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.measures import Ints
from quality.market import rules, skilled
from quality.product import Product, entrants
from quality.scene import Scene
from quality.scoring import Tally, tally_picks, tally_profits
from quality.simulated import ARMS, DEFAULT, changing, shuffled, specified, telling
from quality.worlds import Always, Chooser, Uniform, World, play

ALWAYS = f"always {ARMS[DEFAULT]}"
UNIFORM = "uniform"


@dataclass(frozen=True, slots=True)
class Track:
    """One kind of worlds."""

    name: str
    title: str
    make: Callable[[int], Scene]
    """Gives a world from its seed."""
    every: int
    """Worlds: one for so many of the seeds asked for."""
    tally: Callable[[Sequence[World], Sequence[Mapping[str, Ints]]], Tally]
    has_prices: bool = False

    def worlds(self, seeds: int) -> int:
        """Give how many worlds are played; at least one."""
        return max(1, seeds // self.every)


TRACKS = (
    Track("A", "the specification's simulation", specified, 1, tally_picks),
    Track("B", "the same, any strategy may be the good one", shuffled, 1, tally_picks),
    Track("C", "seven regimes, the best strategies change half-way", changing, 4, tally_picks),
    Track("D", "what is measured of signals tells the best strategy", telling, 20, tally_picks),
    Track(
        "SKILL",
        "real prices, sides that partly know the future",
        skilled,
        16,
        lambda worlds, arms: tally_profits(worlds, arms, by_week=False),
        has_prices=True,
    ),
    Track(
        "RULES",
        "real prices, the demo's rules",
        rules,
        80,
        lambda worlds, arms: tally_profits(worlds, arms, by_week=True),
        has_prices=True,
    ),
)
BY_NAME = {track.name: track for track in TRACKS}


def choosers(scene: Scene, seed: int) -> dict[str, Callable[[], Chooser]]:
    """Give all contestants of this environment, by name."""
    world = scene.world
    return {
        **{
            entrant.name: lambda entrant=entrant: Product(entrant, scene, seed)  # type: ignore[misc]
            for entrant in entrants(scene)
        },
        ALWAYS: lambda: Always(world.default),
        UNIFORM: lambda: Uniform(world.rewards.shape[1], seed),
    }


def play_world(task: tuple[str, int, Path]) -> None:
    """Play one world, and leave it with the choices in a folder.

    Args:
        task: The track's name, the seed, the folder.
    """
    name, seed, folder = task
    scene = BY_NAME[name].make(seed)
    done: dict[str, Ints | float] = {}
    for who, make in choosers(scene, seed).items():
        began = time.process_time()
        done[who] = play(make(), scene.world)
        done[f"us:{who}"] = (time.process_time() - began) / len(scene.world) * 1e6
    np.savez_compressed(folder / f"{name}.{seed:05}.product.npz", **done)  # type: ignore[arg-type]
    scene.world.save(folder / f"{name}.{seed:05}.world.npz")
