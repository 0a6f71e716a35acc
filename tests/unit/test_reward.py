"""What a closed trade earned, in R: the only thing the table ever learns from."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.ladder import Ladder
from consumer.domain.reward import in_unit, realized_r
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.domain.tpsl import levels
from consumer.errors import BadMessageError
from schemas import DeadLetterCode, Side, StrategyProfile, TradeClosed
from tests.support.builders import OMIT, make_trade

prices = st.integers(1, 2**20).map(lambda n: n / 2**10)
atrs = st.integers(2**7, 2**12).map(lambda n: n / 2**10)
sides = st.sampled_from(Side)


def closed(**fields: Any) -> TradeClosed:
    return TradeClosed.model_validate(make_trade(**fields))


@given(sides, st.floats(90.0, 110.0), st.floats(90.0, 110.0), st.floats(0.5, 5.0))
def test_r_is_the_move_for_the_side_by_atr(
    side: Side, entry: float, leave: float, atr: float
) -> None:
    trade = closed(side=side, entry_price=entry, exit_price=leave, atr=atr)

    earned = leave - entry if side == "LONG" else entry - leave

    assert realized_r(trade, None) == pytest.approx(earned / atr, abs=1e-9)


@given(sides, prices, prices, atrs, st.none() | st.integers(-512, 512).map(lambda n: n / 256))
def test_fees_are_taken_off(
    side: Side, entry: float, leave: float, atr: float, fees: float | None
) -> None:
    trade = closed(
        side=side,
        entry_price=1000.0 + entry,
        exit_price=1000.0 + (entry + leave) / 1024,
        atr=8 * atr + 2.0,
        fees=OMIT if fees is None else fees,
    )
    move = Fraction(trade.exit_price) - Fraction(trade.entry_price)
    if side == "SHORT":
        move = -move

    wanted = (move - Fraction(fees or 0)) / Fraction(trade.atr)

    assert realized_r(trade, None) == pytest.approx(float(wanted), rel=1e-9, abs=1e-9)


@given(
    sides,
    st.lists(st.tuples(st.integers(90, 110), st.integers(1, 9)), min_size=1, max_size=6),
)
def test_partial_closes_count_by_their_share(side: Side, parts: list[tuple[int, int]]) -> None:
    whole = sum(weight for _, weight in parts)
    trade = closed(
        side=side,
        entry_price=100.0,
        exit_price=77.0,  # not the exit: the partial closes are
        exits=[{"price": float(price), "fraction": weight / whole} for price, weight in parts],
        atr=2.0,
        fees=0.5,
    )
    mean = Fraction(sum(price * weight for price, weight in parts), whole)
    move = mean - 100 if side == "LONG" else 100 - mean

    wanted = (move - Fraction(1, 2)) / 2

    assert realized_r(trade, None) == pytest.approx(float(wanted), abs=1e-9)


def test_partial_closes_need_no_exit_price() -> None:
    exits = [{"price": 104.0, "fraction": 0.5}, {"price": 98.0, "fraction": 0.5}]

    trade = closed(entry_price=100.0, exit_price=OMIT, exits=exits, atr=2.0)

    assert realized_r(trade, None) == pytest.approx(0.5)


def test_the_specifications_examples() -> None:
    won = closed(entry_price=100_000.0, exit_price=101_750.0, atr=500.0)
    lost = closed(side="SHORT", entry_price=100_000.0, exit_price=100_500.0, atr=500.0)

    assert realized_r(won, None) == 3.5
    assert realized_r(lost, None) == -1.0


@given(st.floats(-1000.0, 1000.0), st.sampled_from([OMIT, 2.0]), st.sampled_from([None, 4.0]))
def test_a_given_r_wins_over_prices_and_fees(r: float, atr: Any, known: float | None) -> None:
    """It is net of fees already: taking them off again would bias every strategy."""
    trade = closed(realized_r=r, fees=3.0, atr=atr)

    assert realized_r(trade, known) == r


def test_a_given_r_of_zero_is_given() -> None:
    assert realized_r(closed(realized_r=0.0, exit_price=60_000.0), None) == 0.0


def test_atr_of_the_trade_comes_before_the_decisions() -> None:
    prices = {"entry_price": 100.0, "exit_price": 108.0}

    assert realized_r(closed(**prices, atr=2.0), 4.0) == 4.0
    assert realized_r(closed(**prices, atr=OMIT), 4.0) == 2.0


def test_without_any_atr_there_is_no_r() -> None:
    with pytest.raises(BadMessageError):
        realized_r(closed(atr=OMIT), None)


@pytest.mark.parametrize(
    ("leave", "fees", "fits"),
    [(2_000.0, 0.0, True), (2_000.5, 0.0, False), (2_000.5, 0.5, True), (1e15, 0.0, False)],
)
def test_r_out_of_range_is_refused(leave: float, fees: float, fits: bool) -> None:
    """One forged price must not move an average without limit."""
    trade = closed(entry_price=1_000.0, exit_price=leave, atr=1.0, fees=fees)

    if fits:
        assert realized_r(trade, None) == 1000.0
    else:
        with pytest.raises(BadMessageError) as caught:
            realized_r(trade, None)
        assert caught.value.code is DeadLetterCode.INVALID_MESSAGE


def test_the_smallest_atr_overflows_nothing() -> None:
    with pytest.raises(BadMessageError):
        realized_r(closed(entry_price=1e-12, exit_price=1e15, atr=1e-12), None)


@given(st.floats(-1000.0, 1000.0), st.floats(0.1, 10.0))
def test_unit_atr_leaves_r(r: float, stop: float) -> None:
    assert in_unit(r, "atr", stop) == r


@given(st.floats(-1000.0, 1000.0), st.floats(0.1, 10.0))
def test_unit_risk_divides_by_the_stop(r: float, stop: float) -> None:
    assert in_unit(r, "risk", stop) == pytest.approx(r / stop, rel=1e-12)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("profile", STRATEGY_PROFILES.values(), ids=lambda p: p.strategy_id)
def test_a_full_stop_is_minus_one_risk_for_every_strategy(
    profile: StrategyProfile, side: Side
) -> None:
    """So that strategies with a near and with a wide stop are compared fairly."""
    stop = levels(Ladder.of_profile(profile), side, 50_000.0, 250.0).stop_loss
    trade = closed(side=side, entry_price=50_000.0, exit_price=stop, atr=250.0)

    assert in_unit(realized_r(trade, None), "risk", profile.r_sl) == pytest.approx(-1.0)
