"""Optimism: the arm that may be the best, by mean and by how unsure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from typing import Final

from consumer.domain.draws import Draws
from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.cold_start import cold_start
from consumer.domain.policies.epsilon_greedy import arm_confidence
from consumer.domain.policies.estimators import Estimates
from consumer.domain.policies.kept import Kept
from consumer.domain.qtable import NO_REWARDS
from consumer.domain.quick import quick
from schemas import MarketRegime, Mode, StrategyID

_EXPLOIT: Final = Mode.EXPLOIT
_EXPLORE: Final = Mode.EXPLORE


@lru_cache(maxsize=1024)  # nearly all choices share a few dozen
def _certain(candidates: tuple[str, ...], arm: str) -> Mapping[str, float]:
    """Give the propensities of a choice without chance."""
    return {candidate: 1.0 if candidate == arm else 0.0 for candidate in candidates}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ucb:
    """Take the candidate with the highest upper confidence bound: mean + `width` deviations.

    An arm is tried until its bound falls below the others', so that it is given up only when its
    rewards say so. There is no chance in it: the chosen arm has propensity 1. To judge other
    policies by its decisions, take one that draws.

    Source: Lai & Robbins (1985), Asymptotically efficient adaptive allocation rules; Kaufmann,
        Cappe & Garivier (2012), On Bayesian upper confidence bounds for bandit problems.
    """

    estimator: Estimates
    width: float = 2.0
    """Deviations of the bound above the mean [1], at least 0; 0 takes the highest mean."""
    default_strategy: str = StrategyID.ULTRA_AGGRESSIVE
    """Id of the strategy taken where the regime is unknown."""
    name: str = "ucb"
    _kept: Kept[Choice] = field(default_factory=Kept, init=False, repr=False, compare=False)
    _reasoning: dict[MarketRegime, str] = field(init=False, repr=False, compare=False)
    """Templates: native code takes half as long again for the parts of an f-string."""

    def __post_init__(self) -> None:
        if not self.width >= 0.0:
            raise ValueError(f"width must be at least 0, was {self.width}")
        templates = {
            regime: f"UCB: bound %.3f, {self.estimator.measure} %.3f of %d rewards, prior %.3f from {regime}"
            for regime in MarketRegime
        }
        object.__setattr__(self, "_reasoning", templates)

    @property
    def leans_on_parents(self) -> bool:
        """Whether it looks at the rows over all symbols: yes."""
        return True

    @property
    def initial_epsilon(self) -> float:
        """Exploration rate [1]: 0, nothing is drawn, ever."""
        return 0.0

    def choose(self, situation: Situation, draws: Draws) -> Choice:  # noqa: ARG002 - nothing is drawn
        """Pick one of the candidates."""
        favourite = cold_start(situation, self.default_strategy)
        return self._kept.get(situation, favourite, self._choose)

    def _choose(self, situation: Situation, favourite: str) -> Choice:
        regime, _, row, candidates, _, _, _ = situation
        found = self.estimator.estimate(situation, favourite)
        if found is None:
            arm, mode, reasoning = favourite, Mode.HEURISTIC, "Cold start: no rewards yet"
            count = row.get(arm, NO_REWARDS).count
        else:
            means, deviations, prior_means, notes = found
            width, best, bound, greatest = self.width, 0, -inf, -inf
            for number, mean in enumerate(means):
                upper = mean + width * deviations[number]
                if upper > bound:  # ties go to the earlier one
                    best, bound = number, upper
                greatest = max(greatest, mean)
            arm, mean = candidates[best], means[best]
            count = row.get(arm, NO_REWARDS).count
            mode = _EXPLOIT if mean >= greatest else _EXPLORE
            reasoning = self._reasoning[regime] % (bound, mean, count, prior_means[best])
            if notes:
                reasoning += notes[best]
        certain = _certain(candidates, arm)
        return quick(Choice, (arm, certain, mode, arm_confidence(count), reasoning))

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its choices, for the policy's version."""
        return {
            "name": self.name,
            "width": self.width,
            "default_strategy": self.default_strategy,
            **self.estimator.parameters(),
        }
