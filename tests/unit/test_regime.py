"""The regime decides which strategies are eligible: each rule, each limit, in its order."""

import re
from math import inf, nan, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.regime import RegimeDetector
from schemas import HigherTimeframe, MarketContext, MarketRegime
from tests.support.examples import examples

LIMITS = {
    "trend_adx_threshold": 25.0,
    "trend_strength_threshold": 0.3,
    "low_vol_atr_pct_threshold": 0.015,
    "high_vol_atr_pct_threshold": 0.04,
    "extreme_vol_atr_pct_threshold": 0.06,
    "illiquid_volume_threshold": 2_000_000.0,
    "illiquid_depth_threshold": 50_000.0,
    "illiquid_spread_bps_threshold": 10.0,
}
OTHER_LIMITS = {
    "trend_adx_threshold": 20.0,
    "trend_strength_threshold": 0.5,
    "low_vol_atr_pct_threshold": 0.01,
    "high_vol_atr_pct_threshold": 0.03,
    "extreme_vol_atr_pct_threshold": 0.08,
    "illiquid_volume_threshold": 1_000.0,
    "illiquid_depth_threshold": 500.0,
    "illiquid_spread_bps_threshold": 25.0,
}


def above(limit: float) -> float:
    return nextafter(limit, inf)


def below(limit: float) -> float:
    return nextafter(limit, -inf)


def around(limits: list[float], low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of a range, the limits and their nearest neighbours often among them."""
    edges = [edge for limit in limits for edge in (below(limit), limit, above(limit))]
    return st.sampled_from(edges) | st.floats(low, high)


def contexts() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"current_price": st.just(100.0), "atr": st.just(0.5)},
        optional={
            "atr_pct": around([0.01, 0.015, 0.03, 0.04, 0.06, 0.08], 1e-6, 0.2),
            "adx": around([20.0, 25.0], 0.0, 100.0),
            "trend_strength": around([-0.5, -0.3, 0.3, 0.5], -1.0, 1.0),
            "volume_24h": around([1_000.0, 2e6], 0.0, 4e6),
            "depth_5bps": around([500.0, 50_000.0], 0.0, 1e5),
            "spread_bps": around([10.0, 25.0], 0.0, 40.0),
        },
    )


def expected(fields: dict[str, Any], limits: dict[str, float]) -> tuple[MarketRegime, float]:
    """The contract's section 2, word by word."""
    volume, depth = fields.get("volume_24h"), fields.get("depth_5bps")
    spread = fields.get("spread_bps")
    adx, strength = fields.get("adx"), fields.get("trend_strength")
    atr_pct = fields.get("atr_pct", fields["atr"] / fields["current_price"])
    least_volume = limits["illiquid_volume_threshold"]
    least_depth = limits["illiquid_depth_threshold"]
    most_spread = limits["illiquid_spread_bps_threshold"]
    if (
        (volume is not None and volume < least_volume)
        or (depth is not None and depth < least_depth)
        or (spread is not None and spread > most_spread)
    ):
        ratios = []
        if volume is not None:
            ratios.append(least_volume / volume if volume > 0.0 else inf)
        if depth is not None:
            ratios.append(least_depth / depth if depth > 0.0 else inf)
        if spread is not None:
            ratios.append(spread / most_spread)
        return MarketRegime.ILLIQUID, min(max(ratios) / 2, 1.0)
    extreme = limits["extreme_vol_atr_pct_threshold"]
    if atr_pct > extreme:
        return MarketRegime.HIGH_VOLATILITY, min(atr_pct / 2 / extreme, 1.0)
    if adx is None or strength is None:
        return MarketRegime.UNKNOWN, 0.0
    a, t = limits["trend_adx_threshold"], limits["trend_strength_threshold"]
    if adx > a and abs(strength) > t:
        trend = MarketRegime.TREND_UP if strength > 0 else MarketRegime.TREND_DOWN
        return trend, 0.5 * min(adx / 2 / a, 1.0) + 0.5 * min(abs(strength) / 2 / t, 1.0)
    if adx <= a and abs(strength) <= t:
        sure = 1.0 - 0.25 * adx / a - 0.25 * abs(strength) / t
        if atr_pct > limits["high_vol_atr_pct_threshold"]:
            return MarketRegime.RANGE_HIGH_VOL, sure
        return MarketRegime.RANGE_LOW_VOL, (
            sure - 0.2 if atr_pct >= limits["low_vol_atr_pct_threshold"] else sure
        )
    return MarketRegime.UNKNOWN, 0.0


def context(**fields: Any) -> MarketContext:
    """A liquid, calm market without a trend, unless told otherwise."""
    calm = {
        "current_price": 100.0,
        "atr": 0.5,
        "adx": 10.0,
        "trend_strength": 0.1,
        "volume_24h": 5e7,
        "depth_5bps": 5e5,
        "spread_bps": 1.0,
    }
    return MarketContext(**{k: v for k, v in {**calm, **fields}.items() if v is not None})


def regime_of(**fields: Any) -> MarketRegime:
    return RegimeDetector().detect_regime(context(**fields)).regime


@pytest.mark.parametrize("limits", [LIMITS, OTHER_LIMITS])
@examples(2)
@given(fields=contexts())
def test_regime_and_confidence_follow_the_rules(
    limits: dict[str, float], fields: dict[str, Any]
) -> None:
    regime, confidence = expected(fields, limits)

    result = RegimeDetector(**limits).detect_regime(MarketContext(**fields))

    assert result.regime is regime
    assert result.confidence == pytest.approx(confidence, abs=1e-12)
    assert 0.0 <= result.confidence <= 1.0
    assert result.reasoning
    assert "\n" not in result.reasoning


def test_limits_are_the_contracts_by_default() -> None:
    assert RegimeDetector() == RegimeDetector(**LIMITS)


@pytest.mark.parametrize(
    ("field", "limit", "bad"),
    [
        ("volume_24h", 2e6, below(2e6)),
        ("depth_5bps", 50_000.0, below(50_000.0)),
        ("spread_bps", 10.0, above(10.0)),
    ],
)
def test_a_limit_of_liquidity_is_still_liquid(field: str, limit: float, bad: float) -> None:
    assert regime_of(**{field: limit}) is MarketRegime.RANGE_LOW_VOL
    assert regime_of(**{field: bad}) is MarketRegime.ILLIQUID


@pytest.mark.parametrize("field", ["volume_24h", "depth_5bps", "spread_bps"])
def test_missing_liquidity_is_not_checked(field: str) -> None:
    assert regime_of(**{field: None}) is MarketRegime.RANGE_LOW_VOL
    assert (
        regime_of(volume_24h=None, depth_5bps=None, spread_bps=None) is MarketRegime.RANGE_LOW_VOL
    )


def test_illiquid_comes_before_everything() -> None:
    wild = {"atr_pct": 0.5, "adx": 90.0, "trend_strength": 0.9}

    assert regime_of(**wild) is MarketRegime.HIGH_VOLATILITY
    assert regime_of(**wild, spread_bps=11.0) is MarketRegime.ILLIQUID
    assert regime_of(adx=None, volume_24h=0.0) is MarketRegime.ILLIQUID


def test_high_volatility_comes_before_a_trend_and_needs_no_trend() -> None:
    trend = {"adx": 90.0, "trend_strength": -0.9}

    assert regime_of(**trend, atr_pct=0.06) is MarketRegime.TREND_DOWN
    assert regime_of(**trend, atr_pct=above(0.06)) is MarketRegime.HIGH_VOLATILITY
    assert regime_of(adx=None, trend_strength=None, atr_pct=0.07) is MarketRegime.HIGH_VOLATILITY


@pytest.mark.parametrize(
    ("adx", "strength", "regime"),
    [
        (above(25.0), above(0.3), MarketRegime.TREND_UP),
        (above(25.0), below(-0.3), MarketRegime.TREND_DOWN),
        (25.0, 0.3, MarketRegime.RANGE_LOW_VOL),
        (25.0, -0.3, MarketRegime.RANGE_LOW_VOL),
        (above(25.0), 0.3, MarketRegime.UNKNOWN),
        (above(25.0), -0.3, MarketRegime.UNKNOWN),
        (25.0, above(0.3), MarketRegime.UNKNOWN),
        (25.0, below(-0.3), MarketRegime.UNKNOWN),
        (0.0, 0.0, MarketRegime.RANGE_LOW_VOL),
        (100.0, -1.0, MarketRegime.TREND_DOWN),
    ],
)
def test_both_signs_of_a_trend_must_agree(
    adx: float, strength: float, regime: MarketRegime
) -> None:
    assert regime_of(adx=adx, trend_strength=strength) is regime


@pytest.mark.parametrize(
    ("atr_pct", "regime", "confidence"),
    [
        (below(0.015), MarketRegime.RANGE_LOW_VOL, 1.0),
        (0.015, MarketRegime.RANGE_LOW_VOL, 0.8),
        (0.04, MarketRegime.RANGE_LOW_VOL, 0.8),
        (above(0.04), MarketRegime.RANGE_HIGH_VOL, 1.0),
        (0.06, MarketRegime.RANGE_HIGH_VOL, 1.0),
    ],
)
def test_a_range_of_middling_volatility_is_less_sure(
    atr_pct: float, regime: MarketRegime, confidence: float
) -> None:
    result = RegimeDetector().detect_regime(context(adx=0.0, trend_strength=0.0, atr_pct=atr_pct))

    assert result.regime is regime
    assert result.confidence == pytest.approx(confidence, abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "confidence"),
    [
        ({"adx": 35.0, "trend_strength": 0.6}, 0.85),
        ({"adx": 50.0, "trend_strength": -0.6}, 1.0),
        ({"adx": 100.0, "trend_strength": 0.45}, 0.875),
        ({"atr_pct": 0.09}, 0.75),
        ({"atr_pct": 0.5}, 1.0),
        ({"volume_24h": 1.6e6}, 0.625),
        ({"depth_5bps": 20_000.0}, 1.0),
        ({"spread_bps": 12.0}, 0.6),
        ({"volume_24h": 1.6e6, "spread_bps": 15.0}, 0.75),
        ({"volume_24h": 0.0}, 1.0),
        ({"adx": 25.0, "trend_strength": 0.3}, 0.5),
        ({"adx": 10.0, "trend_strength": 0.9}, 0.0),
    ],
)
def test_confidence_in_numbers(fields: dict[str, float], confidence: float) -> None:
    result = RegimeDetector().detect_regime(context(**fields))

    assert result.confidence == pytest.approx(confidence, abs=1e-12)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"adx": None}, ["adx"]),
        ({"trend_strength": None}, ["trend_strength"]),
        ({"adx": None, "trend_strength": 0.9}, ["adx"]),
        ({"adx": 90.0, "trend_strength": None}, ["trend_strength"]),
    ],
)
def test_unknown_names_the_field_that_is_missing(missing: dict[str, Any], named: list[str]) -> None:
    """The specification's most common trouble: a producer that sends no indicators."""
    result = RegimeDetector().detect_regime(context(**missing))

    assert result.regime is MarketRegime.UNKNOWN
    assert result.confidence == 0.0
    for field in named:
        assert field in result.reasoning


def test_atr_as_a_fraction_is_computed_when_it_is_absent() -> None:
    assert regime_of(atr=7.0) is MarketRegime.HIGH_VOLATILITY
    assert regime_of(atr=7.0, atr_pct=0.01) is MarketRegime.RANGE_LOW_VOL
    assert regime_of(atr=0.5, atr_pct=0.07) is MarketRegime.HIGH_VOLATILITY


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"adx": 35.0, "trend_strength": 0.6, "atr_pct": 0.005},
            "Trending UP: ADX=35.0, trend_strength=0.60, ATR=0.50%",
        ),
        (
            {"adx": 41.26, "trend_strength": -0.456, "atr": 1.234},
            "Trending DOWN: ADX=41.3, trend_strength=-0.46, ATR=1.23%",
        ),
    ],
)
def test_reasoning_of_a_trend(fields: dict[str, float], text: str) -> None:
    """Operators search their logs for this line."""
    assert RegimeDetector().detect_regime(context(**fields)).reasoning == text


# Higher timeframes


def told(timeframe: str, adx: float | None, strength: float | None) -> HigherTimeframe:
    return HigherTimeframe.model_validate(
        {"timeframe": timeframe, "adx": adx, "trend_strength": strength}
    )


UP = MarketContext(current_price=100.0, atr=0.5, adx=35.0, trend_strength=0.6)
CONFIRMING = RegimeDetector(confirms_trends=True)


@pytest.mark.parametrize(
    ("higher", "regime", "confidence", "reason"),
    [
        ([], "trend_up", 0.85, ""),
        ([told("1h", 30.0, 0.5)], "trend_up", 0.925, ", as 1h trends"),
        ([told("1h", 30.0, 0.5), told("4h", 60.0, 1.0)], "trend_up", 0.925, ", as 1h and 4h trend"),
        ([told("1h", 25.0, 0.5)], "trend_up", 0.85, ""),
        ([told("1h", 30.0, 0.3)], "trend_up", 0.85, ""),
        ([told("1h", None, 0.5)], "trend_up", 0.85, ""),
        ([told("1h", 30.0, None)], "trend_up", 0.85, ""),
        (
            [told("1h", 30.0, 0.5), told("4h", 30.0, -0.5)],
            "trend_up",
            0.425,
            ", as 1h trends, but 4h trends the other way",
        ),
        ([told("4h", 30.0, -0.5)], "unknown", 0.0, ", but 4h trends the other way"),
        ([told("1h", 9.0, 0.0), told("4h", 30.0, -0.5)], "unknown", 0.0, ", but 4h trends the other way"),
    ],
)  # fmt: skip
def test_higher_timeframes_confirm_a_trend_or_contradict_it(
    higher: list[HigherTimeframe], regime: str, confidence: float, reason: str
) -> None:
    alone = CONFIRMING.detect_regime(UP)

    found = CONFIRMING.detect_signal_regime(UP, higher)

    assert (found.regime, found.confidence) == (regime, pytest.approx(confidence))
    assert found.reasoning == ("Mixed evidence: " * (regime == "unknown")) + (
        alone.reasoning + reason
    )


@given(contexts(), st.lists(st.tuples(st.floats(0, 100), st.floats(-1, 1)), max_size=4))
def test_only_trends_are_asked_about_and_only_if_wanted(
    fields: dict[str, Any], told_by: list[tuple[float, float]]
) -> None:
    context = MarketContext.model_validate(fields)
    higher = [told(f"{n}h", adx, strength) for n, (adx, strength) in enumerate(told_by, 1)]
    alone = RegimeDetector().detect_regime(context)

    assert RegimeDetector().detect_signal_regime(context, higher) == alone
    found = CONFIRMING.detect_signal_regime(context, higher)
    if alone.regime not in {"trend_up", "trend_down"}:
        assert found == alone
    assert found.regime in {alone.regime, MarketRegime.UNKNOWN}
    assert 0.0 <= found.confidence <= 1.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1, 1)), max_size=4))
def test_a_downtrend_is_confirmed_as_its_mirror_is(told_by: list[tuple[float, float]]) -> None:
    down = UP.model_copy(update={"trend_strength": -0.6})
    higher = [told(f"{n}h", adx, strength) for n, (adx, strength) in enumerate(told_by, 1)]
    mirrored = [told(f"{n}h", adx, -strength) for n, (adx, strength) in enumerate(told_by, 1)]

    up = CONFIRMING.detect_signal_regime(UP, higher)
    found = CONFIRMING.detect_signal_regime(down, mirrored)

    assert found.confidence == up.confidence
    assert (found.regime == "unknown") == (up.regime == "unknown")


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [
        ("trend_adx_threshold", (500.0, 100.1, 0.0, -1.0, nan), "within (0, 100]"),
        ("trend_strength_threshold", (1.1, 0.0, -0.3, nan), "within (0, 1]"),
        ("low_vol_atr_pct_threshold", (0.0, -0.01, nan), "above 0"),
        ("high_vol_atr_pct_threshold", (0.0, -0.01, nan), "above 0"),
        ("extreme_vol_atr_pct_threshold", (0.0, -0.01, nan), "above 0"),
        ("illiquid_volume_threshold", (0.0, -1.0, nan), "above 0"),
        ("illiquid_depth_threshold", (0.0, -1.0, nan), "above 0"),
        ("illiquid_spread_bps_threshold", (0.0, -1.0, nan), "above 0"),
        ("atr_reference", (0.0, -0.01, nan), "above 0"),
        ("hysteresis", (-0.1, 0.6, nan), "within [0, 0.5]"),
        ("min_dwell_ms", (-1,), "at least 0"),
    ],
)
def test_a_threshold_out_of_range_is_refused(
    name: str, wrong: tuple[float, ...], allowed: str
) -> None:
    """No market has an ADX of 500: nothing would ever trend, and nobody would be told."""
    for value in wrong:
        with pytest.raises(
            ValueError, match="^" + re.escape(f"{name} must be {allowed}, was {value}")
        ):
            RegimeDetector(**{name: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    RegimeDetector(trend_adx_threshold=100.0, trend_strength_threshold=1.0, hysteresis=0.5)
