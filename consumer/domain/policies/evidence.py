"""Rows of the table -> what they say of each arm, in units in which the arms compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Final, Self

from consumer.domain.qtable import ArmStats, Row, recent_count
from consumer.domain.reward import RewardUnit, in_unit
from schemas import StrategyProfile

_WALK_SHARE = 0.82
"""Variance of a ladder's reward over stop times mean target.

It would be 1 for a driftless walk with one target and no time limit; partial closes, gaps and the
limit take a part. On bars of eleven markets it was 0.77 to 0.95 for all seven ladders.
"""
_PRIOR_REWARDS: Final = 3.0
"""Weight of the above against an arm's own rewards: enough for the first few, soon outweighed."""


@dataclass(frozen=True, slots=True)
class Ladders:
    """What is known of arms before any reward, from their ladders alone.

    Args:
        variance: Of a reward, by id [R^2], above 0.
        loss_variance: Mean square of a loss, a gain counting as 0, by id [R^2], above 0.
        log_width: Logarithm of the mean target, by id [log ATR].
    """

    variance: Mapping[str, float]
    loss_variance: Mapping[str, float]
    log_width: Mapping[str, float]

    @classmethod
    def of_profiles(cls, profiles: Mapping[str, StrategyProfile], unit: RewardUnit) -> Self:
        """Take the ladders of strategies; rewards are in `unit`."""
        targets = {
            name: p.r_tp1 * p.partial_close_tp1
            + p.r_tp2 * p.partial_close_tp2
            + p.r_tp3 * p.partial_close_tp3
            for name, p in profiles.items()
        }
        variance = {
            # twice: a variance is in the unit's square
            name: in_unit(in_unit(_WALK_SHARE * p.r_sl * target, unit, p.r_sl), unit, p.r_sl)
            for (name, target), p in zip(targets.items(), profiles.values(), strict=True)
        }
        return cls(
            variance,
            # a walk without drift ends at its stop in target / (stop + target) of all cases
            {
                name: variance[name] * p.r_sl / (p.r_sl + target)
                for (name, target), p in zip(targets.items(), profiles.values(), strict=True)
            },
            {name: log(target) for name, target in targets.items()},
        )


class Rewards:
    """Which rewards count: those that were earned, or those on paper.

    Args:
        on_paper: Whether it is what would have been earned, whoever was chosen.
    """

    __slots__ = ("_on_paper",)

    def __init__(self, *, on_paper: bool) -> None:
        self._on_paper = on_paper

    def sums(self, stats: ArmStats) -> tuple[int, float, float, float]:
        """Give an arm's count of rewards, their sum [R], that of their squares and of the losses' squares [R^2]."""
        if self._on_paper:
            return stats.paper_count, stats.paper_r, stats.paper_squares, stats.paper_loss_squares
        return stats.count, stats.total_r, stats.sum_squares, stats.loss_squares

    def recent(self, stats: ArmStats) -> tuple[int, float]:
        """Give an arm's count of rewards, and their sum [R], older ones in part."""
        if self._on_paper:
            return stats.paper_count, stats.recent_paper_r
        return stats.count, stats.recent_r


earned: Final = Rewards(on_paper=False)
on_paper: Final = Rewards(on_paper=True)


Seen = tuple[int, float, float]
"""What a row says of an arm: its number, its rewards [1], above 0, older ones in part, and their mean [deviations].

An arm's rewards are measured by their own deviation, so that the noise of one is 1 for every arm: a
wide ladder swings three times as much as a near one.
"""


def deviations_of(
    arm: str, stats: ArmStats, ladders: Ladders, rewards: Rewards = earned
) -> tuple[float, float]:
    """Give the deviation of one reward of an arm, and that of its losses alone [R], both above 0.

    Args:
        arm: Its id.
        stats: Over all symbols of the account.
        ladders: Of all arms.
        rewards: Which count.
    """
    count, total, squares, loss_squares = rewards.sums(stats)
    variance, loss_variance = ladders.variance[arm], ladders.loss_variance[arm]
    if count:
        spread = max(0.0, squares - total * total / count)
        variance = (_PRIOR_REWARDS * variance + spread) / (_PRIOR_REWARDS + count - 1)
        # a correction may leave a little less than nothing
        loss_variance = (_PRIOR_REWARDS * loss_variance + max(0.0, loss_squares)) / (
            _PRIOR_REWARDS + count
        )
    return sqrt(variance), sqrt(loss_variance)


def seen_in(
    row: Row,
    arms: tuple[str, ...],
    deviations: list[float],
    decay: float,
    rewards: Rewards = earned,
) -> list[Seen]:
    """Add up what a row says of the arms that have rewards in it.

    Args:
        row: Of a context, or of one of its parents.
        arms: Ids, in any order.
        deviations: Of one reward, arm by arm [R], above 0; see `deviations_of`.
        decay: As the row was folded [1].
        rewards: Which count.
    """
    known = row if isinstance(row, dict) else dict(row)  # native code asks a dict more quickly
    found: list[Seen] = []
    for number, arm in enumerate(arms):
        stats = known.get(arm)
        if stats is not None:
            count, recent = rewards.recent(stats)
            if count:
                weight = recent_count(count, decay)
                found.append((number, weight, recent / (weight * deviations[number])))
    return found
