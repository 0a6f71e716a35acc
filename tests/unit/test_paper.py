"""One price path scores every strategy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.ladder import Bar, Ladder, walk
from consumer.domain.paper import paper_outcomes
from consumer.domain.strategies import STRATEGY_PROFILES
from schemas import CloseReason, Side

LADDERS = {name: Ladder.of_profile(profile) for name, profile in STRATEGY_PROFILES.items()}
ENTRY, ATR = 100.0, 2.0


@st.composite
def paths(draw: st.DrawFn) -> list[Bar]:
    """Bars without gaps: each opens where the one before closed."""
    bars, opened = [], ENTRY
    for _ in range(draw(st.integers(1, 12))):
        close = opened + draw(st.floats(-3.0, 3.0))
        high = max(opened, close) + draw(st.floats(0.0, 3.0))
        low = min(opened, close) - draw(st.floats(0.0, 3.0))
        bars.append(Bar(opened, high, low, close))
        opened = close
    return bars


def as_path(bars: list[Bar]) -> list[tuple[int, float, float, float]]:
    return [(60_000 * n, bar.high, bar.low, bar.close) for n, bar in enumerate(bars)]


@given(paths(), st.sampled_from(Side))
def test_a_path_without_gaps_gives_what_the_bars_give(bars: list[Bar], side: Side) -> None:
    found = paper_outcomes(LADDERS, side, ENTRY, ATR, as_path(bars), bars[-1].close)

    for name, ladder in LADDERS.items():
        outcome = walk(ladder, side, ENTRY, ATR, bars)
        assert found[name].r == pytest.approx(outcome.gross_r)
        assert found[name].is_open == (outcome.close_reason is CloseReason.TIMEOUT)


@given(
    st.lists(
        st.tuples(*[st.floats(80.0, 120.0).map(lambda price: round(price, 1))] * 3), min_size=1
    ),
    st.floats(80.0, 120.0),
    st.sampled_from(Side),
    st.floats(0.01, 30.0),
)
def test_all_ladders_at_once_give_what_each_gives_alone(
    prices: list[tuple[float, float, float]], exit_price: float, side: Side, atr: float
) -> None:
    """To the last bit, gaps and all."""
    path = [
        (n, high, low, close)
        for n, (low, close, high) in enumerate(map(sorted, prices))  # type: ignore[misc]
    ]
    bars, before = [], ENTRY
    for _, high, low, close in path:
        bars.append(Bar(min(max(before, low), high), high, low, close))
        before = close
    mark = Bar(exit_price, exit_price, exit_price, exit_price)

    found = paper_outcomes(LADDERS, side, ENTRY, atr, path, exit_price)

    for name, ladder in LADDERS.items():
        outcome = walk(ladder, side, ENTRY, atr, [*bars, mark])
        assert found[name] == (outcome.gross_r, outcome.close_reason is CloseReason.TIMEOUT)


@given(paths(), st.sampled_from(Side))
def test_a_trade_that_followed_its_ladder_has_its_own_outcome(bars: list[Bar], side: Side) -> None:
    """What the calibration gate relies on: computed and realized outcome of the strategy taken."""
    ladder = LADDERS["ultra_aggressive"]
    real = walk(ladder, side, ENTRY, ATR, bars)
    lived = bars[: real.bars]

    found = paper_outcomes(LADDERS, side, ENTRY, ATR, as_path(lived), real.fills[-1].price)

    assert found["ultra_aggressive"].r == pytest.approx(real.gross_r)


def test_what_is_open_is_marked_at_the_exit_not_left_out() -> None:
    """A scalp ended on this path; the wide ladder still holds everything, at +1 ATR."""
    path = [(0, 104.0, 99.5, 103.5), (60_000, 105.2, 102.0, 102.2)]

    found = paper_outcomes(LADDERS, Side.LONG, ENTRY, ATR, path, 102.0)

    assert found["trend_rider"] == (pytest.approx(1.0), True)
    assert found["scalp"].is_open is False
    assert found["scalp"].r == pytest.approx(0.4 * 1.2 + 0.3 * 1.8 + 0.3 * 2.5)


def test_a_candle_that_touches_stop_and_target_counts_as_the_stop() -> None:
    found = paper_outcomes(LADDERS, Side.LONG, ENTRY, ATR, [(0, 150.0, 90.0, 120.0)], 120.0)

    for name, ladder in LADDERS.items():
        assert found[name] == (pytest.approx(-ladder.stop), False)


def test_a_gap_beyond_the_stop_fills_where_it_opened() -> None:
    """The second candle begins at its own edge nearest to where the first one ended."""
    path = [(0, 100.5, 99.5, 100.0), (60_000, 95.0, 94.0, 94.5)]

    found = paper_outcomes(LADDERS, Side.LONG, ENTRY, ATR, path, 94.5)

    assert found["ultra_aggressive"] == (pytest.approx((95.0 - ENTRY) / ATR), False)


def test_without_candles_everything_is_marked_at_the_exit() -> None:
    found = paper_outcomes(LADDERS, Side.SHORT, ENTRY, ATR, [], 99.0)

    assert all(outcome == (pytest.approx(0.5), True) for outcome in found.values())
