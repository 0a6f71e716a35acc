"""What is known of each arm in a context, and how one reward changes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mypy_extensions import mypyc_attr

from consumer.domain.features import FeatureSums

ArmNumbers = tuple[
    int, float, int, int, float, float, float, float,
    int, float, float, float, float,
    FeatureSums, FeatureSums,
]  # fmt: skip
"""The fields of an arm in their order."""


# no tuple: like remembered decisions (open_decision.py), many are kept, and most of their fields are numbers
@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class ArmStats:
    """Reward statistics of one strategy in one context; never changed once made."""

    count: Final[int]
    """Rewards folded in."""
    ema_reward: Final[float]
    """Exponential moving average of the rewards: the Q-value [R]."""
    win_count: Final[int]
    """Rewards above 0."""
    loss_count: Final[int]
    """Rewards below 0."""
    total_r: Final[float]
    """Sum of the rewards [R]."""
    sum_squares: Final[float]
    """Sum of the squared rewards [R^2]."""
    loss_squares: Final[float]
    """The same of those below 0 [R^2]."""
    recent_r: Final[float]
    """Sum of the rewards [R], each weighed by `decay` for every later one of the arm."""
    paper_count: Final[int]
    """Outcomes on paper: what the arm would have earned on a signal, whoever was chosen."""
    paper_r: Final[float]
    """As `total_r`, on paper [R]."""
    paper_squares: Final[float]
    """As `sum_squares`, on paper [R^2]."""
    paper_loss_squares: Final[float]
    """As `loss_squares`, on paper [R^2]."""
    recent_paper_r: Final[float]
    """As `recent_r`, on paper [R]."""
    feature_sums: Final[FeatureSums]
    """What rewards had to do with their signals, where features are kept: of an account's arm all of it, of its
    regimes and contexts the mean features alone."""
    paper_feature_sums: Final[FeatureSums]
    """The same on paper."""

    def __init__(
        self,
        count: int = 0,
        ema_reward: float = 0.0,
        win_count: int = 0,
        loss_count: int = 0,
        total_r: float = 0.0,
        sum_squares: float = 0.0,
        loss_squares: float = 0.0,
        recent_r: float = 0.0,
        paper_count: int = 0,
        paper_r: float = 0.0,
        paper_squares: float = 0.0,
        paper_loss_squares: float = 0.0,
        recent_paper_r: float = 0.0,
        feature_sums: FeatureSums = (),
        paper_feature_sums: FeatureSums = (),
    ) -> None:
        self.count = count
        self.ema_reward = ema_reward
        self.win_count = win_count
        self.loss_count = loss_count
        self.total_r = total_r
        self.sum_squares = sum_squares
        self.loss_squares = loss_squares
        self.recent_r = recent_r
        self.paper_count = paper_count
        self.paper_r = paper_r
        self.paper_squares = paper_squares
        self.paper_loss_squares = paper_loss_squares
        self.recent_paper_r = recent_paper_r
        self.feature_sums = feature_sums
        self.paper_feature_sums = paper_feature_sums

    @property
    def numbers(self) -> ArmNumbers:
        """All of it, as it is written down."""
        return (
            self.count,
            self.ema_reward,
            self.win_count,
            self.loss_count,
            self.total_r,
            self.sum_squares,
            self.loss_squares,
            self.recent_r,
            self.paper_count,
            self.paper_r,
            self.paper_squares,
            self.paper_loss_squares,
            self.recent_paper_r,
            self.feature_sums,
            self.paper_feature_sums,
        )

    def with_sums(self, earned: FeatureSums, on_paper: FeatureSums) -> "ArmStats":
        """Give the same arm with other sums of features."""
        return ArmStats(*self.numbers[:-2], earned, on_paper)

    @property
    def avg_reward(self) -> float:
        """Mean reward [R]; 0 without any."""
        return self.total_r / self.count if self.count else 0.0

    @property
    def avg_paper_reward(self) -> float:
        """Mean outcome on paper [R]; 0 without any."""
        return self.paper_r / self.paper_count if self.paper_count else 0.0

    @property
    def win_rate(self) -> float:
        """Share of wins [1]; 0 without rewards."""
        return self.win_count / self.count if self.count else 0.0


Row = Mapping[str, ArmStats]
"""One context of the Q-table: statistics by strategy id; an arm without rewards may be absent.

Never changed once made: a new reward makes a new row.
"""

NO_REWARDS: Final = ArmStats()
NO_ROW: Final[Row] = MappingProxyType({})

HALF_LIFE = 300.0
"""Rewards of an arm after which one counts half, unless set otherwise."""


def decay_of(half_life: float) -> float:
    """Give what is left of a reward's weight after one later reward [1].

    Args:
        half_life: Later rewards after which half of it is left, above 0; infinite: all of it.
    """
    return math.pow(2.0, -1.0 / half_life)


def recent_count(count: int, decay: float) -> float:
    """Give the sum of the weights behind `recent_r`: 1 + decay + decay^2 + ..., `count` terms."""
    return float(count) if decay == 1.0 else (1.0 - math.pow(decay, float(count))) / (1.0 - decay)


def loss_square(reward: float) -> float:
    """Give what a reward adds to `loss_squares` [R^2]."""
    return reward * reward if reward < 0.0 else 0.0


def fold_reward(stats: ArmStats, reward: float, alpha: float, decay: float = 1.0) -> ArmStats:
    """Add one reward to an arm.

    Args:
        stats: The arm before.
        reward: The new reward [R], finite.
        alpha: Weight of a new reward in the average [1], within (0, 1].
        decay: What is left of a reward's weight in the recent sum after a later one [1], within
            (0, 1].

    Source: contract, section 4 (update rule): the first reward is the average, then
        ema = (1 - alpha) ema + alpha reward.
    """
    count = stats.count
    return ArmStats(
        count + 1,
        reward if count == 0 else (1.0 - alpha) * stats.ema_reward + alpha * reward,
        stats.win_count + (reward > 0.0),
        stats.loss_count + (reward < 0.0),
        stats.total_r + reward,
        stats.sum_squares + reward * reward,
        stats.loss_squares + loss_square(reward),
        decay * stats.recent_r + reward,
        stats.paper_count,
        stats.paper_r,
        stats.paper_squares,
        stats.paper_loss_squares,
        stats.recent_paper_r,
        stats.feature_sums,
        stats.paper_feature_sums,
    )


def fold_paper_reward(stats: ArmStats, reward: float, decay: float) -> ArmStats:
    """Add one outcome on paper to an arm; what was really earned stays as it is.

    Args:
        stats: The arm before.
        reward: What the arm would have earned [R], finite.
        decay: As in `fold_reward` [1].
    """
    return ArmStats(
        stats.count,
        stats.ema_reward,
        stats.win_count,
        stats.loss_count,
        stats.total_r,
        stats.sum_squares,
        stats.loss_squares,
        stats.recent_r,
        stats.paper_count + 1,
        stats.paper_r + reward,
        stats.paper_squares + reward * reward,
        stats.paper_loss_squares + loss_square(reward),
        decay * stats.recent_paper_r + reward,
        stats.feature_sums,
        stats.paper_feature_sums,
    )


def with_paper(row: Row, rewards: Mapping[str, float], decay: float) -> Row:
    """Give a row with one more outcome on paper for each of some arms.

    Args:
        row: The row before.
        rewards: What each arm would have earned, by id [R], finite.
        decay: As in `fold_reward` [1].
    """
    return {
        **row,
        **{
            name: fold_paper_reward(row.get(name, NO_REWARDS), reward, decay)
            for name, reward in rewards.items()
        },
    }


def revise_reward(
    stats: ArmStats, *, old: float, new: float, ordinal: int, alpha: float, decay: float = 1.0
) -> ArmStats:
    """Take a reward out of an arm and put its correction in, as if it had always stood there.

    The average is linear in each of its rewards, so the correction enters it with the weight that
    the old reward still has: alpha (1 - alpha)^k after k later rewards, and (1 - alpha)^k for the
    arm's first reward, which entered with weight 1.

    Args:
        stats: The arm before.
        old: The reward as it was folded [R].
        new: The reward as it should have been [R].
        ordinal: Which of the arm's rewards it was, 1 being the first; at most `stats.count`.
        alpha: Weight of a new reward in the average [1].
        decay: As it was folded [1].
    """
    later = stats.count - ordinal
    weight = (1.0 if ordinal == 1 else alpha) * (1.0 - alpha) ** later
    return ArmStats(
        stats.count,
        stats.ema_reward + weight * (new - old),
        stats.win_count + (new > 0.0) - (old > 0.0),
        stats.loss_count + (new < 0.0) - (old < 0.0),
        stats.total_r + (new - old),
        stats.sum_squares + (new * new - old * old),
        stats.loss_squares + (loss_square(new) - loss_square(old)),
        stats.recent_r + decay**later * (new - old),
        stats.paper_count,
        stats.paper_r,
        stats.paper_squares,
        stats.paper_loss_squares,
        stats.recent_paper_r,
        stats.feature_sums,
        stats.paper_feature_sums,
    )


def rewards_of(row: Row) -> int:
    """Count the rewards of a context over all arms."""
    count = 0
    for stats in row.values():
        count += stats.count
    return count
