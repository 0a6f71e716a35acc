"""Does an arm lately earn something else than it used to?"""

from math import sqrt
from typing import NamedTuple

from consumer.domain.policies.evidence import Rewards
from consumer.domain.qtable import ArmStats, recent_count

LARGEST_Z = 4.0
"""Deviations from which on a difference is no luck: one in 16,000 looks at an arm that never changed."""
_LEAST_REWARDS = 30
"""Before so many the arm's own deviation is too unsure to measure by."""


class Drift(NamedTuple):
    """What an arm earned lately, beside what it earned over all."""

    recent: float
    """Mean of the rewards by their weights, which halve over the half-life [R]."""
    mean: float
    """Mean of all rewards [R]."""
    z: float
    """Their difference by its standard deviation, were all rewards drawn alike [1]."""


def drift_of(
    stats: ArmStats,
    decay: float,
    rewards: Rewards,
) -> Drift | None:
    """Compare what an arm earned lately with what it earned over all.

    Args:
        stats: Of the arm.
        decay: As they were folded [1].
        rewards: Which count: `earned` or `on_paper`.

    Returns:
        None before 30 rewards, without forgetting, or where all rewards were the same.

    Source: the control chart of Roberts (1959), Control chart tests based on geometric moving
        averages, against the mean of the same rewards. For independent rewards of variance v the
        difference has variance v (sum of squared weights - 1 / count), as each mean is a weighted
        sum whose weights add up to 1.
    """
    (count, total, squares, _), (_, recent_total) = rewards.sums(stats), rewards.recent(stats)
    if count < _LEAST_REWARDS or decay == 1.0:
        return None
    mean, recent = total / count, recent_total / recent_count(count, decay)
    variance = (squares - total * mean) / (count - 1)
    left = decay**count
    weights = (1.0 - decay) / (1.0 + decay) * (1.0 + left) / (1.0 - left) - 1.0 / count
    # corrections of rewards may leave a little less than nothing
    if variance <= 0.0 or weights <= 0.0:
        return None
    return Drift(recent, mean, (recent - mean) / sqrt(variance * weights))
