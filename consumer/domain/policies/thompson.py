"""Probability matching: each arm as often as it is believed to be the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import erf, sqrt
from statistics import NormalDist

from consumer.domain.draws import Draws
from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.beliefs import Estimate
from consumer.domain.policies.cold_start import cold_start
from consumer.domain.policies.epsilon_greedy import arm_confidence
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.kept import Kept
from consumer.domain.qtable import NO_REWARDS
from consumer.domain.quick import quick
from schemas import Mode, StrategyID
from schemas.sums import total

_NODES = tuple(NormalDist().inv_cdf((number + 0.5) / 16) for number in range(16))
"""Midpoints of sixteen equal shares of a Gaussian: probabilities within 0.04; below some hundredths, perhaps none."""
_ROOT = sqrt(0.5)


def best_probabilities(means: Sequence[float], deviations: Sequence[float]) -> list[float]:
    """Give the probability of each arm to have the highest mean [1]; they sum to 1.

    Args:
        means: Of independent Gaussians.
        deviations: Of the same, above 0.
    """
    arms = list(zip(means, [_ROOT / deviation for deviation in deviations], strict=True))
    found = []
    for one, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        whole = 0.0
        for node in _NODES:
            value = mean + deviation * node
            product = 1.0
            for other, (center, scale) in enumerate(arms):
                if other != one:
                    product *= 0.5 * (1.0 + erf((value - center) * scale))
            whole += product
        found.append(whole)
    everything = total(found)
    return [value / everything for value in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thompson:
    """Draw each candidate with the probability that it is the best one.

    It is Thompson sampling with the probabilities computed instead of a draw from the posterior:
    these are its propensities, so that they are what they say, and other policies can be judged by
    its decisions.

    Source: Thompson (1933), On the likelihood that one unknown probability exceeds another; Chapelle
        & Li (2011), An empirical evaluation of Thompson sampling (section 3: the scale).
    """

    estimator: Estimator
    scale: float = 0.5
    """Factor of the deviations [1], above 0: below 1 it explores less than it is unsure."""
    default_strategy: str = StrategyID.ULTRA_AGGRESSIVE
    """Id of the strategy taken where the regime is unknown."""
    name: str = "thompson"
    _kept: Kept[tuple[Estimate, list[float]] | None] = field(
        default_factory=Kept, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ValueError(f"scale must be above 0, was {self.scale}")

    @property
    def leans_on_parents(self) -> bool:
        """Whether it looks at the rows over all symbols: yes."""
        return True

    @property
    def initial_epsilon(self) -> float:
        """Exploration rate [1]: 0, how much is explored follows from what is known."""
        return 0.0

    def choose(self, situation: Situation, draws: Draws) -> Choice:
        """Pick one of the candidates; the only randomness is `draws`."""
        candidates = situation.candidates
        arm = cold_start(situation, self.default_strategy)
        known = self._kept.get(situation, arm, self._shares)
        if known is None:
            propensities = dict.fromkeys(candidates, 0.0) | {arm: 1.0}
            mode, reasoning = Mode.HEURISTIC, "Cold start: no rewards yet"
        else:
            found, shares = known
            propensities = dict(zip(candidates, shares, strict=True))
            best = _drawn(shares, draws.random())
            arm = candidates[best]
            mode = Mode.EXPLOIT if shares[best] >= max(shares) else Mode.EXPLORE
            reasoning = (
                f"Thompson: the best with probability {shares[best]:.2f}, "
                f"{self.estimator.measure} {found.means[best]:.3f} of {situation.row.get(arm, NO_REWARDS).count} rewards, "
                f"prior {found.prior_means[best]:.3f} from {situation.regime}"
            )
        confidence = arm_confidence(situation.row.get(arm, NO_REWARDS).count)
        return quick(Choice, (arm, propensities, mode, confidence, reasoning))

    def _shares(self, situation: Situation, favourite: str) -> tuple[Estimate, list[float]] | None:
        found = self.estimator.estimate(situation, favourite)
        if found is None:
            return None
        deviations = [self.scale * deviation for deviation in found.deviations]
        return found, best_probabilities(found.means, deviations)

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its choices, for the policy's version."""
        return {
            "name": self.name,
            "scale": self.scale,
            "default_strategy": self.default_strategy,
            **self.estimator.parameters(),
        }


def _drawn(shares: Sequence[float], number: float) -> int:
    for index, share in enumerate(shares):
        number -= share
        if number < 0.0:
            return index
    # rounding: the shares sum to a little less than the number; never one that cannot be drawn
    return max(index for index, share in enumerate(shares) if share > 0.0)
