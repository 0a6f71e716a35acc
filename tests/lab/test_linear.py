"""A policy that looks at signals learns what depends on them."""

from collections.abc import Mapping
from random import Random

import pytest

from consumer.domain.features import FEATURES, fold_features
from consumer.domain.policies.base import Situation
from consumer.domain.policies.catalog import SharedPolicy, make_policy
from consumer.domain.qtable import NO_REWARDS, ArmStats, fold_reward
from consumer.domain.strategies import STRATEGY_PROFILES
from schemas import MarketRegime

SENTIMENT = FEATURES.index("news sentiment")
DEVIATION, SLOPE = 2.0, 0.5
PERFECT = DEVIATION * SLOPE * 0.5  # what lies evenly within 1 is 0.5 from 0


def played(name: SharedPolicy, seed: int, count: int = 1000) -> float:
    """Give the expected reward of the later half of choices [R].

    Sentiment makes one strategy the better one, or the other; their means over all signals are equal.
    """
    policy = make_policy(
        name, STRATEGY_PROFILES, unit="atr", half_life=1e9, default_strategy="ultra_aggressive"
    )
    rng = Random(seed)
    row: Mapping[str, ArmStats] = {}
    directions = {"moderate": 1.0, "ultra_aggressive": -1.0}
    earned = []
    for _ in range(count):
        features = tuple(rng.uniform(-1.0, 1.0) for _ in FEATURES)
        here = Situation(
            MarketRegime.TREND_UP, 0.8, row, tuple(directions), (row, row), features=features
        )
        arm = policy.choose(here, rng).arm
        expected = DEVIATION * SLOPE * directions[arm] * features[SENTIMENT]
        reward = expected + DEVIATION * rng.gauss(0.0, 1.0)
        stats = row.get(arm, NO_REWARDS)
        sums = fold_features(stats.feature_sums, features, reward, 1.0)
        row = {**row, arm: fold_reward(stats, reward, 0.2).with_sums(sums, ())}
        earned.append(expected)
    return 2.0 * sum(earned[count // 2 :]) / count


@pytest.mark.parametrize(("name", "least", "most"), [("linear", 0.7, 1.1), ("ucb", -0.2, 0.2)])
def test_what_depends_on_a_feature_is_found(name: SharedPolicy, least: float, most: float) -> None:
    found = [played(name, seed) / PERFECT for seed in range(4)]

    assert least <= sum(found) / len(found) <= most, found
