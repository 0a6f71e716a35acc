"""Off-policy evaluation: another policy judged by the decisions of the one that was at work."""

from dataclasses import dataclass

import numpy as np

from lab import estimators
from lab.logged import Log
from lab.measures import Floats, Interval

LEAST_OVERLAP = 50.0
"""Effective decisions below which nothing is said: means differ by a tenth of a reward's deviation."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What another policy would have earned, and how much there is to tell it from."""

    decisions: int
    open: int
    """Decisions without a closed trade: still open, or never taken."""
    excluded: int
    unreadable: int
    logged: Interval
    """Mean R of the policy that was at work."""
    effective: float
    """Effective sample size of the decisions with a closed trade [decisions]."""
    unsupported: float
    """Share of the other policy's choices that could not have been made [1]."""
    unsupported_decisions: int
    """Decisions with such a choice."""
    ips: Interval
    snips: Interval | None
    """None where the other policy takes none of the logged arms."""
    snips_bootstrap: Interval | None
    direct: Interval
    doubly_robust: Interval
    gain: Interval
    """Of the other policy over the one at work, doubly robust [R]."""
    worst: float | None
    """Self-normalized estimate if each open trade ended by a full stop [R]."""
    best: float | None
    """The same if each open trade reached all targets [R]."""
    was: estimators.Objectives
    """Objectives of the policy that was at work."""
    would: estimators.Objectives | None
    """Objectives of the other policy."""

    @property
    def is_enough(self) -> bool:
        """Whether the two policies overlap enough to say anything."""
        return self.effective >= LEAST_OVERLAP


def evaluate(log: Log, seed: int) -> Evaluation | None:
    """Estimate what another policy would have earned; None while fewer than 2 trades have closed.

    Args:
        log: Decisions, with what the other policy would have done.
        seed: Of all draws.
    """
    rewards = log.rewards
    is_closed = ~np.isnan(rewards)
    if is_closed.sum() < 2:
        return None
    w = estimators.weights(log.column("target"), log.column("logged"))
    model, model_taken = log.column("model"), log.column("model_taken")
    closed, closed_w = rewards[is_closed], w[is_closed]
    is_told = bool(closed_w.sum() > 0.0)
    unsupported = log.column("unsupported")
    ends = [np.where(is_closed, rewards, log.column(name)) for name in ("worst", "best")]
    worst, best = (_snips(end, w) for end in ends)
    return Evaluation(
        decisions=len(rewards),
        open=int((~is_closed).sum()),
        excluded=log.excluded,
        unreadable=log.unreadable,
        logged=estimators.direct(closed),
        effective=estimators.effective_sample_size(closed_w),
        unsupported=float(unsupported.mean()),
        unsupported_decisions=int((unsupported > 0.0).sum()),
        ips=estimators.ips(closed, closed_w),
        snips=estimators.snips(closed, closed_w) if is_told else None,
        snips_bootstrap=(estimators.snips_bootstrap(closed, closed_w, seed) if is_told else None),
        direct=estimators.direct(model),
        doubly_robust=estimators.doubly_robust(rewards, w, model, model_taken),
        gain=estimators.gain(rewards, w, model - log.column("model_logged"), model_taken),
        worst=worst,
        best=best,
        was=estimators.objectives(closed, np.ones(closed.size), seed),
        would=estimators.objectives(closed, closed_w, seed) if is_told else None,
    )


def _snips(rewards: Floats, w: Floats) -> float | None:
    return estimators.snips(rewards, w).value if w.sum() > 0.0 else None
