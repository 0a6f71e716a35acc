"""Situation -> what is believed of its candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp
from typing import NamedTuple, Protocol

from consumer.domain.policies.base import Situation
from consumer.domain.policies.beliefs import (
    NARROW,
    WIDE,
    Alike,
    Apart,
    Belief,
    Correlation,
    Estimate,
    Posterior,
    centres,
    mixed,
)
from consumer.domain.policies.evidence import Ladders, Rewards, deviations_of, earned, seen_in
from consumer.domain.policies.kept import Bounded
from consumer.domain.policies.objective import MEASURES, Objective, utilities
from consumer.domain.qtable import NO_REWARDS, Row, decay_of

_LENGTH = 0.8
"""Distance of log mean targets at which two arms' means correlate by 0.6: it spans the seven."""
_LIMIT = 256
"""Pairs of parents that are kept: those of the last batches; more only cost memory."""
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
        """Give what is believed of each candidate; None while the account has rewards of none of them.

        Args:
            situation: What is to be chosen for.
            favourite: The candidate that has a head start where arms differ much.
        """

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its estimates, besides the profiles."""


class _Above(NamedTuple):
    """What the rows of an account and of a regime say of the candidates, arm by arm."""

    deviations: list[float]
    """Of one reward [R], above 0."""
    downsides: list[float]
    """The same of losses alone, gains counting as 0 [R]."""
    posteriors: tuple[Posterior, Posterior]
    """By belief, before the context's own row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Estimates mean rewards of candidates, or what else counts, from their context and its parents.

    Args:
        ladders: Of all arms.
        half_life: As the rows were folded [rewards].
        are_alike: Whether neighbouring ladders are believed to earn alike, until rewards tell.
        rewards: Which count.
        objective: What is to be earned.
    """

    ladders: Ladders
    half_life: float
    are_alike: bool = False
    rewards: Rewards = earned
    objective: Objective = "profit"
    beliefs: tuple[Belief, Belief] = (NARROW, WIDE)
    _correlations: dict[tuple[str, ...], Correlation] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _decay: float = field(init=False, repr=False, compare=False)
    _kept: Bounded[tuple[int, int, tuple[str, ...], str], tuple[tuple[Row, Row], _Above | None]] = (
        field(default_factory=partial(Bounded, _LIMIT), init=False, repr=False, compare=False)
    )
    """What an account's and a regime's rewards say, for all of the regime's symbols; by identity of
    their rows, which never change once made, and are held here."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decay", decay_of(self.half_life))

    def estimate(self, situation: Situation, favourite: str) -> Estimate | None:
        """Give what is believed of each candidate; None while the account has rewards of none of them.

        Args:
            situation: What is to be chosen for.
            favourite: The candidate that has a head start where arms differ much.
        """
        _, _, row, candidates, parents, _, _ = situation
        widest, regime = parents
        key = (id(widest), id(regime), candidates, favourite)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept.keep(key, (parents, self._above(situation, favourite)))
        above = kept[1]
        if above is None:
            return None
        deviations, downsides, (likely, guard) = above
        own = seen_in(row, candidates, deviations, self._decay, self.rewards)
        found = mixed(deviations, above.posteriors, (likely.told(own), guard.told(own)))
        return utilities(found, self.objective, deviations=deviations, downsides=downsides)

    def _above(self, situation: Situation, favourite: str) -> _Above | None:
        arms, (widest, regime) = situation.candidates, situation.parents
        known = [widest.get(arm, NO_REWARDS) for arm in arms]
        if not any(self.rewards.recent(stats)[0] for stats in known):
            return None
        found = [
            deviations_of(arm, known[number], self.ladders, self.rewards)
            for number, arm in enumerate(arms)
        ]
        deviations = [deviation for deviation, _ in found]
        rows = [
            seen_in(row, arms, deviations, self._decay, self.rewards) for row in (widest, regime)
        ]
        ahead = arms.index(favourite)
        narrow, wide = self.beliefs
        means = centres(rows[0], deviations, narrow, ahead)
        likely: Posterior = Apart.before(means, narrow.log_odds)
        if self.are_alike:
            likely = Alike.before(means, narrow.log_odds, self._correlation(arms))
        guard: Posterior = Apart.before(centres(rows[0], deviations, wide, ahead), wide.log_odds)
        for step, row in enumerate(rows):
            likely = likely.widened(narrow.widths[step]).told(row)
            guard = guard.widened(wide.widths[step]).told(row)
        posteriors = likely.widened(narrow.widths[-1]), guard.widened(wide.widths[-1])
        return _Above(deviations, [downside for _, downside in found], posteriors)

    def _correlation(self, arms: tuple[str, ...]) -> Correlation:
        found = self._correlations.get(arms)
        if found is None:
            found = correlation_of([self.ladders.log_width[arm] for arm in arms])
            self._correlations[arms] = found
        return found

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
