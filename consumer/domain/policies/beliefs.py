"""How much arms differ, and what rewards make of it: a Gaussian hierarchy over the rows.

A context's mean rewards are those of its account, changed a little by its regime, and a little more
by its symbol in that regime. Each step is a Gaussian whose width says how much is believed to change;
so a context without rewards has its parents' means, and one with many has its own.

Two beliefs are held at once, and weighed by how well each foretold the rewards (Bayesian model
averaging). `NARROW` is what real markets showed: strategies that share their entries differ by
hundredths of a deviation. `WIDE` is the safeguard: arms may differ by most of a deviation, in any
way. Whichever is wrong is out of the way after some tens of rewards.

Source: Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), chapters 5 (hierarchies) and 7.4
(averaging); Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 2.2.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple

from consumer.domain.policies.evidence import Evidence
from schemas.sums import total

Correlation = tuple[tuple[float, ...], ...]
"""Of the arms' means, arm by arm [1]."""


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


class _Posterior(NamedTuple):
    means: list[float]
    variances: list[float]
    prior_means: list[float]
    log_evidence: float


def _centres(evidence: Evidence, belief: Belief, favourite: int) -> list[float]:
    """Give each arm's mean before any reward [deviations]: the mean of all, from the widest row.

    The mean of all is in R: fees and luck of the signals are common to the arms. A deviation of 1 R
    around 0 is believed of it before any reward.
    """
    width = belief.widths[0] ** 2
    total, precision = 0.0, 1.0
    for arm, (n, mean, deviation) in enumerate(
        zip(evidence.weights[0], evidence.means[0], evidence.deviations, strict=True)
    ):
        weight = n / ((1.0 + n * width) * deviation * deviation)
        ahead = belief.head_start if arm == favourite else 0.0
        total += weight * deviation * (mean - ahead)
        precision += weight
    centre = total / precision
    centres = [centre / deviation for deviation in evidence.deviations]
    centres[favourite] += belief.head_start
    return centres


def apart(evidence: Evidence, belief: Belief, favourite: int) -> _Posterior:
    """Update a belief in which arms tell nothing of each other."""
    means = _centres(evidence, belief, favourite)
    prior_means = means
    variances = [0.0] * len(means)
    log_evidence = belief.log_odds
    for width, weights, seen in zip(belief.widths, evidence.weights, evidence.means, strict=True):
        prior_means = means.copy()
        square = width * width
        odds, misfit = 1.0, 0.0
        for arm, n in enumerate(weights):
            variance = variances[arm] + square
            if n:
                spread = variance + 1.0 / n
                error = seen[arm] - means[arm]
                odds *= spread
                misfit += error * error / spread
                gain = variance / spread
                means[arm] += gain * error
                variance *= 1.0 - gain
            variances[arm] = variance
        log_evidence -= 0.5 * (log(odds) + misfit)
    return _Posterior(means, variances, prior_means, log_evidence)


def alike(
    evidence: Evidence, belief: Belief, favourite: int, correlation: Correlation
) -> _Posterior:
    """Update a belief in which the means of arms are correlated: each reward tells of all."""
    means = _centres(evidence, belief, favourite)
    prior_means = means
    count = len(means)
    cov = [[0.0] * count for _ in means]
    log_evidence = belief.log_odds
    for width, weights, seen in zip(belief.widths, evidence.weights, evidence.means, strict=True):
        prior_means = means.copy()
        square = width * width
        cov = [
            [have + square * more for have, more in zip(row, extra, strict=True)]
            for row, extra in zip(cov, correlation, strict=True)
        ]
        odds, misfit = 1.0, 0.0
        for arm, n in enumerate(weights):
            if not n:
                continue
            row = cov[arm].copy()
            spread = row[arm] + 1.0 / n
            error = seen[arm] - means[arm]
            odds *= spread
            misfit += error * error / spread
            for other, common in enumerate(row):
                gain = common / spread
                means[other] += gain * error
                cov[other] = [
                    have - gain * shared for have, shared in zip(cov[other], row, strict=True)
                ]
        log_evidence -= 0.5 * (log(odds) + misfit)
    return _Posterior(means, [cov[arm][arm] for arm in range(count)], prior_means, log_evidence)


def mixed(evidence: Evidence, posteriors: Sequence[_Posterior]) -> Estimate:
    """Weigh beliefs by how well they foretold the rewards, and put the result into R."""
    best = max(posterior.log_evidence for posterior in posteriors)
    shares = [exp(posterior.log_evidence - best) for posterior in posteriors]
    whole = total(shares)
    means, deviations, prior_means = [], [], []
    for arm, scale in enumerate(evidence.deviations):
        mean = square = prior = 0.0
        for share, posterior in zip(shares, posteriors, strict=True):
            value = posterior.means[arm]
            mean += share * value
            square += share * (posterior.variances[arm] + value * value)
            prior += share * posterior.prior_means[arm]
        mean /= whole
        means.append(scale * mean)
        # rounding may leave the difference of two near numbers below 0
        deviations.append(scale * sqrt(max(square / whole - mean * mean, 1e-12)))
        prior_means.append(scale * prior / whole)
    return Estimate(means, deviations, prior_means)
