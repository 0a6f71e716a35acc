"""Choices -> how good they were, with intervals that pair contestants on the same worlds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lab.measures import LEAST_WEEKS, Floats, Interval, Ints, weeks_of
from quality.worlds import World, hindsight

_RESAMPLES = 2000
LEAST_UNITS = LEAST_WEEKS
"""Below it a resampled interval is far too narrow."""

CEILING = "best by symbol and regime in hindsight"
SINGLE = "best single strategy in hindsight"


def interval(values: Floats, weights: Floats, seed: int = 0) -> Interval | None:
    """Give a ratio of sums with its 95 % interval; what is drawn with replacement are units.

    Args:
        values: Sum of what is measured, by unit: a seed, a world or a week.
        weights: What it is divided by, by unit; at least 0.
        seed: Of the draws: with the same one, differences are those of the same draws.

    Returns:
        None where there are too few units to say, or nothing to divide by.

    Source: B. Efron & R. J. Tibshirani, An Introduction to the Bootstrap (1993), sections 8.6 and
        13.3.
    """
    size = len(values)
    if size < LEAST_UNITS or not weights.sum() > 0.0:
        return None
    drawn = _drawn(size, seed)
    bottom = drawn @ weights
    if not (bottom > 0.0).all():
        return None
    low, high = np.percentile((drawn @ values) / bottom, [2.5, 97.5])
    return Interval(float(values.sum() / weights.sum()), float(low), float(high))


@cache
def _drawn(size: int, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1.0 / size), size=_RESAMPLES)


@dataclass(frozen=True, slots=True)
class Tally:
    """What contestants did, by unit."""

    values: Mapping[str, Floats]
    """Optimal picks [1], or profits [R], of each contestant: sums by unit."""
    counts: Floats
    """Signals of each unit."""

    def score(self, name: str) -> Interval | None:
        """Give the share of optimal picks [1], or the mean profit [R]."""
        return interval(self.values[name], self.counts)

    def mean(self, name: str) -> float:
        """Give the same without an interval."""
        return float(self.values[name].sum() / self.counts.sum())

    def gain(self, name: str, other: str) -> Interval | None:
        """Give how much better one contestant was than another."""
        return interval(self.values[name] - self.values[other], self.counts)

    def share(self, name: str, default: str) -> Interval | None:
        """Give the gain over the default as a share of what hindsight would have gained [1]."""
        if CEILING not in self.values:
            return None
        base = self.values[default]
        return interval(self.values[name] - base, self.values[CEILING] - base)


def tally_picks(worlds: Sequence[World], arms: Sequence[Mapping[str, Ints]]) -> Tally:
    """Count optimal picks; a world is a unit."""
    values = {
        name: np.array([w.hits(a[name]).sum() for w, a in zip(worlds, arms, strict=True)])
        for name in arms[0]
    }
    return Tally(values, np.array([float(len(world)) for world in worlds]))


def tally_profits(
    worlds: Sequence[World], arms: Sequence[Mapping[str, Ints]], *, by_week: bool
) -> Tally:
    """Add up profits, hindsight's among them.

    Args:
        worlds: In any order.
        arms: Choices of each contestant in each world.
        by_week: Whether a calendar week of all worlds is a unit, else a world: what another market
            would have given, or what other skill in the same one.
    """
    whole = [
        {
            **chosen,
            CEILING: hindsight(world, world.symbols * 7 + world.regimes),
            SINGLE: hindsight(world, np.zeros_like(world.symbols)),
        }
        for world, chosen in zip(worlds, arms, strict=True)
    ]
    if by_week:
        units = weeks_of(np.concatenate([world.decided_ms for world in worlds]))
        units = np.unique(units, return_inverse=True)[1]
    else:
        units = np.repeat(np.arange(len(worlds)), [len(world) for world in worlds])
    values = {
        name: np.bincount(
            units,
            weights=np.concatenate(
                [world.earned(each[name]) for world, each in zip(worlds, whole, strict=True)]
            ),
        ).astype(np.float64)
        for name in whole[0]
    }
    return Tally(values, np.bincount(units).astype(np.float64))
