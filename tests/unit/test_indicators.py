"""Indicators against their published definitions, computed anew from the whole history."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.indicators import Indicators, Reading, TrendStrength, WilderAverage
from tests.support.examples import examples

Candle = tuple[float, float, float]  # high, low, close


# Many short histories find what few long ones do, in the seconds that unit tests have.
few = examples(2)


def candles(least: int = 1, most: int = 45) -> st.SearchStrategy[list[Candle]]:
    """Candles whose prices are multiples of 1/64: exact in floating point.

    They come from three bytes each, as drawing 135 numbers costs many times what reading them does.
    """
    return st.binary(min_size=3 * least, max_size=3 * most).map(_from_bytes)


def _from_bytes(drawn: bytes) -> list[Candle]:
    return [
        ((low + 5 * max(one, other)) / 64, low / 64, (low + 5 * min(one, other)) / 64)
        for low, one, other in zip(
            [3200 + 25 * byte for byte in drawn[::3]], drawn[1::3], drawn[2::3], strict=False
        )
    ]


def read(history: list[Candle], wilder_period: int = 14, trend_period: int = 20) -> Reading:
    indicators = Indicators(wilder_period, trend_period)
    for candle in history:
        indicators.update(*candle)
    return indicators.reading


def wilder(values: list[float], period: int) -> list[float]:
    """The book's recipe: a mean, then ((n - 1) old + new) / n."""
    if len(values) < period:
        return []
    averages = [sum(values[:period]) / period]
    for value in values[period:]:
        averages.append((averages[-1] * (period - 1) + value) / period)
    return averages


def true_ranges(history: list[Candle]) -> list[float]:
    first = [history[0][0] - history[0][1]]
    return first + [
        max(high - low, abs(high - close), abs(low - close))
        for (_, _, close), (high, low, _) in pairwise(history)
    ]


@few
@given(candles(), st.integers(1, 14))
def test_atr_is_wilders_average_of_true_ranges(history: list[Candle], period: int) -> None:
    expected = wilder(true_ranges(history), period)

    atr = read(history, wilder_period=period).atr

    assert atr == (pytest.approx(expected[-1], abs=1e-9) if expected else None)


@few
@given(candles(), st.integers(1, 14))
def test_adx_is_wilders_average_of_directional_movement(history: list[Candle], period: int) -> None:
    """Checked with true range in both divisors, as the book has it: it must cancel out."""
    ups, downs = [], []
    for (high_before, low_before, _), (high, low, _) in pairwise(history):
        rise, fall = high - high_before, low_before - low
        ups.append(rise if rise > max(fall, 0) else 0.0)
        downs.append(fall if fall > max(rise, 0) else 0.0)
    dx = []
    ranges = wilder(true_ranges(history)[1:], period)
    for up, down, span in zip(wilder(ups, period), wilder(downs, period), ranges, strict=True):
        plus, minus = (100 * up / span, 100 * down / span) if span else (0.0, 0.0)
        dx.append(100 * abs(plus - minus) / (plus + minus) if plus + minus else 0.0)
    expected = wilder(dx, period)

    adx = read(history, wilder_period=period).adx

    assert adx == (pytest.approx(expected[-1], abs=1e-6) if expected else None)


@few
@given(candles(least=21))
def test_trend_strength_is_net_move_by_path_length(history: list[Candle]) -> None:
    closes = [close for _, _, close in history][-21:]
    path = sum(abs(later - earlier) for earlier, later in pairwise(closes))

    strength = read(history).trend_strength

    assert strength == pytest.approx((closes[-1] - closes[0]) / path if path else 0.0)


@few
@given(candles(least=29))
def test_values_stay_in_their_ranges(history: list[Candle]) -> None:
    """The signal schema refuses what lies outside."""
    atr, adx, strength = read(history)

    assert atr is not None
    assert adx is not None
    assert strength is not None
    assert 0.0 <= atr <= max(true_ranges(history)) + 1e-9
    assert 0.0 <= adx <= 100.0
    assert -1.0 <= strength <= 1.0


@few
@given(candles(least=29), st.sampled_from([0.25, 8.0, 1024.0]))
def test_only_atr_depends_on_the_size_of_prices(history: list[Candle], factor: float) -> None:
    scaled = [(high * factor, low * factor, close * factor) for high, low, close in history]

    plain, other = read(history), read(scaled)

    assert other == (pytest.approx(plain.atr * factor), plain.adx, plain.trend_strength)


@few
@given(candles(least=29))
def test_a_mirrored_market_has_the_opposite_trend(history: list[Candle]) -> None:
    mirrored = [(300.0 - low, 300.0 - high, 300.0 - close) for high, low, close in history]

    plain, other = read(history), read(mirrored)

    assert other.atr == pytest.approx(plain.atr)
    assert other.adx == pytest.approx(plain.adx)
    assert other.trend_strength == pytest.approx(-plain.trend_strength)


@pytest.mark.parametrize("step", [0.5, -0.5])
def test_a_straight_way_is_the_strongest_trend(step: float) -> None:
    history = [(100 + i * step + 0.25, 100 + i * step - 0.25, 100 + i * step) for i in range(60)]

    atr, adx, strength = read(history)

    assert atr == pytest.approx(0.75, abs=0.01)  # the gap to the last close and half a candle
    assert adx == pytest.approx(100.0)
    assert strength == (1.0 if step > 0 else -1.0)


def test_a_market_that_stands_still_has_no_trend() -> None:
    """A division by zero here would end the executor on a holiday."""
    assert read([(5.0, 5.0, 5.0)] * 60) == (0.0, 0.0, 0.0)


def test_nothing_is_told_before_enough_candles_have_closed() -> None:
    history = [(11.0 + i, 10.0 + i, 10.5 + i) for i in range(28)]

    known = [tuple(value is not None for value in read(history[:n])) for n in range(1, 29)]

    assert [sum(column) for column in zip(*known, strict=True)] == [28 - 13, 28 - 27, 28 - 20]


@pytest.mark.parametrize(
    "candle",
    [(1.0, 2.0, 1.5), (2.0, 1.0, 3.0), (float("inf"), 1.0, 1.5), (2.0, 1.0, float("nan"))],
)
def test_what_is_no_candle_is_refused_and_changes_nothing(candle: Candle) -> None:
    indicators = Indicators(wilder_period=1, trend_period=1)
    before = indicators.update(2.0, 1.0, 1.5)

    with pytest.raises(ValueError, match="low <= close <= high"):
        indicators.update(*candle)

    assert indicators.reading == before


@pytest.mark.parametrize("kind", [WilderAverage, TrendStrength])
def test_a_period_below_one_is_refused(kind: type[WilderAverage] | type[TrendStrength]) -> None:
    with pytest.raises(ValueError, match="period must be at least 1, was 0"):
        kind(0)
