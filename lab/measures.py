"""What a series of trades is worth: profit, Sharpe, drawdown and the like, with intervals."""

from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WEEK_MS = 604_800_000
_MONDAY_MS = 4 * 86_400_000  # 1 January 1970 was a Thursday: the first Monday [Unix ms]
_WEEKS_PER_YEAR = 365.25 / 7

# Below it a resampled interval is far too narrow: 8 weeks, or blocks, can be drawn in 6,435 ways only.
LEAST_WEEKS = 8
_RESAMPLES = 2000  # a bound of the interval moves by some 2 % of its width between seeds


class Interval(NamedTuple):
    """A value and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def weeks_of(times_ms: Ints) -> Ints:
    """Number the weeks, from Monday 00:00 UTC; the first one is 0."""
    weeks: Ints = (times_ms - _MONDAY_MS) // WEEK_MS
    return weeks - int(weeks.min())


def profit(net_r: Floats) -> float:
    """Give the mean profit of a trade [R]."""
    return float(net_r.mean())


def varies(values: Floats) -> bool:
    """Tell whether values differ; the deviation of equal ones is not 0 where their mean is rounded.

    Args:
        values: At least one.
    """
    return bool(np.ptp(values) > 0.0)


def sharpe(net_r: Floats) -> float | None:
    """Give mean / standard deviation of a trade's profit [1]; None where it does not vary.

    Source: W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994); the rate
        without risk is 0.
    """
    deviation = float(net_r.std(ddof=1)) if varies(net_r) else 0.0
    return float(net_r.mean()) / deviation if deviation > 0.0 else None


def sharpe_annual(net_r: Floats, weeks: Ints) -> float | None:
    """Give the Sharpe ratio of a year [1], as if weeks were independent and each trade risked 1 R.

    The profits of each week are added up, weeks without trades being 0; trades that overlap within
    a week so count as what they are together.
    """
    weekly = np.bincount(weeks, weights=net_r).astype(np.float64)
    ratio = sharpe(weekly) if weekly.size >= LEAST_WEEKS else None
    return None if ratio is None else ratio * sqrt(_WEEKS_PER_YEAR)


def downside_deviation(net_r: Floats) -> float:
    """Give the root of the mean squared loss [R], profits counting as 0.

    Source: F. A. Sortino & L. N. Price, Performance Measurement in a Downside Risk Framework,
        Journal of Investing 3 (1994); the target is 0.
    """
    return float(np.sqrt(np.mean(np.minimum(net_r, 0.0) ** 2)))


def cvar(net_r: Floats, share: float = 0.05) -> float:
    """Give the mean of the worst trades [R]: the worst `share` of them, at least one.

    Source: R. T. Rockafellar & S. Uryasev, Optimization of Conditional Value-at-Risk, Journal of
        Risk 2 (2000).
    """
    count = max(1, round(share * net_r.size))
    return float(np.partition(net_r, count - 1)[:count].mean())


def drawdowns(equity: Floats) -> Floats:
    """Give how far each point lies below the highest one so far, which is 0 at first [R], <= 0."""
    return equity - np.maximum(np.maximum.accumulate(equity), 0.0)


def drawdown(equity: Floats) -> float:
    """Give the largest loss from a high [R], at least 0."""
    return float(-drawdowns(equity).min())


def block_weeks(lived_ms: Ints) -> int:
    """Give how many weeks are resampled together: what nine of ten trades live through, at least 1.

    Trades that overlap live through the same market; in shorter blocks each would count as if it had
    one of its own.

    Args:
        lived_ms: From the entry of each trade to its exit [ms].
    """
    return max(1, ceil(float(np.percentile(lived_ms, 90)) / WEEK_MS))


def weekly_interval(values: Floats, weeks: Ints, seed: int, length: int = 1) -> Interval | None:
    """Give the mean of a trade's value with a 95 % interval from resampled blocks of weeks.

    Whole blocks are drawn with replacement, so that trades that lived through the same market stay
    together. For a comparison the values are differences of the same trades.

    Args:
        values: One per trade.
        weeks: The week of each trade, from 0.
        seed: Of the draws.
        length: Of a block [weeks], at least 1; see `block_weeks`.

    Returns:
        None where there are fewer than 8 blocks with trades: nothing can be said.

    Source: B. Efron & R. J. Tibshirani, An Introduction to the Bootstrap (1993), sections 8.6
        (blocks) and 13.3 (percentiles); E. Carlstein, The Use of Subseries Values for Estimating the
        Variance of a General Statistic from a Stationary Sequence, Annals of Statistics 14 (1986).
    """
    blocks = weeks // length
    counts = np.bincount(blocks)
    sums = np.bincount(blocks, weights=values)[counts > 0]
    counts = counts[counts > 0]
    if counts.size < LEAST_WEEKS:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(counts.size, np.full(counts.size, 1.0 / counts.size), size=_RESAMPLES)
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def mean_interval(values: Floats) -> Interval:
    """Give the mean with its 95 % interval, as if values were independent; at least two."""
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / sqrt(values.size)
    return Interval(mean, mean - half, mean + half)
