"""Prices of stops and targets: a wrong sign here loses money at once."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consumer.domain.ladder import Ladder
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.domain.tpsl import Levels, has_valid_levels, levels
from schemas import Side, StrategyProfile

profiles = st.sampled_from(list(STRATEGY_PROFILES.values()))
prices = st.floats(1e-6, 1e9)
shares = st.floats(1e-6, 2.0)
"""ATR as a fraction of the price: up to where every stop lies below zero."""


@given(profiles, st.sampled_from(Side), prices, shares)
def test_levels_are_multiples_of_atr_around_the_entry(
    profile: StrategyProfile, side: Side, entry: float, share: float
) -> None:
    atr = entry * share
    direction = {"LONG": 1.0, "SHORT": -1.0}[side]

    found = levels(Ladder.of_profile(profile), side, entry, atr)

    distances = (-profile.r_sl, profile.r_tp1, profile.r_tp2, profile.r_tp3)
    wanted = [entry + direction * distance * atr for distance in distances]
    assert list(found) == pytest.approx(wanted, rel=1e-12, abs=entry * 1e-12)
    assert Levels._fields == ("stop_loss", "take_profit_1", "take_profit_2", "take_profit_3")


@given(profiles, prices, shares)
def test_levels_lie_in_order(profile: StrategyProfile, entry: float, share: float) -> None:
    long = levels(Ladder.of_profile(profile), Side.LONG, entry, entry * share)
    short = levels(Ladder.of_profile(profile), Side.SHORT, entry, entry * share)

    assert long.stop_loss < entry < long.take_profit_1 < long.take_profit_2 < long.take_profit_3
    assert short.stop_loss > entry > short.take_profit_1 > short.take_profit_2
    assert short.take_profit_2 > short.take_profit_3


@given(profiles, st.sampled_from(Side), prices, shares)
def test_levels_are_valid_when_all_lie_above_zero(
    profile: StrategyProfile, side: Side, entry: float, share: float
) -> None:
    lowest = profile.r_sl if side is Side.LONG else profile.r_tp3
    assume(abs(1.0 - lowest * share) > 1e-9)  # nearer to zero rounding decides

    assert has_valid_levels(Ladder.of_profile(profile), side, entry, entry * share) is (
        lowest * share < 1.0
    )


@pytest.mark.parametrize(
    ("strategy", "side", "entry"),
    [("trend_rider", Side.LONG, 2.0), ("trend_rider", Side.SHORT, 12.0), ("scalp", "SHORT", 2.5)],
)
def test_a_level_at_zero_is_not_valid(strategy: str, side: Side, entry: float) -> None:
    profile = STRATEGY_PROFILES[strategy]

    assert min(levels(Ladder.of_profile(profile), Side(side), entry, 1.0)) == 0.0
    assert not has_valid_levels(Ladder.of_profile(profile), Side(side), entry, 1.0)
    assert has_valid_levels(Ladder.of_profile(profile), Side(side), entry * (1 + 1e-9), 1.0)


def test_levels_of_the_specifications_example() -> None:
    found = levels(
        Ladder.of_profile(STRATEGY_PROFILES["ultra_aggressive"]), Side.LONG, 100_000.0, 500.0
    )

    assert found == (99_500.0, 101_500.0, 102_500.0, 104_000.0)
