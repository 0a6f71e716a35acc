"""How much arms differ, and what rewards make of it: a Gaussian hierarchy over the rows.

A context's mean rewards are those of its account, changed a little by its regime, and a little more
by its symbol in that regime. Each step is a Gaussian whose width says how much is believed to change;
so a context without rewards has its parents' means, and one with many has its own.

Two beliefs are held at once, and weighed by how well each foretold the rewards (Bayesian model
averaging). `NARROW` is what real markets showed: strategies that share their entries differ by
hundredths of a deviation. `WIDE` is the safeguard: arms may differ by most of a deviation, in any
way. Whichever is wrong is out of the way after some tens of rewards.

The rows are nested: a reward stands in its context's row, in its regime's and in its account's, and is told
with each of them. So what is called a deviation here is smaller than the model's, and odds are further from
even; widths, odds and what policies make of deviations were found on worlds of bars as it is.

Source: Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), chapters 5 (hierarchies) and 7.4
(averaging); Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 2.2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple, Self

from consumer.domain.policies.evidence import Seen
from consumer.domain.quick import quick

Correlation = tuple[tuple[float, ...], ...]
"""Of the arms' means, arm by arm [1]."""


_SMALL, _LARGE = 1e-200, 1e200
"""Between them a product of a few more factors is a number still."""


class Belief(NamedTuple):
    """How much means are thought to differ [deviations of a reward]."""

    widths: tuple[float, float, float]
    """Between the arms, then by regime, then by symbol and regime."""
    log_odds: float
    """In its favour before any reward."""
    head_start: float
    """What the cold-start choice is thought to be ahead by."""


# Found on worlds of real bars with a hidden skill; each may be halved or doubled at a loss of some
# points (docs/decisions/0011-policies.md).
NARROW = Belief((0.02, 0.03, 0.12), 0.0, 0.0)
WIDE = Belief((0.7, 0.1, 0.1), 3.0, 0.4)


class Estimate(NamedTuple):
    """What is believed of each arm, in their order."""

    means: list[float]
    """Mean reward [R]."""
    deviations: list[float]
    """How unsure it is [R], above 0."""
    prior_means: list[float]
    """Mean reward before the context's own rewards [R]."""
    notes: Sequence[str] = ()
    """What else is in each mean, for people; empty: nothing."""


class Posterior(ABC):
    """What is believed of the arms' means after some rows, the widest first; never changed once made.

    Args:
        means: Of each arm [deviations].
        variances: Of each mean [deviations^2].
        log_evidence: How well the rows were foretold, with the odds before.
    """

    def __init__(self, means: list[float], variances: list[float], log_evidence: float) -> None:
        self.means = means
        self.variances = variances
        self.log_evidence = log_evidence

    @abstractmethod
    def widened(self, width: float) -> "Posterior":
        """Go one row down, where each mean may differ by `width` [deviations]."""

    @abstractmethod
    def told(self, seen: list[Seen]) -> "Posterior":
        """Hear what the row says."""


class Apart(Posterior):
    """Arms tell nothing of each other."""

    @classmethod
    def before(cls, means: list[float], log_odds: float) -> Self:
        """Believe in `means` [deviations], before any row."""
        return cls(means, [0.0] * len(means), log_odds)

    def widened(self, width: float) -> Posterior:
        """Go one row down."""
        square = width * width
        return Apart(self.means, [have + square for have in self.variances], self.log_evidence)

    def told(self, seen: list[Seen]) -> Posterior:
        """Hear what the row says."""
        means, variances = self.means.copy(), self.variances.copy()
        odds, log_odds, misfit = 1.0, 0.0, 0.0
        for arm, n, mean in seen:
            have, variance = means[arm], variances[arm]
            spread = variance + 1.0 / n
            error = mean - have
            odds *= spread
            if not _SMALL < odds < _LARGE:
                odds, log_odds = 1.0, log_odds + log(odds)
            misfit += error * error / spread
            gain = variance / spread
            means[arm] = have + gain * error
            variances[arm] = variance * (1.0 - gain)
        return Apart(means, variances, self.log_evidence - 0.5 * (log_odds + log(odds) + misfit))


class Alike(Posterior):
    """The means of arms are correlated: each reward tells of all.

    Args:
        means: Of each arm [deviations].
        covariances: Of the means, arm by arm [deviations^2].
        log_evidence: As in every posterior.
        correlation: Of the means, before any reward.
    """

    def __init__(
        self,
        means: list[float],
        covariances: list[list[float]],
        log_evidence: float,
        correlation: Correlation,
    ) -> None:
        super().__init__(means, [row[arm] for arm, row in enumerate(covariances)], log_evidence)
        self._covariances = covariances
        self._correlation = correlation

    @classmethod
    def before(cls, means: list[float], log_odds: float, correlation: Correlation) -> Self:
        """Believe in `means` [deviations], before any row."""
        return cls(means, [[0.0] * len(means) for _ in means], log_odds, correlation)

    def widened(self, width: float) -> Posterior:
        """Go one row down."""
        square = width * width
        covariances = [
            [have + square * extra[other] for other, have in enumerate(row)]
            for row, extra in zip(self._covariances, self._correlation, strict=True)
        ]
        return Alike(self.means, covariances, self.log_evidence, self._correlation)

    def told(self, seen: list[Seen]) -> Posterior:
        """Hear what the row says."""
        means, cov = self.means.copy(), self._covariances.copy()
        odds, log_odds, misfit = 1.0, 0.0, 0.0
        for arm, n, mean in seen:
            row = cov[arm]  # made anew below, not changed
            spread = row[arm] + 1.0 / n
            error = mean - means[arm]
            odds *= spread
            if not _SMALL < odds < _LARGE:
                odds, log_odds = 1.0, log_odds + log(odds)
            misfit += error * error / spread
            for number, common in enumerate(row):
                gain = common / spread
                means[number] += gain * error
                cov[number] = [have - gain * row[other] for other, have in enumerate(cov[number])]
        log_evidence = self.log_evidence - 0.5 * (log_odds + log(odds) + misfit)
        return Alike(means, cov, log_evidence, self._correlation)


def centres(
    widest: list[Seen], deviations: list[float], belief: Belief, favourite: int
) -> list[float]:
    """Give each arm's mean before any reward [deviations]: the mean of all, from the widest row.

    The mean of all is in R: fees and luck of the signals are common to the arms. A deviation of 1 R
    around 0 is believed of it before any reward.

    Args:
        widest: What the account's row says.
        deviations: Of one reward, arm by arm [R], above 0.
        belief: How much means differ.
        favourite: Number of the arm that has the head start.
    """
    width = belief.widths[0] ** 2
    total, precision = 0.0, 1.0
    for arm, n, mean in widest:
        deviation = deviations[arm]
        weight = n / ((1.0 + n * width) * deviation * deviation)
        ahead = belief.head_start if arm == favourite else 0.0
        total += weight * deviation * (mean - ahead)
        precision += weight
    centre = total / precision
    found = [centre / deviation for deviation in deviations]
    found[favourite] += belief.head_start
    return found


def mixed(
    deviations: list[float],
    priors: tuple[Posterior, Posterior],
    posteriors: tuple[Posterior, Posterior],
) -> Estimate:
    """Weigh two beliefs by how well they foretold the rewards, and put the result into R.

    Args:
        deviations: Of one reward, arm by arm [R], above 0.
        priors: What was believed before the context's own rewards.
        posteriors: What is believed after them, in the same order.
    """
    one, other = posteriors
    was_one, was_other = priors
    ahead = one.log_evidence - other.log_evidence
    p = 1.0 / (1.0 + exp(-ahead)) if ahead > 0.0 else exp(ahead) / (1.0 + exp(ahead))
    q = 1.0 - p
    both = p * q
    ones, others, was_ones, was_others = one.means, other.means, was_one.means, was_other.means
    one_variances, other_variances = one.variances, other.variances
    means: list[float] = []
    unsure: list[float] = []
    before: list[float] = []
    for arm, scale in enumerate(deviations):  # zipped, native code takes three times as long
        x, y = ones[arm], others[arm]
        means.append(scale * (p * x + q * y))
        # of two Gaussians: what each is unsure of, and how far they are from each other
        variance = p * one_variances[arm] + q * other_variances[arm] + both * (x - y) * (x - y)
        unsure.append(scale * sqrt(variance))
        before.append(scale * (p * was_ones[arm] + q * was_others[arm]))
    return quick(Estimate, (means, unsure, before, ()))
