"""Drift: its formula against the weights written out, its false alarms, and what it finds."""

import random
from math import fsum, sqrt
from statistics import fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.drift import LARGEST_Z, drift_of
from consumer.domain.policies.evidence import earned, on_paper
from consumer.domain.qtable import (
    HALF_LIFE,
    NO_REWARDS,
    ArmStats,
    decay_of,
    fold_paper_reward,
    fold_reward,
    revise_reward,
)

DECAY = decay_of(HALF_LIFE)


def fold(rewards: list[float], decay: float = DECAY) -> ArmStats:
    stats = NO_REWARDS
    for reward in rewards:
        stats = fold_reward(stats, reward, 0.2, decay)
    return stats


rewards_of_an_arm = st.lists(
    st.floats(-20, 20, allow_nan=False).map(lambda value: round(value, 3)),
    min_size=30,
    max_size=200,
).filter(lambda values: max(values) - min(values) > 0.01)


@given(rewards_of_an_arm, st.floats(5, 2000))
def test_it_is_the_contrast_of_two_means_by_its_own_deviation(
    rewards: list[float], half_life: float
) -> None:
    decay = decay_of(half_life)
    weights = [decay ** (len(rewards) - number) for number in range(1, len(rewards) + 1)]
    shares = [weight / fsum(weights) for weight in weights]
    recent = fsum(share * reward for share, reward in zip(shares, rewards, strict=True))
    spread = fsum((share - 1 / len(rewards)) ** 2 for share in shares)
    wanted = (recent - fmean(rewards)) / sqrt(variance(rewards) * spread)

    found = drift_of(fold(rewards, decay), decay, earned)

    assert found is not None
    assert found.mean == pytest.approx(fmean(rewards), abs=1e-9)
    assert found.recent == pytest.approx(recent, abs=1e-9)
    assert found.z == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@given(rewards_of_an_arm)
def test_outcomes_on_paper_are_judged_like_real_ones(rewards: list[float]) -> None:
    stats = NO_REWARDS
    for reward in rewards:
        stats = fold_paper_reward(stats, reward, DECAY)

    assert drift_of(stats, DECAY, on_paper) == drift_of(fold(rewards), DECAY, earned)
    assert drift_of(stats, DECAY, earned) is None


@given(rewards_of_an_arm, st.data())
def test_a_corrected_reward_counts_as_if_it_had_always_stood_there(
    rewards: list[float], data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, len(rewards)))
    revised = revise_reward(
        fold(rewards), old=rewards[number - 1], new=1.0, ordinal=number, alpha=0.2, decay=DECAY
    )
    always = [*rewards[: number - 1], 1.0, *rewards[number:]]
    wanted = drift_of(fold(always), DECAY, earned)

    found = drift_of(revised, DECAY, earned)

    if wanted is not None and max(always) - min(always) > 0.01:
        assert found is not None
        assert found.z == pytest.approx(wanted.z, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("rewards", "decay"),
    [
        pytest.param([1.0, -1.0] * 14 + [1.0], DECAY, id="too few"),
        pytest.param([0.5] * 64, DECAY, id="all the same"),
        pytest.param([1.0, -1.0] * 50, 1.0, id="nothing is forgotten"),
        pytest.param([], DECAY, id="none"),
    ],
)
def test_nothing_is_said_where_nothing_can_be_known(rewards: list[float], decay: float) -> None:
    assert drift_of(fold(rewards, decay), decay, earned) is None


def test_an_arm_that_never_changes_is_left_alone() -> None:
    """Looked at after every reward, as the worker does at most; rewards as skewed as real ones."""
    rng = random.Random(1)
    alarms = looks = 0
    for _ in range(20):
        stats = NO_REWARDS
        for _ in range(3_000):
            reward = 4.0 if rng.random() < 0.2 else -1.0
            stats = fold_reward(stats, reward, 0.2, DECAY)
            found = drift_of(stats, DECAY, earned)
            looks += found is not None
            alarms += found is not None and abs(found.z) > LARGEST_Z

    assert looks > 50_000
    assert alarms <= looks / 2_000


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_change_is_found(sign: float) -> None:
    """Half a deviation after 2,000 rewards: as when a strategy begins to lose what it earned."""
    rng = random.Random(2)
    stats = NO_REWARDS
    for _ in range(2_000):
        stats = fold_reward(stats, rng.gauss(0.2 * sign, 1.6), 0.2, DECAY)
    after = 0
    while (found := drift_of(stats, DECAY, earned)) is None or abs(found.z) <= LARGEST_Z:
        stats = fold_reward(stats, rng.gauss(-0.6 * sign, 1.6), 0.2, DECAY)
        after += 1
        assert after < 600

    assert abs(found.z) > LARGEST_Z
    assert found.z * sign < 0
    assert (found.recent - found.mean) * sign < 0
