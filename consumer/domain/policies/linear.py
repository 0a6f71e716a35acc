"""Situation and features of its signal -> what is believed of its candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp, sqrt
from operator import attrgetter

from consumer.domain.features import FEATURES, PRODUCTS, Features, FeatureSums, centre_of
from consumer.domain.policies.base import Situation
from consumer.domain.policies.beliefs import NARROW, Estimate
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.evidence import deviations_of
from consumer.domain.policies.kept import Bounded, Kept
from consumer.domain.policies.slopes import Design, Slopes
from consumer.domain.qtable import NO_REWARDS, ArmStats, Row
from schemas.sums import total

FeatureSumsOf = Callable[[ArmStats], FeatureSums]
"""Takes what an arm's rewards had to do with their signals."""

earned_by_features: FeatureSumsOf = attrgetter("feature_sums")
paper_by_features: FeatureSumsOf = attrgetter("paper_feature_sums")

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
        sums_of: Which rewards count, as the base has it.
    """

    base: Estimator
    sums_of: FeatureSumsOf = earned_by_features
    _kept: Kept[Estimate | None] = field(
        default_factory=Kept, init=False, repr=False, compare=False
    )
    _slopes: Bounded[tuple[int, str], tuple[ArmStats, list[Slopes]]] = field(
        default_factory=partial(Bounded, _LIMIT), init=False, repr=False, compare=False
    )
    """By identity of the statistics, which never change once made, and are held here."""
    _designs: Bounded[FeatureSums, list[Design]] = field(
        default_factory=partial(Bounded, _LIMIT), init=False, repr=False, compare=False
    )
    """By products: on paper all arms have the same."""

    def estimate(self, situation: Situation, favourite: str) -> Estimate | None:
        """Give what is believed of each candidate; None while the account has rewards of none of them.

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
        known = [self._slopes_of(arm, widest.get(arm, NO_REWARDS)) for arm in situation.candidates]
        shares = _shares(
            [total([arm[n].log_evidence for arm in known]) for n in range(len(_WIDTHS))]
        )
        shifts = _Shifts(shares)
        rows = (*situation.parents, situation.row)
        means, deviations, notes = [], [], []
        for number, (arm, slopes) in enumerate(zip(situation.candidates, known, strict=True)):
            unit = 1.0
            if self.base.objective != "sharpe":
                unit = self._deviation(arm, widest.get(arm, NO_REWARDS))
            away = self._away(arm, rows, features)
            mean, variance = shifts.of(slopes, away)
            means.append(found.means[number] + unit * mean)
            deviations.append(sqrt(found.deviations[number] ** 2 + unit * unit * variance))
            notes.append(shifts.note(slopes, away, unit, mean))
        return Estimate(means, deviations, found.prior_means, notes)

    def _away(self, arm: str, rows: Sequence[Row], features: Features) -> Features:
        """Give how far features are from those of the rewards that the arm's mean was told by.

        That mean leans on the account's rewards, on the regime's and on the context's, the more the more
        there are: so do the features that it stands for. From the account's alone, what sets a regime or a
        symbol apart would count twice.
        """
        _, centre = centre_of(self.sums_of(rows[0].get(arm, NO_REWARDS)))
        for row, width in zip(rows[1:], NARROW.widths[1:], strict=True):
            weight, own = centre_of(self.sums_of(row.get(arm, NO_REWARDS)))
            if weight:
                gain = weight / (weight + 1.0 / (width * width))
                centre = tuple(
                    [have + gain * (one - have) for have, one in zip(centre, own, strict=True)]
                )
        return tuple([one - usual for one, usual in zip(features, centre, strict=True)])

    def _deviation(self, arm: str, stats: ArmStats) -> float:
        return deviations_of(arm, stats, self.base.ladders, self.base.rewards)[0]

    def _slopes_of(self, arm: str, stats: ArmStats) -> list[Slopes]:
        key = (id(stats), arm)
        kept = self._slopes.get(key)
        if kept is not None:
            return kept[1]
        deviation = self._deviation(arm, stats)
        sums = self.sums_of(stats)
        made = [
            Slopes.of_sums(sums, deviation, design) for design in self._designs_of(sums[:PRODUCTS])
        ]
        return self._slopes.keep(key, (stats, made))[1]

    def _designs_of(self, products: FeatureSums) -> list[Design]:
        kept = self._designs.get(products)
        if kept is None:
            made = [Design.of_products(products, width) for width in _WIDTHS]
            kept = self._designs.keep(products, made)
        return kept

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
    whole = exp(-best) + total(weights)
    return [weight / whole for weight in weights]


class _Shifts:
    """What one signal's features do to the mean rewards of arms [deviations of a reward].

    Args:
        shares: Of the beliefs [1].
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = shares
        self._variances: dict[tuple[int, Features], float] = {}
        """By design and features: arms that always learn together have both in common."""

    def of(self, slopes: Sequence[Slopes], away: Features) -> tuple[float, float]:
        """Give what is added to an arm's mean, and to its variance, over all beliefs.

        Args:
            slopes: Of the arm, by belief.
            away: How far the features are from usual ones.
        """
        mean = square = 0.0
        for share, one in zip(self._shares, slopes, strict=True):
            key = (id(one.design), away)
            variance = self._variances.get(key)
            if variance is None:
                variance = self._variances[key] = one.design.variance(away)
            shift = 0.0
            for slope, far in zip(one.means, away, strict=True):
                shift += slope * far
            mean += share * shift
            square += share * (variance + shift * shift)
        return mean, max(square - mean * mean, 0.0)

    def note(self, slopes: Sequence[Slopes], away: Features, unit: float, mean: float) -> str:
        """Say it for people, with the feature that does most."""
        parts = [0.0] * len(FEATURES)
        for share, one in zip(self._shares, slopes, strict=True):
            for number, (slope, far) in enumerate(zip(one.means, away, strict=True)):
                parts[number] += share * slope * far
        most = max(range(len(FEATURES)), key=lambda number: abs(parts[number]))
        return f", features {unit * mean:+.3f}, most by {FEATURES[most]} {unit * parts[most]:+.3f}"
