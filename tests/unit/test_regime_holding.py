"""A market stays in its regime where what speaks against it is young or weak."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.decide import Decider, decision_id_of
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.regime import Held, RegimeDetector, RegimeResult
from consumer.settings import Settings
from schemas import MarketContext, MarketRegime, Signal
from tests.support.builders import START_MS, make_signal

TREND, RANGE = MarketRegime.TREND_UP, MarketRegime.RANGE_LOW_VOL


def a_market(**fields: Any) -> MarketContext:
    usual = {"current_price": 50_000.0, "atr": 250.0, "adx": 35.0, "trend_strength": 0.6}
    return MarketContext.model_validate({**usual, **fields})


def settle(
    detector: RegimeDetector, held: Held | None, ts_ms: int = START_MS, **fields: Any
) -> RegimeResult:
    context = a_market(**fields)
    return detector.regime_of(context, None, held, ts_ms)


def test_without_the_settings_nothing_is_held() -> None:
    detector = RegimeDetector()

    assert settle(detector, Held(TREND, START_MS), adx=10.0, trend_strength=0.1).regime is RANGE


@pytest.mark.parametrize(
    ("adx", "strength", "regime"),
    [
        (23.0, 0.29, TREND),
        (22.6, 0.28, TREND),
        (22.4, 0.28, RANGE),
        (22.6, 0.26, RANGE),
        (23.0, -0.4, MarketRegime.UNKNOWN),
    ],
)
def test_limits_give_way_for_the_regime_that_holds(
    adx: float, strength: float, regime: MarketRegime
) -> None:
    """By a tenth: ADX above 22.5 and a strength above 0.27, the same way."""
    detector = RegimeDetector(hysteresis=0.1)
    held = Held(TREND, START_MS - 86_400_000)

    found = settle(detector, held, adx=adx, trend_strength=strength)

    assert found.regime is regime
    assert found.reasoning.startswith("Held trend_up (limits give way by 10%): ") == (
        regime is TREND
    )
    assert settle(detector, None, adx=adx, trend_strength=strength).regime is not TREND


def test_a_volatile_market_has_to_calm_down_clearly() -> None:
    detector = RegimeDetector(hysteresis=0.2)
    held = Held(MarketRegime.HIGH_VOLATILITY, 0)

    assert settle(detector, held, atr=0.05 * 50_000).regime is MarketRegime.HIGH_VOLATILITY
    assert settle(detector, held, atr=0.047 * 50_000).regime is TREND


def test_a_range_and_an_illiquid_market_hold_likewise() -> None:
    detector = RegimeDetector(hysteresis=0.2)
    quiet = {"adx": 15.0, "trend_strength": 0.1}

    wild = Held(MarketRegime.RANGE_HIGH_VOL, 0)
    assert settle(detector, wild, atr=1_700.0, **quiet).regime is MarketRegime.RANGE_HIGH_VOL
    assert settle(detector, wild, atr=1_500.0, **quiet).regime is RANGE
    calm = Held(RANGE, 0)
    assert settle(detector, calm, atr=2_300.0, **quiet).regime is RANGE
    assert settle(detector, calm, adx=29.0, trend_strength=0.35).regime is RANGE
    dry = Held(MarketRegime.ILLIQUID, 0)
    assert settle(detector, dry, volume_24h=2_300_000.0).regime is MarketRegime.ILLIQUID
    assert settle(detector, dry, volume_24h=2_500_000.0).regime is TREND


def test_limits_that_give_way_may_leave_the_range_of_their_values() -> None:
    """An ADX above 135 there is not: a range holds through every trend."""
    detector = RegimeDetector(
        trend_adx_threshold=90.0, trend_strength_threshold=0.9, hysteresis=0.5
    )

    for adx, strength in ((95.0, 0.95), (100.0, 1.0)):
        fields = {"adx": adx, "trend_strength": strength}
        assert settle(detector, None, **fields).regime is TREND
        assert settle(detector, Held(RANGE, 0), **fields).regime is RANGE


def test_a_regime_lasts_its_least_time() -> None:
    detector = RegimeDetector(min_dwell_ms=60_000)
    held = Held(RANGE, START_MS)

    young = settle(detector, held, START_MS + 59_999)
    assert young.regime is RANGE
    assert young.confidence == pytest.approx(0.5 * (1.0 - 0.85))
    assert young.reasoning.startswith("Held range_low_vol (for 60 s of 60): Trending UP")
    assert settle(detector, held, START_MS + 60_000).regime is TREND


def test_a_regime_that_began_in_the_future_does_not_hold_until_then() -> None:
    """One signal of a wrong clock must not freeze its market for a year."""
    detector = RegimeDetector(min_dwell_ms=60_000)
    held = Held(RANGE, START_MS)

    assert settle(detector, held, START_MS - 59_999).regime is RANGE
    assert settle(detector, held, START_MS - 60_000).regime is TREND


@pytest.mark.parametrize("fields", [{"volume_24h": 1.0}, {"atr": 5_000.0}])
def test_danger_is_told_at_once(fields: dict[str, float]) -> None:
    detector = RegimeDetector(min_dwell_ms=10**9, hysteresis=0.5)

    found = settle(detector, Held(TREND, START_MS), **fields)

    assert found.regime in {MarketRegime.ILLIQUID, MarketRegime.HIGH_VOLATILITY}


def test_mixed_evidence_holds_nothing() -> None:
    detector = RegimeDetector(min_dwell_ms=10**9)

    assert settle(detector, Held(MarketRegime.UNKNOWN, START_MS)).regime is TREND


@given(
    st.sampled_from(MarketRegime),
    st.floats(0.0, 0.5),
    st.floats(0.0, 100.0),
    st.floats(-1.0, 1.0),
    st.floats(1.0, 5_000.0),
)
def test_what_is_held_is_what_was_or_what_is_found(
    regime: MarketRegime, hysteresis: float, adx: float, strength: float, atr: float
) -> None:
    detector = RegimeDetector(hysteresis=hysteresis)
    fields = {"adx": adx, "trend_strength": strength, "atr": atr}

    found = settle(detector, None, **fields)
    kept = settle(detector, Held(regime, 0), **fields)

    assert kept.regime in {found.regime, regime}
    assert 0.0 <= kept.confidence <= 1.0
    if found.regime is regime:
        assert kept == found


@pytest.mark.parametrize("wrong", [{"hysteresis": -0.1}, {"hysteresis": 0.6}, {"min_dwell_ms": -1}])
def test_a_wrong_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RegimeDetector(**wrong)


# In the worker


def decide(decider: Decider, state: PartitionState, number: int, **fields: Any) -> MarketRegime:
    message = make_signal(signal_id=f"s{number}", ts=START_MS + number * 60_000, **fields)
    signal = Signal.model_validate(message)
    decision = decider.decide(signal, state, now_ms=START_MS, degraded=False)
    assert decision is not None
    assert decision.decision_id == decision_id_of(decision.context.account, f"s{number}")
    return decision.regime.regime


def test_each_market_has_a_regime_of_its_own() -> None:
    """Account, symbol and timeframe; a restored state remembers it."""
    settings = Settings(regime_min_dwell_s=3_600, _env_file=None)  # type: ignore[call-arg]
    decider, state = settings.decider, PartitionState(settings.fold)
    trend, flat = {"adx": 35.0, "trend_strength": 0.6}, {"adx": 10.0, "trend_strength": 0.1}
    assert decide(decider, state, 0, symbol="A", **trend) is TREND

    assert decide(decider, state, 1, symbol="A", **flat) is TREND
    for number, other in enumerate(
        ({"symbol": "B"}, {"symbol": "A", "account": "paper"}, {"symbol": "A", "timeframe": "4h"}),
        2,
    ):
        assert decide(decider, state, number, **other, **flat) is RANGE
    restored = PartitionState(FoldSettings())
    restored.restore(state.stored())
    assert decide(decider, restored, 59, symbol="A", **flat) is TREND
    assert decide(decider, restored, 60, symbol="A", **flat) is RANGE
