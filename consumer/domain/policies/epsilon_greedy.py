"""The specification's own rule: epsilon-greedy over an exponential moving average."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial

from consumer.domain.draws import Draws
from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.cold_start import cold_start
from consumer.domain.policies.kept import Bounded, Kept
from consumer.domain.qtable import NO_REWARDS, rewards_of
from consumer.domain.quick import quick
from schemas import MarketRegime, Mode, StrategyID

_COLD_STARTS = 1024
"""That are kept: with five rewards at most some tens for each regime and each set of candidates."""


def arm_confidence(count: int) -> float:
    """Give the trust in a Q-value that rests on `count` rewards: 1 - 2^(-count/4), within [0, 1)."""
    return 1.0 - math.pow(2.0, -count / 4)


def spread(candidates: tuple[str, ...], greedy: str, epsilon: float) -> dict[str, float]:
    """Give each candidate's probability [1]: exploring hits the greedy one, too, so both add.

    Source: Sutton & Barto, Reinforcement Learning, 2nd ed. (2018), section 2.2.
    """
    share = epsilon / len(candidates)
    propensities = dict.fromkeys(candidates, share)
    propensities[greedy] = share + (1.0 - epsilon)
    return propensities


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonGreedy:
    """Explore a candidate at random with probability epsilon, else take the best known one.

    Until a context has enough rewards, and while the best arm's Q-value is not trusted, the greedy
    arm is the cold-start choice of the regime. Epsilon decays with the rewards of the context.

    Source: contract, section 3.
    """

    base_epsilon: float = 0.10
    """Exploration rate of a context without rewards [1], within [0, 1]."""
    epsilon_min: float | None = None
    """What it decays to [1]; the same as `base_epsilon` when None: it stays constant."""
    epsilon_decay: float = 0.995
    """Factor for each reward [1], within (0, 1]."""
    min_samples: int = 5
    """Rewards a context needs before its Q-values count."""
    min_confidence_for_exploit: float = 0.5
    """Confidence the best arm needs [1]."""
    default_strategy: str = StrategyID.ULTRA_AGGRESSIVE
    """Id of the strategy taken where the regime is unknown."""
    name: str = "epsilon_greedy"
    _kept: Kept[tuple[Choice, float]] = field(
        default_factory=partial(Kept, leans_on_parents=False), init=False, repr=False, compare=False
    )
    _cold: Bounded[tuple[MarketRegime, tuple[str, ...], str, int, int], tuple[Choice, float]] = (
        field(default_factory=partial(Bounded, _COLD_STARTS), init=False, repr=False, compare=False)
    )
    """By all that they depend on: of many symbols most contexts have few rewards, and hardly ever the same row twice."""

    def __post_init__(self) -> None:
        floor = self.base_epsilon if self.epsilon_min is None else self.epsilon_min
        for name, value in (
            ("epsilon", self.base_epsilon),
            ("epsilon_min", floor),
            ("min_confidence_for_exploit", self.min_confidence_for_exploit),
        ):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be within [0, 1], was {value}")
        if not 0.0 < self.epsilon_decay <= 1.0:
            raise ValueError(f"epsilon_decay must be within (0, 1], was {self.epsilon_decay}")
        if self.min_samples < 0:
            raise ValueError(f"min_samples must be at least 0, was {self.min_samples}")

    @property
    def leans_on_parents(self) -> bool:
        """Whether it looks at the rows over all symbols: no."""
        return False

    @property
    def initial_epsilon(self) -> float:
        """Exploration rate of a context without rewards [1]."""
        return self.epsilon(0)

    def epsilon(self, rewards: int) -> float:
        """Give the exploration rate [1] of a context with so many rewards."""
        if self.epsilon_min is None:
            return self.base_epsilon
        return max(self.epsilon_min, self.base_epsilon * self.epsilon_decay**rewards)

    def choose(self, situation: Situation, draws: Draws) -> Choice:
        """Pick one of the candidates; the only randomness is `draws`."""
        cold_arm = cold_start(situation, self.default_strategy)
        rewards = rewards_of(situation.row)
        if rewards < self.min_samples:
            greedy, epsilon = self._cold_start(situation, rewards, cold_arm)
        else:
            greedy, epsilon = self._kept.get(situation, cold_arm, self._warm)
        if draws.random() >= epsilon:
            return greedy
        candidates = situation.candidates
        arm = candidates[int(draws.random() * len(candidates))]
        return Choice(
            arm,
            greedy.propensities,
            Mode.EXPLORE,
            arm_confidence(situation.row.get(arm, NO_REWARDS).count),
            f"Exploration: epsilon={epsilon:.2f}, one of {len(candidates)} candidates",
        )

    # Where nothing is explored, and how often something is [1]

    def _cold_start(
        self, situation: Situation, rewards: int, cold_arm: str
    ) -> tuple[Choice, float]:
        regime, candidates = situation.regime, situation.candidates
        count = situation.row.get(cold_arm, NO_REWARDS).count
        key = (regime, candidates, cold_arm, rewards, count)
        found = self._cold.get(key)
        if found is None:
            reason = f"Cold start: {rewards} of {self.min_samples} rewards in {regime}"
            greedy = cold_arm, Mode.HEURISTIC, reason
            found = self._cold.keep(key, self._unexplored(candidates, greedy, rewards, count))
        return found

    def _warm(self, situation: Situation, cold_arm: str) -> tuple[Choice, float]:
        row = situation.row
        greedy = self._greedy(situation, cold_arm)
        count = row.get(greedy[0], NO_REWARDS).count
        return self._unexplored(situation.candidates, greedy, rewards_of(row), count)

    def _unexplored(
        self, candidates: tuple[str, ...], greedy: tuple[str, Mode, str], rewards: int, count: int
    ) -> tuple[Choice, float]:
        arm, mode, reasoning = greedy
        epsilon = self.epsilon(rewards)
        propensities = spread(candidates, arm, epsilon)
        choice = (arm, propensities, mode, arm_confidence(count), reasoning)
        return quick(Choice, choice), epsilon

    def _greedy(self, situation: Situation, cold_arm: str) -> tuple[str, Mode, str]:
        row, candidates = situation.row, situation.candidates
        best, best_stats = candidates[0], row.get(candidates[0], NO_REWARDS)
        for candidate in candidates[1:]:  # strictly better: ties go to the earlier one
            stats = row.get(candidate, NO_REWARDS)
            if stats.ema_reward > best_stats.ema_reward:
                best, best_stats = candidate, stats
        confidence = arm_confidence(best_stats.count)
        if confidence < self.min_confidence_for_exploit:
            reason = (
                f"Cold start: highest Q-value={best_stats.ema_reward:.3f} rests on "
                f"{best_stats.count} rewards"
            )
            return cold_arm, Mode.HEURISTIC, reason
        return best, Mode.EXPLOIT, f"Exploitation: highest Q-value={best_stats.ema_reward:.3f}"

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its choices, for the policy's version."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}
