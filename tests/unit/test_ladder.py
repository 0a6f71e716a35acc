"""What a ladder earns on a path: the demo's trades and every backtest rest on it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.ladder import Bar, Ladder, walk
from consumer.domain.strategies import STRATEGY_PROFILES
from schemas import CloseReason, Side
from tests.support.examples import examples

LADDER = Ladder(1.0, (2.0, 3.0, 4.0), (0.4, 0.3, 0.3))
ENTRY, ATR = 100.0, 2.0  # stop 98, targets 104, 106, 108


few = examples(3)
sides = st.sampled_from(Side)


def ladders() -> st.SearchStrategy[Ladder]:
    """Distances are multiples of 1/8: exact in floating point; targets are often near, to be reached."""

    def make(drawn: bytes) -> Ladder:
        stop = (1 + drawn[0] % 24) / 8
        first, second, third = ((1 + byte % 24 * (byte // 24) // 10) / 8 for byte in drawn[1:4])
        low, high = sorted(byte % 11 for byte in drawn[4:])
        return Ladder(
            stop,
            (first, first + second, first + second + third),
            (low / 10, (high - low) / 10, (10 - high) / 10),
        )

    return st.binary(min_size=6, max_size=6).map(make)


def paths(*, gaps: bool = True) -> st.SearchStrategy[list[Bar]]:
    """Bars around the entry; without gaps each opens where the last one closed.

    They come from bytes, as drawing 80 numbers costs many times what walking does.
    """

    def make(drawn: bytes) -> list[Bar]:
        made: list[Bar] = []
        last = ENTRY
        gaps_and_moves = [byte % 49 - 24 for byte in drawn[::2]]
        tails = [byte % 17 * (byte // 17) // 15 for byte in drawn[1::2]]  # most of them short
        for gap, move, above, below in zip(
            gaps_and_moves[::2], gaps_and_moves[1::2], tails[::2], tails[1::2], strict=False
        ):
            opened = last + gap / 8 if gaps and made else last
            last = opened + move / 8
            made.append(
                Bar(opened, max(opened, last) + above / 8, min(opened, last) - below / 8, last)
            )
        return made

    return st.binary(min_size=4, max_size=80).map(make)


def mirrored(path: list[Bar]) -> list[Bar]:
    turn = 2 * ENTRY
    return [Bar(turn - bar.open, turn - bar.low, turn - bar.high, turn - bar.close) for bar in path]


@few
@given(ladders(), sides, paths())
def test_the_whole_position_is_closed_once(ladder: Ladder, side: Side, path: list[Bar]) -> None:
    outcome = walk(ladder, side, ENTRY, ATR, path)

    assert sum(fill.fraction for fill in outcome.fills) == pytest.approx(1.0, abs=1e-12)
    assert all(fill.fraction > 0.0 for fill in outcome.fills)
    assert 1 <= outcome.bars <= len(path)


@few
@given(ladders(), paths())
def test_a_short_earns_what_a_long_earns_in_the_mirror(ladder: Ladder, path: list[Bar]) -> None:
    long = walk(ladder, Side.LONG, ENTRY, ATR, path)

    short = walk(ladder, Side.SHORT, ENTRY, ATR, mirrored(path))

    turned = tuple(fill._replace(price=2 * ENTRY - fill.price) for fill in long.fills)
    assert short == replace(long, fills=turned)


@few
@given(ladders(), sides, paths())
def test_profit_lies_within_the_furthest_moves(ladder: Ladder, side: Side, path: list[Bar]) -> None:
    outcome = walk(ladder, side, ENTRY, ATR, path)

    assert -outcome.mae_r - 1e-9 <= outcome.gross_r <= outcome.mfe_r + 1e-9
    assert outcome.mfe_r >= 0.0
    assert outcome.mae_r >= 0.0


@few
@given(ladders(), sides, paths(gaps=False))
def test_without_gaps_profit_lies_between_stop_and_targets(
    ladder: Ladder, side: Side, path: list[Bar]
) -> None:
    outcome = walk(ladder, side, ENTRY, ATR, path)

    most = sum(d * f for d, f in zip(ladder.targets, ladder.fractions, strict=True))
    assert -ladder.stop - 1e-9 <= outcome.gross_r <= most + 1e-9
    if outcome.close_reason is CloseReason.TAKE_PROFIT:
        assert outcome.gross_r == pytest.approx(most)
    if len(outcome.fills) == 1 and outcome.close_reason is CloseReason.STOP_LOSS:
        assert outcome.gross_r == pytest.approx(-ladder.stop)


@few
@given(ladders(), sides, paths(), paths())
def test_what_comes_after_the_exit_does_not_matter(
    ladder: Ladder, side: Side, path: list[Bar], later: list[Bar]
) -> None:
    """Looking ahead is how backtests lie."""
    outcome = walk(ladder, side, ENTRY, ATR, path)

    if outcome.close_reason is not CloseReason.TIMEOUT:
        assert walk(ladder, side, ENTRY, ATR, path + later) == outcome
    assert walk(ladder, side, ENTRY, ATR, path[: outcome.bars]) == outcome


@few
@given(ladders(), sides, paths())
def test_an_open_rest_is_marked_at_the_last_close(
    ladder: Ladder, side: Side, path: list[Bar]
) -> None:
    outcome = walk(ladder, side, ENTRY, ATR, path)

    if outcome.close_reason is CloseReason.TIMEOUT:
        assert outcome.fills[-1].price == path[-1].close
        assert outcome.bars == len(path)


@few
@given(ladders(), paths())
def test_partial_closes_of_a_long_rise_until_the_last(ladder: Ladder, path: list[Bar]) -> None:
    fills = walk(ladder, Side.LONG, ENTRY, ATR, path).fills

    assert all(a.price <= b.price for a, b in pairwise(fills[:-1]))


def test_all_targets_in_one_bar_close_everything() -> None:
    outcome = walk(LADDER, Side.LONG, ENTRY, ATR, [Bar(100.0, 109.0, 99.0, 101.0)])

    assert outcome.fills == ((104.0, 0.4), (106.0, 0.3), (108.0, pytest.approx(0.3)))
    assert outcome.close_reason is CloseReason.TAKE_PROFIT
    assert outcome.gross_r == pytest.approx(0.4 * 2 + 0.3 * 3 + 0.3 * 4)
    assert (outcome.mfe_r, outcome.mae_r) == (4.0, 0.5)  # nothing beyond the last target


def test_a_bar_with_stop_and_target_counts_as_the_stop() -> None:
    """The order within a bar is not known; the better guess would flatter every strategy."""
    outcome = walk(LADDER, Side.LONG, ENTRY, ATR, [Bar(100.0, 120.0, 98.0, 119.0)])

    assert outcome.fills == ((98.0, 1.0),)
    assert outcome.close_reason is CloseReason.STOP_LOSS
    assert (outcome.gross_r, outcome.mfe_r, outcome.mae_r) == (-1.0, 0.0, 1.0)


def test_a_gap_through_the_stop_costs_more_than_the_stop() -> None:
    path = [Bar(100.0, 101.0, 99.0, 100.0), Bar(95.0, 96.0, 94.0, 95.0)]

    outcome = walk(LADDER, Side.LONG, ENTRY, ATR, path)

    assert outcome.fills == ((95.0, 1.0),)
    assert outcome.gross_r == outcome.mae_r * -1 == -2.5


def test_a_gap_over_targets_earns_the_open() -> None:
    path = [Bar(100.0, 101.0, 99.0, 100.0), Bar(107.0, 107.5, 105.0, 107.0)]

    outcome = walk(LADDER, Side.LONG, ENTRY, ATR, path)

    assert outcome.fills[:2] == ((107.0, 0.4), (107.0, 0.3))
    assert outcome.close_reason is CloseReason.TIMEOUT


def test_the_rest_after_a_target_may_still_be_stopped() -> None:
    path = [Bar(100.0, 104.0, 99.0, 103.0), Bar(103.0, 103.5, 97.0, 98.0)]

    outcome = walk(LADDER, Side.LONG, ENTRY, ATR, path)

    assert outcome.fills == ((104.0, 0.4), (98.0, pytest.approx(0.6)))
    assert outcome.close_reason is CloseReason.STOP_LOSS
    assert outcome.gross_r == pytest.approx(0.4 * 2 - 0.6)
    assert outcome.bars == 2


def test_a_part_of_zero_leaves_no_exit() -> None:
    """The trade-closed schema refuses an exit without a fraction."""
    ladder = Ladder(1.0, (2.0, 3.0, 4.0), (0.5, 0.5, 0.0))

    outcome = walk(ladder, Side.LONG, ENTRY, ATR, [Bar(100.0, 106.5, 99.0, 105.0)])

    assert outcome.fills == ((104.0, 0.5), (106.0, 0.5))
    assert outcome.close_reason is CloseReason.TAKE_PROFIT


@pytest.mark.parametrize("profile", STRATEGY_PROFILES.values(), ids=lambda p: p.strategy_id)
def test_every_strategy_is_a_ladder(profile: object) -> None:
    assert Ladder.of_profile(profile).stop == profile.r_sl  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("entry", "atr", "path"),
    [(0.0, 1.0, [Bar(1.0, 1.0, 1.0, 1.0)]), (1.0, 0.0, [Bar(1.0, 1.0, 1.0, 1.0)]), (1.0, 1.0, [])],
)
def test_what_cannot_be_walked_is_refused(entry: float, atr: float, path: list[Bar]) -> None:
    with pytest.raises(ValueError, match="must"):
        walk(LADDER, Side.LONG, entry, atr, path)


@pytest.mark.parametrize(
    ("stop", "targets", "fractions"),
    [
        (0.0, (1.0, 2.0, 3.0), (0.4, 0.3, 0.3)),
        (1.0, (2.0, 2.0, 3.0), (0.4, 0.3, 0.3)),
        (1.0, (1.0, 2.0, 3.0), (0.4, 0.4, 0.3)),
        (1.0, (1.0, 2.0, 3.0), (1.2, -0.5, 0.3)),
    ],
)
def test_what_is_no_ladder_is_refused(
    stop: float, targets: tuple[float, float, float], fractions: tuple[float, float, float]
) -> None:
    with pytest.raises(ValueError, match="must"):
        Ladder(stop, targets, fractions)
