"""What is known of each arm in a context, and how one reward changes it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArmStats:
    """Reward statistics of one strategy in one context; never changed once made."""

    count: int = 0
    """Rewards folded in."""
    ema_reward: float = 0.0
    """Exponential moving average of the rewards: the Q-value [R]."""
    win_count: int = 0
    """Rewards above 0."""
    loss_count: int = 0
    """Rewards below 0."""
    total_r: float = 0.0
    """Sum of the rewards [R]."""

    @property
    def avg_reward(self) -> float:
        """Mean reward [R]; 0 without any."""
        return self.total_r / self.count if self.count else 0.0

    @property
    def win_rate(self) -> float:
        """Share of wins [1]; 0 without rewards."""
        return self.win_count / self.count if self.count else 0.0


Row = Mapping[str, ArmStats]
"""One context of the Q-table: statistics by strategy id; an arm without rewards may be absent."""

NO_REWARDS = ArmStats()


def fold_reward(stats: ArmStats, reward: float, alpha: float) -> ArmStats:
    """Add one reward to an arm.

    Args:
        stats: The arm before.
        reward: The new reward [R], finite.
        alpha: Weight of a new reward in the average [1], within (0, 1].

    Source: contract, section 4 (update rule): the first reward is the average, then
        ema = (1 - alpha) ema + alpha reward.
    """
    ema = reward if stats.count == 0 else (1.0 - alpha) * stats.ema_reward + alpha * reward
    return ArmStats(
        stats.count + 1,
        ema,
        stats.win_count + (reward > 0.0),
        stats.loss_count + (reward < 0.0),
        stats.total_r + reward,
    )


def revise_reward(
    stats: ArmStats, *, old: float, new: float, ordinal: int, alpha: float
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
    """
    later = stats.count - ordinal
    weight = (1.0 if ordinal == 1 else alpha) * (1.0 - alpha) ** later
    return ArmStats(
        stats.count,
        stats.ema_reward + weight * (new - old),
        stats.win_count + (new > 0.0) - (old > 0.0),
        stats.loss_count + (new < 0.0) - (old < 0.0),
        stats.total_r + (new - old),
    )


def rewards_of(row: Row) -> int:
    """Count the rewards of a context over all arms."""
    count = 0
    for stats in row.values():
        count += stats.count
    return count
