"""Rows of the table -> what they say of each arm, in units in which the arms compare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from operator import itemgetter
from typing import Self

from consumer.domain.qtable import ArmStats, Row, recent_count
from consumer.domain.reward import RewardUnit, in_unit
from schemas import StrategyProfile

_WALK_SHARE = 0.82
"""Variance of a ladder's reward over stop times mean target.

It would be 1 for a driftless walk with one target and no time limit; partial closes, gaps and the
limit take a part. On bars of eleven markets it was 0.77 to 0.95 for all seven ladders.
"""
_PRIOR_REWARDS = 3.0
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


SumsOf = Callable[[ArmStats], tuple[int, float, float, float, float]]
"""Takes an arm's count of rewards, their sum [R], that of their squares and of the losses' squares
[R^2], and the recent sum [R]."""


def _sums(*names: str) -> SumsOf:
    """Take fields of an arm by their place, in half of the time that their names take."""
    return itemgetter(*map(ArmStats._fields.index, names))


earned: SumsOf = _sums("count", "total_r", "sum_squares", "loss_squares", "recent_r")
"""What was really earned."""
on_paper: SumsOf = _sums(
    "paper_count", "paper_r", "paper_squares", "paper_loss_squares", "recent_paper_r"
)
"""What would have been earned, whoever was chosen."""


Seen = tuple[int, float, float]
"""What a row says of an arm: its number, its rewards [1], above 0, older ones in part, and their mean [deviations].

An arm's rewards are measured by their own deviation, so that the noise of one is 1 for every arm: a
wide ladder swings three times as much as a near one.
"""


def deviations_of(
    arm: str, stats: ArmStats, ladders: Ladders, sums_of: SumsOf = earned
) -> tuple[float, float]:
    """Give the deviation of one reward of an arm, and that of its losses alone [R], both above 0.

    Args:
        arm: Its id.
        stats: Over all symbols of the account.
        ladders: Of all arms.
        sums_of: Which rewards count.
    """
    count, total, squares, loss_squares, _ = sums_of(stats)
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
    arms: Sequence[str],
    deviations: Sequence[float],
    decay: float,
    sums_of: SumsOf = earned,
) -> list[Seen]:
    """Add up what a row says of the arms that have rewards in it.

    Args:
        row: Of a context, or of one of its parents.
        arms: Ids, in any order.
        deviations: Of one reward, arm by arm [R], above 0; see `deviations_of`.
        decay: As the row was folded [1].
        sums_of: Which rewards count.
    """
    found = []
    for number, arm in enumerate(arms):
        stats = row.get(arm)
        if stats is not None:
            count, _, _, _, recent = sums_of(stats)
            if count:
                weight = recent_count(count, decay)
                found.append((number, weight, recent / (weight * deviations[number])))
    return found
