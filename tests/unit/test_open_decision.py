from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.domain import window
from consumer.domain.open_decision import FoldedTrade, OpenDecision, decision_of, trade_of
from schemas import MarketRegime, Side, StrategyID
from tests.support.examples import examples

TEXT = st.text(min_size=1, max_size=8)
NUMBER = st.floats(allow_nan=False)
COUNT = st.integers(0, 2**62)
FEATURES = st.lists(NUMBER, max_size=3).map(tuple)
STRATEGY = TEXT | st.sampled_from(StrategyID)
DECISION: Mapping[str, st.SearchStrategy[Any]] = {
    "decision_id": TEXT,
    "account": TEXT,
    "symbol": TEXT,
    "side": st.sampled_from(Side),
    "regime": st.sampled_from(MarketRegime),
    "variant": st.none() | TEXT,
    "strategy": STRATEGY,
    "atr": NUMBER,
    "atr_mult_sl": NUMBER,
    "timestamp_ms": st.integers(-1, 2**45),
    "features": FEATURES,
    "number": COUNT,
    "closed_number": COUNT,
}
TRADE: Mapping[str, st.SearchStrategy[Any]] = {
    "account": TEXT,
    "trade_id": TEXT,
    "symbol": TEXT,
    "regime": st.sampled_from(MarketRegime),
    "variant": st.none() | TEXT,
    "strategy": STRATEGY,
    "reward": NUMBER,
    "ordinal": COUNT,
    "revision": COUNT | st.just(2**63 - 1),
    "atr": st.none() | NUMBER,
    "atr_mult_sl": NUMBER,
    "sequence": COUNT,
    "ordinal_of_all": COUNT,
    "ordinal_of_regime": COUNT,
    "paper": st.none() | NUMBER,
    "features": FEATURES,
}


@examples(4)
@given(st.fixed_dictionaries(DECISION))
def test_a_decision_survives_being_packed(found: dict[str, Any]) -> None:
    decision = OpenDecision(**found)

    assert decision_of(packed(decision.row())) == decision


@examples(4)
@given(st.fixed_dictionaries(TRADE))
def test_a_trade_survives_being_packed(found: dict[str, Any]) -> None:
    trade = FoldedTrade(**found)

    assert trade_of(packed(trade.row())) == trade


def packed(row: Sequence[Any]) -> Sequence[Any]:
    return window._unpacked(window._packed([row]))[0]
