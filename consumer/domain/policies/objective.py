"""What is to be earned: the most, or less of it at less risk."""

from collections.abc import Sequence
from typing import Literal

from consumer.domain.policies.beliefs import Estimate

Objective = Literal["profit", "sharpe", "drawdown"]
"""`profit`: mean reward. `sharpe`: mean by its own deviation. `drawdown`: mean less downside."""

DOWNSIDE_WEIGHT = 0.1
"""Mean reward that one deviation of losses is worth [1], for `drawdown`.

Strategies differ by about 0.1 R in the mean and by about 1 R in the deviation of their losses: this
lets the one outweigh the other.
"""

MEASURES: dict[Objective, str] = {
    "profit": "mean",
    "sharpe": "mean by deviation",
    "drawdown": "mean less downside",
}
"""What estimates are called where people read them."""


def utilities(
    estimate: Estimate,
    objective: Objective,
    *,
    deviations: Sequence[float],
    downsides: Sequence[float],
) -> Estimate:
    """Turn estimates of mean rewards into ones of what is to be earned.

    How much rewards deviate is taken as known: it is learned from all symbols, and long before the
    means are told apart.

    Args:
        estimate: Of mean rewards [R].
        objective: What counts.
        deviations: Of one reward, arm by arm [R], above 0.
        downsides: The same of losses alone, gains counting as 0 [R], at least 0.

    Returns:
        In deviations for `sharpe`, else in R.

    Source: Sharpe (1994), The Sharpe ratio; Sortino & van der Meer (1991), Downside risk.
    """
    match objective:
        case "profit":
            return estimate
        case "sharpe":
            means, unsure, prior_means = [
                [value / scale for value, scale in zip(values, deviations, strict=True)]
                for values in (estimate.means, estimate.deviations, estimate.prior_means)
            ]
            return Estimate(means, unsure, prior_means)
        case "drawdown":
            less = [DOWNSIDE_WEIGHT * downside for downside in downsides]
            return Estimate(
                [value - cost for value, cost in zip(estimate.means, less, strict=True)],
                estimate.deviations,
                [value - cost for value, cost in zip(estimate.prior_means, less, strict=True)],
            )
