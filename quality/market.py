"""Worlds of real prices: the bars that come with the package, traded by every strategy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np

from consumer.domain.features import features_of
from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.local.market_bars import BarSeries, shipped_bars
from consumer.local.paper_signals import Entry, plan_entries
from lab.outcomes import Costs, walk_all
from lab.progress import silent
from quality.scene import Scene
from quality.simulated import DEFAULT, REGIMES
from quality.worlds import World
from schemas import Side

SIGNALS = 2500
"""Of one world: about every third bar. More would be the same trades again."""

_INFORMED = {3: (0.5, 1.0), 12: (0.1, 0.4), 48: (0.05, 0.2)}
"""Share of the sides that are informed [1], drawn between these, by the bars ahead.

A side that is right about 48 bars earns far more than one that is right about 3: with equal shares
wide ladders would be the best everywhere, and one strategy enough.
"""
_GIVEN_BACK_BARS = 48
"""What is right about 3 bars is wrong by then: only near targets are reached before."""
_OWN = 0.5
"""How often a symbol departs from what its regime has in all symbols [1]."""
_REDRAWN = 0.5
"""How often a symbol's regime has other skill in the second half [1]."""


class Skill(NamedTuple):
    """What the source of signals knows of the future."""

    share: float
    """Of the sides that are informed [1]."""
    bars: int
    """Bars ahead that they are right about."""


def rules(seed: int, *, count: int = SIGNALS, series: Sequence[BarSeries] = ()) -> Scene:
    """Give signals by the demo's rules, a third each of three, with hardly any edge.

    Args:
        seed: Of the draw of moments.
        count: Of signals.
        series: Other bars than the shipped ones.
    """
    return _scene(plan_entries(series or _bars(), count, seed))


def skilled(seed: int, *, count: int = SIGNALS, series: Sequence[BarSeries] = ()) -> Scene:
    """Give signals at such moments with sides that partly know the future.

    How many do, and how far ahead, differs by regime, in part by symbol, and in part changes
    half-way: which strategy is the best has to be found out by context, and again.

    Args:
        seed: Of moments and skill.
        count: Of signals.
        series: Other bars than the shipped ones.
    """
    series = series or _bars()
    entries = plan_entries(series, count, seed)
    rng = Random(f"skill:{seed}")
    common = {regime: _draw(rng) for regime in REGIMES}
    found = []
    for one in series:
        own = [n for n, entry in enumerate(entries) if entry.series is one]
        early = {r: _draw(rng) if rng.random() < _OWN else common[r] for r in REGIMES}
        late = {r: _draw(rng) if rng.random() < _REDRAWN else early[r] for r in REGIMES}
        for place, number in enumerate(own):
            table = early if 2 * place < len(own) else late
            entry = entries[number]
            found.append((number, informed_entry(entry, table[_regime(entry).regime], rng)))
    return _scene([entry for _, entry in sorted(found, key=lambda pair: pair[0])])


@cache
def _bars() -> list[BarSeries]:
    return shipped_bars()


def _draw(rng: Random) -> Skill:
    bars = rng.choice(tuple(_INFORMED))
    return Skill(rng.uniform(*_INFORMED[bars]), bars)


def informed_entry(entry: Entry, skill: Skill, rng: Random) -> Entry:
    """Give an entry the side that a source with this skill would take; a coin's where it knows none."""
    is_informed, is_long = rng.random() < skill.share, rng.random() < 0.5
    if is_informed:
        rises = _rises(entry, skill.bars)
        falls_back = skill.bars > min(_INFORMED) or _rises(entry, _GIVEN_BACK_BARS) is (not rises)
        if rises is not None and falls_back:
            is_long = rises
    return replace(entry, side=Side.LONG if is_long else Side.SHORT)


def _rises(entry: Entry, bars: int) -> bool | None:
    """Tell whether the price is higher after so many bars; None where the data end before."""
    series, last = entry.series.bars, entry.index + bars
    return series[last].close > series[entry.index + 1].open if last < len(series) else None


def _regime(entry: Entry) -> RegimeResult:
    return RegimeDetector().detect_regime(entry.to_signal("0", entry.close_ms).market)


def _scene(entries: Sequence[Entry]) -> Scene:
    outcomes = walk_all(entries, STRATEGY_PROFILES, Costs(), track=silent)
    signals = [entry.to_signal("0", entry.close_ms) for entry in outcomes.entries]
    regimes = [RegimeDetector().detect_regime(signal.market) for signal in signals]
    names = sorted({entry.series.symbol for entry in outcomes.entries})
    world = World(
        rewards=outcomes.net_r,
        is_best=np.zeros(outcomes.net_r.shape, dtype=np.bool_),
        decided_ms=np.array([entry.close_ms for entry in outcomes.entries]),
        closed_ms=outcomes.closed_ms,
        is_open=outcomes.is_open,
        symbols=np.array([names.index(entry.series.symbol) for entry in outcomes.entries]),
        regimes=np.array([REGIMES.index(found.regime) for found in regimes]),
        default=DEFAULT,
        features=np.array([features_of(signal) for signal in signals]),
    )
    return Scene(world, regimes, outcomes.prices, outcomes)
