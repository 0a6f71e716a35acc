"""Situation and features of its signal -> what is believed of its candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt

from consumer.domain.features import FEATURES
from consumer.domain.policies.base import Situation
from consumer.domain.policies.beliefs import Estimate
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.evidence import deviations_of
from consumer.domain.policies.kept import Kept
from consumer.domain.policies.slopes import Shift, Slopes
from consumer.domain.qtable import NO_REWARDS, ArmStats

_WIDTHS = (0.05, 0.2)
"""How far slopes may be from 0 [deviations of a reward]: hardly, and by what a trader would call much."""
_LIMIT = 1024
"""Arms whose slopes are kept: those of some busy partitions; more only cost memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearEstimator:
    """What rows say of each candidate, moved by what the signal's features say.

    Three beliefs are held at once, weighed by how well each foretold the rewards of all candidates: that
    features tell nothing, that they tell a little, and that they tell much. So features that tell
    nothing cost nothing once there are some hundred rewards, and before that little.

    Args:
        base: Tells what rows say.
    """

    base: Estimator
    _kept: Kept[Estimate | None] = field(
        default_factory=Kept, init=False, repr=False, compare=False
    )
    _slopes: dict[tuple[int, str], tuple[ArmStats, list[Slopes]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By identity of the statistics, which never change once made, and are held here."""

    def estimate(self, situation: Situation, favourite: str) -> Estimate | None:
        """Give what is believed of each candidate; None before the account's first reward.

        Args:
            situation: What is to be chosen for.
            favourite: The candidate that has a head start where arms differ much.
        """
        features = situation.features
        usual = situation._replace(features=())
        found = self._kept.get(usual, favourite, self.base.estimate)
        if found is None or not features:
            return found
        widest = situation.parents[0]
        stats = [widest.get(arm, NO_REWARDS) for arm in situation.candidates]
        known = [
            self._slopes_of(arm, one) for arm, one in zip(situation.candidates, stats, strict=True)
        ]
        shares = _shares([sum(arm[n].log_evidence for arm in known) for n in range(len(_WIDTHS))])
        means, deviations, notes = [], [], []
        for number, (arm, slopes) in enumerate(zip(situation.candidates, known, strict=True)):
            unit = 1.0
            if self.base.objective != "sharpe":
                unit = self._deviation(arm, stats[number])
            shift = _mixed(shares, [one.shift(features) for one in slopes])
            means.append(found.means[number] + unit * shift.mean)
            deviations.append(
                sqrt(found.deviations[number] ** 2 + unit * unit * max(shift.variance, 0.0))
            )
            notes.append(_note(unit, shift))
        return Estimate(means, deviations, found.prior_means, notes)

    def _deviation(self, arm: str, stats: ArmStats) -> float:
        return deviations_of(arm, stats, self.base.ladders)[0]

    def _slopes_of(self, arm: str, stats: ArmStats) -> list[Slopes]:
        key = (id(stats), arm)
        kept = self._slopes.get(key)
        if kept is not None:
            return kept[1]
        deviation = self._deviation(arm, stats)
        made = [Slopes.of_sums(stats.feature_sums, deviation, width) for width in _WIDTHS]
        if len(self._slopes) >= _LIMIT:
            self._slopes.clear()
        self._slopes[key] = (stats, made)
        return made

    @property
    def measure(self) -> str:
        """What estimates are called where people read them."""
        return self.base.measure

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its estimates, besides the profiles."""
        return {
            **self.base.parameters(),
            "slopes": repr(_WIDTHS),
            "features": ", ".join(FEATURES),
        }


def _shares(log_evidence: Sequence[float]) -> list[float]:
    """Weigh the beliefs [1]; what is left of 1 is that features tell nothing."""
    best = max(0.0, *log_evidence)
    weights = [exp(value - best) for value in log_evidence]
    whole = exp(-best) + sum(weights)
    return [weight / whole for weight in weights]


def _mixed(shares: Sequence[float], shifts: Sequence[Shift]) -> Shift:
    mean = square = 0.0
    parts = [0.0] * len(FEATURES)
    for share, shift in zip(shares, shifts, strict=True):
        mean += share * shift.mean
        square += share * (shift.variance + shift.mean * shift.mean)
        parts = [have + share * part for have, part in zip(parts, shift.parts, strict=True)]
    return Shift(mean, square - mean * mean, parts)


def _note(unit: float, shift: Shift) -> str:
    most = max(range(len(FEATURES)), key=lambda number: abs(shift.parts[number]))
    return f", features {unit * shift.mean:+.3f}, most by {FEATURES[most]} {unit * shift.parts[most]:+.3f}"
