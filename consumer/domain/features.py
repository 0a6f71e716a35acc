"""A signal's market -> numbers that rewards may depend on, and what they say of an arm."""

from collections.abc import Sequence
from functools import lru_cache
from math import log10
from typing import Final

from consumer.domain.regime import atr_fraction
from schemas import Side, Signal
from schemas.sums import total

FEATURES = (
    "side",
    "trend",
    "adx",
    "atr",
    "volume",
    "depth",
    "spread",
    "market cap",
    "correlation to BTC",
    "news sentiment",
    "higher timeframes",
    "confidence",
)
"""What they are called where people read them, in their order."""

Features = tuple[float, ...]
"""One number for each of `FEATURES` [1], within -1 .. 1; empty: none are kept."""

NO_FEATURES: Final[Features] = ()

FeatureSums = tuple[float, ...]
"""Of an arm, see `fold_features` and `fold_centre`; empty before its first reward with features."""

_Z = len(FEATURES) + 1
PRODUCTS = _Z * (_Z + 1) // 2
"""Of the sums of an arm those that its rewards are not in; they come first."""
ALL_SUMS = PRODUCTS + _Z
"""How many sums `fold_features` keeps."""
CENTRE_SUMS = _Z
"""How many `fold_centre` keeps."""


def features_of(signal: Signal) -> Features:
    """Measure a signal: 0 is usual, or not told; what has a direction counts along the signal's side."""
    market = signal.market
    along = 1.0 if signal.side is Side.LONG else -1.0
    trends = [
        one.trend_strength
        for one in signal.higher_timeframes or ()
        if one.trend_strength is not None
    ]
    found = (
        along,
        along * (market.trend_strength or 0.0),
        0.0 if market.adx is None else min(market.adx / 25.0 - 1.0, 1.0),
        _decades(atr_fraction(market), 0.01, 1.0),
        _decades(market.volume_24h, 1e8, 3.0),
        _decades(market.depth_5bps, 1e6, 2.0),
        _decades(market.spread_bps, 1.0, 2.0),
        -_decades(market.market_cap_rank, 100.0, 2.0),
        market.correlation_to_btc or 0.0,
        along * (market.recent_news_sentiment or 0.0),
        along * total(trends) / len(trends) if trends else 0.0,
        0.0 if signal.confidence is None else 2.0 * signal.confidence - 1.0,
    )
    # to few digits: they stand in each decision, and every release of Python and of the C library has to
    # measure the same; and without the sign of a zero, which is no difference but to those who compare text
    return tuple(round(value, 6) + 0.0 for value in found)


def known(features: Sequence[float] | None) -> Features:
    """Take what a decision carries; what another release measured tells this one nothing."""
    if features is None or len(features) != len(FEATURES):
        return NO_FEATURES
    return tuple(value + 0.0 for value in features)


def _decades(value: float | None, usual: float, span: float) -> float:
    """Give the powers of ten above what is usual, by `span` of them, within -1 .. 1."""
    if value is None:
        return 0.0
    ratio = value / usual  # of the smallest numbers nothing is left
    return max(-1.0, min(log10(ratio) / span, 1.0)) if ratio > 0.0 else -1.0


def fold_features(
    sums: FeatureSums, features: Features, reward: float, decay: float
) -> FeatureSums:
    """Add one reward and its features to the sums of an arm; all earlier ones lose by `decay`.

    The sums are of z z', its upper triangle row by row, and of z r, where z is 1 and the features, and r
    the reward: what a regression needs.

    Args:
        sums: Before; empty: none.
        features: Of the signal; empty: not known, the others lose all the same.
        reward: Of the trade [R], finite.
        decay: As in `fold_reward` [1].
    """
    if not features:
        return tuple([decay * value for value in sums])
    new = (*_products(features), reward, *[one * reward for one in features])
    if not sums:
        return new
    return tuple([decay * old + more for old, more in zip(sums, new, strict=True)])


def fold_centre(sums: FeatureSums, features: Features, decay: float) -> FeatureSums:
    """Add the features of one reward to their own sums: the first of those above, the rewards' weight, and more.

    Args:
        sums: Before; empty: none.
        features: Of the signal; empty: not known, the others lose all the same.
        decay: As in `fold_reward` [1].
    """
    if not features:
        return tuple([decay * value for value in sums])
    if not sums:
        return (1.0, *features)
    return tuple([decay * old + new for old, new in zip(sums, (1.0, *features), strict=True)])


def centre_of(sums: FeatureSums) -> tuple[float, Features]:
    """Give the weight of rewards [1], older ones in part, and their mean features; none are 0.

    Args:
        sums: Of any of both kinds.
    """
    weight = sums[0] if sums else 0.0
    if not weight:
        return 0.0, (0.0,) * len(FEATURES)
    return weight, tuple([value / weight for value in sums[1:_Z]])


@lru_cache(maxsize=8)  # on paper each signal tells of all strategies
def _products(features: Features) -> tuple[float, ...]:
    z = (1.0, *features)
    return tuple(one * other for number, one in enumerate(z) for other in z[number:])


def revise_features(
    sums: FeatureSums, features: Features, change: float, weight: float
) -> FeatureSums:
    """Correct a reward in the sums of an arm, as if it had always stood there.

    Args:
        sums: Before.
        features: Of the signal; empty: not known, its reward is in no sum.
        change: New reward less the old one [R].
        weight: What the old reward still weighs [1].
    """
    if not features or not sums:
        return sums
    moved = [weight * change * one for one in (1.0, *features)]
    return sums[:PRODUCTS] + tuple(
        old + more for old, more in zip(sums[PRODUCTS:], moved, strict=True)
    )
