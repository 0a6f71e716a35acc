"""Worlds of drawn rewards: the specification's simulation, and three that ask for more."""

import numpy as np

from consumer.domain.features import FEATURES
from consumer.domain.regime import RegimeResult
from consumer.domain.strategies import STRATEGY_PROFILES
from lab.measures import Floats, Ints
from quality.scene import Scene
from quality.worlds import World
from schemas import MarketRegime, StrategyID

ARMS = tuple(str(name) for name in STRATEGY_PROFILES)
DEFAULT = ARMS.index(StrategyID.ULTRA_AGGRESSIVE)
REGIMES = tuple(MarketRegime)

_TRADES = 100  # the specification's
_LONG_TRADES = 3000
_GAP_R, _NOISE_R = 0.5, 1.5
_TELLING = 3  # features
_SURE = 0.5  # of a regime [1]: without weight but for the cold start


def specified(seed: int) -> Scene:
    """Give 100 trades in one context: the default earns N(3, 2) R, all others N(1.5, 1.5)."""
    return _one_context(np.random.default_rng([seed, 1]), DEFAULT)


def shuffled(seed: int) -> Scene:
    """Give the same, but any strategy may be the good one."""
    rng = np.random.default_rng([seed, 2])
    return _one_context(rng, int(rng.integers(len(ARMS))))


def changing(seed: int) -> Scene:
    """Give 3,000 trades in seven regimes, each with a best strategy, which changes half-way."""
    rng = np.random.default_rng([seed, 3])
    regimes = rng.integers(len(REGIMES), size=_LONG_TRADES)
    first = rng.permutation(len(ARMS))
    # all of them turned by the same number of places: none stays where it was
    second = (first + rng.integers(1, len(ARMS))) % len(ARMS)
    is_late = np.arange(_LONG_TRADES) >= _LONG_TRADES // 2
    best = np.where(is_late, second[regimes], first[regimes])
    means = np.where(best[:, None] == np.arange(len(ARMS)), _GAP_R, 0.0)
    return _scene(rng.normal(means, _NOISE_R), best, regimes)


def telling(seed: int) -> Scene:
    """Give 3,000 trades in one context whose signals tell which strategy is the best.

    Three of the features have to do with it, for each strategy in another way; over all signals the
    strategies earn the same.
    """
    rng = np.random.default_rng([seed, 4])
    features = rng.uniform(-1.0, 1.0, (_LONG_TRADES, len(FEATURES)))
    slopes = np.zeros((len(FEATURES), len(ARMS)))
    chosen = rng.choice(len(FEATURES), _TELLING, replace=False)
    slopes[chosen] = rng.normal(0.0, _GAP_R, (_TELLING, len(ARMS)))
    means = features @ slopes
    regimes = np.full(_LONG_TRADES, REGIMES.index(MarketRegime.UNKNOWN))
    return _scene(rng.normal(means, _NOISE_R), means.argmax(axis=1), regimes, features)


def _one_context(rng: np.random.Generator, best: int) -> Scene:
    is_best = np.arange(len(ARMS)) == best
    shape = (_TRADES, len(ARMS))
    rewards = rng.normal(np.where(is_best, 3.0, 1.5), np.where(is_best, 2.0, 1.5), shape)
    regimes = np.full(_TRADES, REGIMES.index(MarketRegime.UNKNOWN))
    return _scene(rewards, np.full(_TRADES, best), regimes)


def _scene(rewards: Floats, best: Ints, regimes: Ints, features: Floats | None = None) -> Scene:
    decided_ms = np.arange(len(rewards), dtype=np.int64)
    world = World(
        rewards=rewards,
        is_best=best[:, None] == np.arange(len(ARMS)),
        decided_ms=decided_ms,
        # known when the next one is decided
        closed_ms=np.repeat(decided_ms[:, None] + 1, len(ARMS), axis=1),
        is_open=np.zeros(rewards.shape, dtype=np.bool_),
        symbols=np.zeros(len(rewards), dtype=np.int64),
        regimes=regimes,
        default=DEFAULT,
        features=np.zeros((len(rewards), 0)) if features is None else features,
    )
    found = [RegimeResult(REGIMES[regime], _SURE, "drawn") for regime in regimes]
    return Scene(world, found)
