"""What another policy would have earned, from decisions that were logged with their propensities.

Notation: of n decisions, r is the reward of the arm taken [R], p the probability with which it was
taken, t the probability with which the other policy takes it, and w = t / p its weight.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from lab.measures import Floats, Interval, drawdown, varies

_Z = 1.96  # two-sided 95 % of the normal distribution
_RESAMPLES = 2000  # a bound of the interval moves by some 2 % of its width between seeds
_ORDERS = 500  # 25 of them lie beyond the 95th percentile; each takes as long as a resample


def weights(target: Floats, logged: Floats) -> Floats:
    """Give each decision's weight: how much oftener the other policy would have taken its arm.

    Args:
        target: Probability of the arm under the other policy [1].
        logged: Probability with which it was taken [1], above 0.

    Raises:
        ValueError: An arm was taken with probability 0.
    """
    if not (logged > 0.0).all():
        raise ValueError("an arm that was taken must have a propensity above 0")
    return target / logged


def ips(rewards: Floats, w: Floats) -> Interval:
    """Weigh each reward by how much oftener the other policy takes its arm: mean of w r [R].

    Unbiased where every arm of the other policy could have been taken. The interval is the normal
    one, from the variance of w r divided by n.

    Source: D. G. Horvitz & D. J. Thompson, A Generalization of Sampling Without Replacement From a
        Finite Universe, JASA 47 (1952).
    """
    return _normal(w * rewards)


def snips(rewards: Floats, w: Floats) -> Interval:
    """Divide by the sum of weights instead of n: sum of w r / sum of w [R].

    Slightly biased in small samples, and far steadier: a constant added to all rewards is added to
    the estimate. The interval is the normal one with the variance of a ratio,
    sum of w^2 (r - v)^2 / (sum of w)^2.

    Raises:
        ValueError: All weights are 0.

    Source: A. Swaminathan & T. Joachims, The Self-Normalized Estimator for Counterfactual
        Learning, NIPS (2015).
    """
    total = float(w.sum())
    if total <= 0.0:
        raise ValueError("the other policy takes none of the logged arms")
    value = float((w * rewards).sum()) / total
    half = _Z * sqrt(float((w**2 * (rewards - value) ** 2).sum())) / total
    return Interval(value, value - half, value + half)


def snips_bootstrap(rewards: Floats, w: Floats, seed: int) -> Interval:
    """Give the same estimate with a percentile interval from resampled decisions.

    Resamples in which the other policy takes none of the arms say nothing and are left out.

    Source: B. Efron & R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    value = snips(rewards, w).value
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, w.size, w.size)
        if (total := w[drawn].sum()) > 0.0:
            found.append((w[drawn] * rewards[drawn]).sum() / total)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def direct(model: Floats) -> Interval:
    """Trust a model of rewards alone: mean of what it expects of the other policy [R].

    Args:
        model: For each decision the sum over arms of t(arm) times the reward that the model
            expects of it [R].
    """
    return _normal(model)


def doubly_robust(rewards: Floats, w: Floats, model: Floats, model_taken: Floats) -> Interval:
    """Correct a model by its weighted errors: mean of m + w (r - q) [R].

    Unbiased where the propensities are right or the model is; the better the model, the narrower.
    The interval is the normal one.

    Args:
        rewards: r [R]. NaN where it is not known yet: such a decision counts as the model expects.
        w: Weights.
        model: m, what the model expects of the other policy [R].
        model_taken: q, what it expects of the arm that was taken [R].

    Source: M. Dudik, J. Langford & L. Li, Doubly Robust Policy Evaluation and Learning, ICML
        (2011).
    """
    errors = np.where(np.isnan(rewards), 0.0, rewards - model_taken)
    return _normal(model + w * errors)


def gain(rewards: Floats, w: Floats, difference: Floats, model_taken: Floats) -> Interval:
    """Give the other policy's value less that of the one at work, both doubly robust [R].

    The mean of d + (w - 1) (r - q): the same chances lie in both and cancel, so that a policy has
    no gain over itself. The interval is the normal one.

    Args:
        rewards: r [R]. NaN where it is not known yet: such a decision counts as the model expects.
        w: Weights.
        difference: d, what the model expects of the other policy less what of the one at work [R].
        model_taken: q, what it expects of the arm that was taken [R].
    """
    return doubly_robust(rewards, w - 1.0, difference, model_taken)


def effective_sample_size(w: Floats) -> float:
    """Give how many equally weighted decisions would say as much: (sum of w)^2 / sum of w^2.

    0 where all weights are.

    Source: L. Kish, Survey Sampling (1965), section 11.7.
    """
    squares = float((w**2).sum())
    return float(w.sum()) ** 2 / squares if squares > 0.0 else 0.0


class Objectives(NamedTuple):
    """What a weighted set of trades is worth by more than its mean."""

    profit: float
    """Mean R."""
    sharpe: float | None
    """Mean / standard deviation of a trade [1]; None where nothing varies."""
    downside: float
    """Root of the mean squared loss [R]."""
    cvar: float
    """Mean of the worst 5 % of the weight [R]."""
    drawdown: float
    """Median of the largest loss from a high, over as many trades in random order [R]."""
    drawdown_95: float
    """What it stays below in 95 of 100 orders [R]."""


def objectives(rewards: Floats, w: Floats, seed: int) -> Objectives:
    """Measure the trades as the other policy would have had them: each counts by its weight.

    A drawdown belongs to an order of trades, which the other policy's would be another: so as many
    trades as there are are drawn by their weights again and again, as if they were independent.

    Args:
        rewards: r [R].
        w: Weights, not all 0.
        seed: Of the draws.
    """
    share = w / w.sum()
    mean = float(share @ rewards)
    variance = float(share @ (rewards - mean) ** 2) if varies(rewards[w > 0.0]) else 0.0
    order = np.argsort(rewards)
    # the part of each trade's weight that lies within the worst 5 %
    before = np.concatenate(([0.0], np.cumsum(share[order])[:-1]))
    worst = np.clip(0.05 - before, 0.0, share[order])
    rng = np.random.default_rng(seed)
    # one order after the other: all at once take as many times the memory as there are
    found = [
        drawdown(np.cumsum(rng.choice(rewards, size=rewards.size, p=share))) for _ in range(_ORDERS)
    ]
    median, most = np.percentile(found, [50.0, 95.0])
    return Objectives(
        mean,
        mean / sqrt(variance) if variance > 0.0 else None,
        sqrt(float(share @ np.minimum(rewards, 0.0) ** 2)),
        float((worst * rewards[order]).sum() / 0.05),
        float(median),
        float(most),
    )


def _normal(terms: Floats) -> Interval:
    """Give a mean with its normal interval; without a width below two terms."""
    mean = float(terms.mean())
    half = _Z * float(terms.std(ddof=1)) / sqrt(terms.size) if terms.size > 1 else float("inf")
    return Interval(mean, mean - half, mean + half)
