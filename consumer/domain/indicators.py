"""ATR, ADX and trend strength, one closed candle after the other.

What a signal's market context needs (contract, section 1). Each indicator keeps only what the next
candle needs, so a live feed and a replay of history give the same numbers.

Wilder: J. Welles Wilder, New Concepts in Technical Trading Systems (1978), chapters on the
Volatility System (true range) and the Directional Movement System (ADX).
Efficiency ratio: Perry J. Kaufman, Trading Systems and Methods, 5th ed. (2013), chapter 17.
"""

from collections import deque
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from schemas.sums import total

WILDER_PERIOD = 14
"""Candles that Wilder's averages run over, as he published them."""

TREND_PERIOD = 20
"""Steps that the efficiency ratio runs over."""


class WilderAverage:
    """Wilder's smoothing: the mean of the first n values, then (n - 1) parts old and 1 part new."""

    __slots__ = ("_count", "_mean", "_period")

    def __init__(self, period: int) -> None:
        if period < 1:
            raise ValueError(f"period must be at least 1, was {period}")
        self._period = period
        self._count = 0
        self._mean = 0.0

    @property
    def value(self) -> float | None:
        """The average, in the unit of the values; None before the n-th one."""
        return self._mean if self._count == self._period else None

    def update(self, value: float) -> float | None:
        """Take the next value in and give the average after it."""
        # from the n-th value on the divisor stays n, which is exactly Wilder's rule
        self._count = min(self._count + 1, self._period)
        self._mean += (value - self._mean) / self._count
        return self.value


class AverageTrueRange:
    """Wilder's ATR: how far a market moves in one candle, gaps included.

    True range is the largest of high - low, |high - previous close| and |low - previous close|; the
    first candle has no previous close, its true range is high - low.
    """

    __slots__ = ("_average", "_close")

    def __init__(self, period: int = WILDER_PERIOD) -> None:
        self._average = WilderAverage(period)
        self._close: float | None = None

    @property
    def value(self) -> float | None:
        """ATR [quote], at least 0; None before `period` candles."""
        return self._average.value

    def update(self, high: float, low: float, close: float) -> float | None:
        """Take a closed candle [quote] in and give the ATR [quote] after it."""
        before = close if self._close is None else self._close
        top, bottom = (high, low) if self._close is None else (max(high, before), min(low, before))
        self._close = close
        return self._average.update(top - bottom)


class AverageDirectionalIndex:
    """Wilder's ADX: how directed a market moves, whichever way; 0 not at all, 100 wholly.

    Of two candles the larger move beyond the earlier one's range counts, upwards (+DM) or downwards
    (-DM). DX = 100 |+DM - -DM| / (+DM + -DM) of the smoothed moves: Wilder divides both by the same
    ATR first, which cancels out. Without any move DX is 0. ADX is the smoothed DX.
    """

    __slots__ = ("_down", "_dx", "_previous", "_up")

    def __init__(self, period: int = WILDER_PERIOD) -> None:
        self._up = WilderAverage(period)
        self._down = WilderAverage(period)
        self._dx = WilderAverage(period)
        self._previous: tuple[float, float] | None = None

    @property
    def value(self) -> float | None:
        """ADX, 0 to 100; None before 2 `period` candles."""
        return self._dx.value

    def update(self, high: float, low: float) -> float | None:
        """Take a closed candle [quote] in and give the ADX after it."""
        previous, self._previous = self._previous, (high, low)
        if previous is None:
            return None
        rise, fall = high - previous[0], previous[1] - low
        up = self._up.update(rise if rise > fall and rise > 0.0 else 0.0)
        down = self._down.update(fall if fall > rise and fall > 0.0 else 0.0)
        if up is None or down is None:
            return None
        moved = up + down
        # the sum of two averages may round below their difference: 100 is the largest DX
        dx = min(100.0 * abs(up - down) / moved, 100.0) if moved > 0.0 else 0.0
        return self._dx.update(dx)


class TrendStrength:
    """Kaufman's efficiency ratio with a sign: net move / path length of the last n steps.

    1 is a straight way up, -1 a straight way down, 0 a way that leads nowhere. Without any move it
    is 0.
    """

    __slots__ = ("_closes",)

    def __init__(self, period: int = TREND_PERIOD) -> None:
        if period < 1:
            raise ValueError(f"period must be at least 1, was {period}")
        self._closes: deque[float] = deque(maxlen=period + 1)

    @property
    def value(self) -> float | None:
        """Trend strength, -1 to 1; None before `period` + 1 candles."""
        if len(self._closes) != self._closes.maxlen:
            return None
        # summed anew each time: a running sum would drift over years of candles
        path = total([abs(later - earlier) for earlier, later in pairwise(self._closes)])
        if path <= 0.0:
            return 0.0
        return max(-1.0, min(1.0, (self._closes[-1] - self._closes[0]) / path))

    def update(self, close: float) -> float | None:
        """Take a closed candle's close [quote] in and give the trend strength after it."""
        self._closes.append(close)
        return self.value


class Reading(NamedTuple):
    """What is known after a closed candle; None while too few candles have closed."""

    atr: float | None
    """Average true range [quote], at least 0."""
    adx: float | None
    """Average directional index, 0 to 100."""
    trend_strength: float | None
    """Signed efficiency ratio, -1 to 1."""


class Indicators:
    """The three indicators of one symbol and timeframe.

    Args:
        wilder_period: Candles of ATR and ADX, at least 1.
        trend_period: Steps of the trend strength, at least 1.

    Example:
        >>> indicators = Indicators(wilder_period=2, trend_period=2)
        >>> for price in (10.0, 11.0, 12.0):
        ...     reading = indicators.update(price + 0.5, price - 0.5, price)
        >>> reading
        Reading(atr=1.25, adx=None, trend_strength=1.0)
    """

    __slots__ = ("_adx", "_atr", "_trend")

    def __init__(
        self, wilder_period: int = WILDER_PERIOD, trend_period: int = TREND_PERIOD
    ) -> None:
        self._atr = AverageTrueRange(wilder_period)
        self._adx = AverageDirectionalIndex(wilder_period)
        self._trend = TrendStrength(trend_period)

    @property
    def reading(self) -> Reading:
        """All three after the last candle."""
        return Reading(self._atr.value, self._adx.value, self._trend.value)

    def update(self, high: float, low: float, close: float) -> Reading:
        """Take the next closed candle in; candles come in the order of their times.

        Args:
            high: Highest price [quote].
            low: Lowest price [quote].
            close: Last price [quote], within low .. high.

        Raises:
            ValueError: These are no prices of one candle; nothing was taken in.
        """
        if not (isfinite(high) and isfinite(low) and low <= close <= high):
            raise ValueError(
                f"low <= close <= high must hold, all finite, were {low}, {close}, {high}"
            )
        return Reading(
            self._atr.update(high, low, close),
            self._adx.update(high, low),
            self._trend.update(close),
        )
