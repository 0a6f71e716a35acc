"""Situation and features of its signal -> what is believed of its candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, sqrt
from operator import attrgetter

from consumer.domain.features import FEATURES, PRODUCTS, Features, FeatureSums
from consumer.domain.policies.base import Situation
from consumer.domain.policies.beliefs import Estimate
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.evidence import deviations_of
from consumer.domain.policies.kept import Kept
from consumer.domain.policies.slopes import Design, Slopes
from consumer.domain.qtable import NO_REWARDS, ArmStats

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
    _slopes: dict[tuple[int, str], tuple[ArmStats, list[Slopes]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By identity of the statistics, which never change once made, and are held here."""
    _designs: dict[FeatureSums, list[Design]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By products: on paper all arms have the same."""

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
        known = [self._slopes_of(arm, widest.get(arm, NO_REWARDS)) for arm in situation.candidates]
        shares = _shares([sum(arm[n].log_evidence for arm in known) for n in range(len(_WIDTHS))])
        shifts = _Shifts(features, shares)
        means, deviations, notes = [], [], []
        for number, (arm, slopes) in enumerate(zip(situation.candidates, known, strict=True)):
            unit = 1.0
            if self.base.objective != "sharpe":
                unit = self._deviation(arm, widest.get(arm, NO_REWARDS))
            mean, variance = shifts.of(slopes)
            means.append(found.means[number] + unit * mean)
            deviations.append(sqrt(found.deviations[number] ** 2 + unit * unit * variance))
            notes.append(shifts.note(slopes, unit, mean))
        return Estimate(means, deviations, found.prior_means, notes)

    def _deviation(self, arm: str, stats: ArmStats) -> float:
        return deviations_of(arm, stats, self.base.ladders, self.base.sums_of)[0]

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
        if len(self._slopes) >= _LIMIT:
            self._slopes.clear()
        self._slopes[key] = (stats, made)
        return made

    def _designs_of(self, products: FeatureSums) -> list[Design]:
        kept = self._designs.get(products)
        if kept is None:
            if len(self._designs) >= _LIMIT:
                self._designs.clear()
            kept = self._designs[products] = [
                Design.of_products(products, width) for width in _WIDTHS
            ]
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
    whole = exp(-best) + sum(weights)
    return [weight / whole for weight in weights]


class _Shifts:
    """What one signal's features do to the mean rewards of arms [deviations of a reward]."""

    def __init__(self, features: Features, shares: Sequence[float]) -> None:
        self._features, self._shares = features, shares
        self._seen: dict[int, tuple[list[float], float]] = {}

    def _measured(self, design: Design) -> tuple[list[float], float]:
        """Give how far away it is, and how unsure that makes: once for arms with one design."""
        found = self._seen.get(id(design))
        if found is None:
            away = design.away(self._features)
            found = self._seen[id(design)] = (away, design.variance(away))
        return found

    def of(self, slopes: Sequence[Slopes]) -> tuple[float, float]:
        """Give what is added to an arm's mean, and to its variance, over all beliefs."""
        mean = square = 0.0
        for share, one in zip(self._shares, slopes, strict=True):
            away, variance = self._measured(one.design)
            shift = 0.0
            for slope, far in zip(one.means, away, strict=True):
                shift += slope * far
            mean += share * shift
            square += share * (variance + shift * shift)
        return mean, max(square - mean * mean, 0.0)

    def note(self, slopes: Sequence[Slopes], unit: float, mean: float) -> str:
        """Say it for people, with the feature that does most."""
        parts = [0.0] * len(FEATURES)
        for share, one in zip(self._shares, slopes, strict=True):
            away, _ = self._measured(one.design)
            for number, (slope, far) in enumerate(zip(one.means, away, strict=True)):
                parts[number] += share * slope * far
        most = max(range(len(FEATURES)), key=lambda number: abs(parts[number]))
        return f", features {unit * mean:+.3f}, most by {FEATURES[most]} {unit * parts[most]:+.3f}"
