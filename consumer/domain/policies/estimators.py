"""Situation -> what is believed of its candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Protocol

from consumer.domain.policies.base import Situation
from consumer.domain.policies.beliefs import (
    NARROW,
    WIDE,
    Belief,
    Correlation,
    Estimate,
    alike,
    apart,
    mixed,
)
from consumer.domain.policies.evidence import Ladders, SumsOf, earned, gather
from consumer.domain.policies.objective import MEASURES, Objective, utilities
from consumer.domain.qtable import decay_of

_LENGTH = 0.8
"""Distance of log mean targets at which two arms' means correlate by 0.6: it spans the seven."""
_ALONE = 0.05
"""Share of an arm's mean that no neighbour tells."""


def correlation_of(log_widths: Sequence[float]) -> Correlation:
    """Give how far the means of ladders go together: less with the distance of their targets.

    Args:
        log_widths: Logarithms of mean targets, one for each arm.

    Source: the squared exponential covariance; Rasmussen & Williams (2006), equation 4.9.
    """
    return tuple(
        tuple(
            1.0 if one == other else (1.0 - _ALONE) * exp(-0.5 * ((first - second) / _LENGTH) ** 2)
            for other, second in enumerate(log_widths)
        )
        for one, first in enumerate(log_widths)
    )


class Estimates(Protocol):
    """Believes something of each candidate."""

    @property
    def measure(self) -> str:
        """What estimates are called where people read them."""

    def estimate(self, situation: Situation, favourite: str) -> Estimate | None:
        """Give what is believed of each candidate; None before the account's first reward.

        Args:
            situation: What is to be chosen for.
            favourite: The candidate that has a head start where arms differ much.
        """

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its estimates, besides the profiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Estimates mean rewards of candidates, or what else counts, from their context and its parents.

    Args:
        ladders: Of all arms.
        half_life: As the rows were folded [rewards].
        are_alike: Whether neighbouring ladders are believed to earn alike, until rewards tell.
        sums_of: Which rewards count.
        objective: What is to be earned.
    """

    ladders: Ladders
    half_life: float
    are_alike: bool = False
    sums_of: SumsOf = earned
    objective: Objective = "profit"
    beliefs: tuple[Belief, Belief] = (NARROW, WIDE)
    _correlations: dict[tuple[str, ...], Correlation] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def estimate(self, situation: Situation, favourite: str) -> Estimate | None:
        """Give what is believed of each candidate; None before the account's first reward.

        Args:
            situation: What is to be chosen for.
            favourite: The candidate that has a head start where arms differ much.
        """
        arms = situation.candidates
        evidence = gather(
            (*situation.parents, situation.row),
            arms,
            self.ladders,
            decay_of(self.half_life),
            self.sums_of,
        )
        if evidence is None:
            return None
        ahead = arms.index(favourite)
        narrow, wide = self.beliefs
        if self.are_alike:
            correlation = self._correlations.get(arms)
            if correlation is None:
                correlation = correlation_of([self.ladders.log_width[arm] for arm in arms])
                self._correlations[arms] = correlation
            likely = alike(evidence, narrow, ahead, correlation)
        else:
            likely = apart(evidence, narrow, ahead)
        return utilities(
            mixed(evidence, (likely, apart(evidence, wide, ahead))),
            self.objective,
            deviations=evidence.deviations,
            downsides=evidence.downsides,
        )

    @property
    def measure(self) -> str:
        """What estimates are called where people read them."""
        return MEASURES[self.objective]

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its estimates, besides the profiles."""
        return {
            "half_life": self.half_life,
            "are_alike": self.are_alike,
            "objective": self.objective,
            "beliefs": repr(self.beliefs),
            "length": _LENGTH,
            "alone": _ALONE,
        }
