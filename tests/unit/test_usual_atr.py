"""Limits of ATR that are relative to what is usual in a market."""

from math import isclose
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consumer.decide import Decider, Decision
from consumer.decision_log import decode_logged_decision
from consumer.domain.context import ContextKey
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.regime import Held, RegimeDetector, noted
from consumer.errors import RefusedError
from consumer.settings import Settings
from consumer.store import codec
from consumer.store.meta import Meta
from consumer.stream.read_record import ReadRecord
from consumer.wire import DecisionEncoder
from schemas import MarketContext, MarketRegime, Signal
from tests.support.builders import START_MS, make_signal

QUIET, WILD = MarketRegime.RANGE_LOW_VOL, MarketRegime.RANGE_HIGH_VOL
EXTREME = MarketRegime.HIGH_VOLATILITY
SOURCE = ReadRecord("signals", 0, 0, START_MS, b"EURUSD", b"", ())
RELATIVE = RegimeDetector(atr_reference=0.02)


def a_market(atr: float, price: float = 1.1, **fields: Any) -> MarketContext:
    flat = {"adx": 10.0, "trend_strength": 0.1}
    return MarketContext.model_validate(
        {"current_price": price, "atr": atr * price, **flat, **fields}
    )


@given(
    st.floats(1e-5, 0.2),
    st.floats(1e-5, 0.2),
    st.floats(0, 60),
    st.floats(-1, 1),
)
def test_limits_grow_with_what_is_usual(
    atr: float, usual: float, adx: float, strength: float
) -> None:
    """As if the market were blown up to the reference, and judged by the limits of all."""
    blown = atr * 0.02 / usual
    assume(1e-6 < blown < 10.0)
    assume(not any(isclose(blown, limit, rel_tol=1e-6) for limit in (0.015, 0.04, 0.06)))
    fields = {"adx": adx, "trend_strength": strength}

    found = RELATIVE.detect_regime(a_market(atr, **fields), usual)
    alike = RegimeDetector().detect_regime(a_market(blown, **fields))

    assert found.regime is alike.regime
    assert found.confidence == pytest.approx(alike.confidence)
    assert f"usual {usual:.2%}" in found.reasoning


@pytest.mark.parametrize(
    ("atr", "regime", "reasoning"),
    [
        (
            0.0010,
            QUIET,
            "Ranging, low volatility: ADX=10.0, trend_strength=0.10, ATR=0.10%, usual 0.10%",
        ),
        (
            0.0021,
            WILD,
            "Ranging, high volatility: ADX=10.0, trend_strength=0.10, ATR=0.21%, usual 0.10%",
        ),
        (0.0035, EXTREME, "Extreme volatility: ATR=0.35% > 0.30%, usual 0.10%"),
    ],
)
def test_a_currency_pair_has_wild_days_too(atr: float, regime: str, reasoning: str) -> None:
    held = Held(QUIET, 0, 0.001, 50)

    found = RELATIVE.regime_of(a_market(atr), None, held, START_MS)

    assert (found.regime, found.reasoning) == (regime, reasoning)


@pytest.mark.parametrize("held", [None, Held(QUIET, 0), Held(QUIET, 0, 0.001, 49)])
def test_before_anybody_knows_what_is_usual_limits_are_those_of_all(held: Held | None) -> None:
    context = a_market(0.0035)

    assert RELATIVE.regime_of(context, None, held, START_MS) == RegimeDetector().detect_regime(
        context
    )


def test_what_is_usual_counts_only_where_limits_are_relative() -> None:
    context = a_market(0.0035)

    found = RegimeDetector().regime_of(context, None, Held(QUIET, 0, 0.001, 999), START_MS)

    assert found == RegimeDetector().detect_regime(context)


def test_a_given_fraction_is_passed_over_where_limits_are_relative() -> None:
    """What is usual was made of ATR and price, as decisions tell them."""
    context = a_market(0.001, atr_pct=0.5)

    assert RELATIVE.regime_of(context, None, Held(QUIET, 0, 0.001, 50), 0).regime is QUIET
    assert RegimeDetector().regime_of(context, None, None, 0).regime is EXTREME


@given(st.lists(st.floats(1e-5, 0.5), min_size=1, max_size=500))
def test_the_first_signals_count_alike(atrs: list[float]) -> None:
    held = None
    for atr in atrs:
        held = noted(held, QUIET, 0, atr)

    assert held is not None
    assert held.signals == len(atrs)
    assert held.mean_atr == pytest.approx(sum(atrs) / len(atrs))


def test_a_market_that_moves_differently_for_good_becomes_usual() -> None:
    held = None
    for number in range(5_000):
        held = noted(held, QUIET, 0, 0.001 if number < 2_500 else 0.004)

    assert held is not None
    assert held.mean_atr == pytest.approx(0.004, rel=0.02)


def test_a_regime_that_ends_leaves_what_is_usual() -> None:
    assert noted(Held(QUIET, 5, 0.002, 9), WILD, 7, None) == Held(WILD, 7, 0.002, 9)
    same = Held(QUIET, 5, 0.002, 9)
    assert noted(same, QUIET, 7, None) is same


def test_a_wrong_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="atr_reference must be above 0, was 0"):
        RegimeDetector(atr_reference=0.0)


# In the worker


def decide(decider: Decider, state: PartitionState, number: int, atr: float) -> Decision:
    message = make_signal(
        signal_id=f"s{number}",
        ts=START_MS + number * 60_000,
        symbol="EURUSD",
        current_price=1.1,
        atr=1.1 * atr,
        atr_pct=None,
        adx=10.0,
        trend_strength=0.1,
    )
    signal = Signal.model_validate(message)
    decision = decider.decide(signal, state, now_ms=START_MS, degraded=False)
    assert decision is not None
    return decision


def test_the_worker_learns_what_is_usual_from_its_decisions() -> None:
    settings = Settings(regime_atr_reference=0.02, _env_file=None)  # type: ignore[call-arg]
    decider, state = settings.decider, PartitionState(settings.fold)
    for number in range(50):
        decide(decider, state, number, 0.0009 if number % 2 else 0.0011)
    ((market, held),) = state.markets.items()

    assert market == ("default", "EURUSD", "15m")
    assert held.usual_atr == pytest.approx(0.001)
    restored = PartitionState(settings.fold)
    restored.restore(state.stored())
    assert decide(decider, state, 50, 0.0035).regime.regime is EXTREME
    assert decide(decider, restored, 50, 0.0035).regime.regime is EXTREME
    assert restored.markets == state.markets
    text = codec.encode_held(state.markets[market])
    assert codec.decode_market(codec.market_field(market), text) == (market, state.markets[market])


def test_without_the_setting_it_is_not_kept() -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    decider, state = settings.decider, PartitionState(settings.fold)
    for number in range(3):
        decide(decider, state, number, 0.001)

    (held,) = state.markets.values()
    assert held == Held(QUIET, START_MS)
    assert codec.encode_held(held) == f"range_low_vol {START_MS}"
    assert state.table.row(ContextKey("default", "EURUSD", QUIET)) == {}


def test_a_table_that_did_not_keep_it_is_refused() -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    stored = Meta(FoldSettings(), 8, settings.topics).fields

    with pytest.raises(RefusedError, match=r"folded with usual_atr=,.* has usual_atr=kept"):
        Meta(FoldSettings(keeps_usual_atr=True), 8, settings.topics).check(stored, "partition 0")


def test_the_log_of_decisions_tells_what_is_usual() -> None:
    """A rebuild and a replay have nothing else to know it from."""
    settings = Settings(regime_atr_reference=0.02, _env_file=None)  # type: ignore[call-arg]
    live, again = PartitionState(settings.fold), PartitionState(settings.fold)
    encoder = DecisionEncoder("epsilon_greedy", "")
    regimes = []
    for number in range(60):
        decision = decide(settings.decider, live, number, 0.001 if number % 5 else 0.004)
        regimes.append(decision.regime.regime)
        value = encoder.encode(decision, SOURCE).value
        logged = decode_logged_decision(value, decision.ts_ms)
        assert logged is not None
        again.admit(logged.remembered, is_exploration=logged.is_exploration, entry=logged.entry)

    assert set(regimes[:50]) == {QUIET}
    assert set(regimes[50:]) == {QUIET, WILD}
    assert again.markets == live.markets
