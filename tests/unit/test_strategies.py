"""Which strategies there are, and which of them may be chosen."""

from itertools import product
from math import nextafter
from typing import Any

import pytest

from consumer.domain.strategies import (
    STRATEGY_PROFILES,
    candidates,
    cold_start_choice,
    merge_profiles,
)
from schemas import MarketRegime, StrategyID, StrategyProfile

R = MarketRegime
DEFAULT = "ultra_aggressive"
TABLE = """
defensive           | 1.0 | 1.5 | 2.5 | 4.0  | 1.8 | 0.55 | very_low  | ranging high_vol low_vol
moderate            | 1.0 | 2.0 | 3.5 | 5.5  | 2.3 | 0.52 | low       | trending ranging high_vol low_vol
moderate_aggressive | 1.0 | 2.5 | 4.0 | 6.0  | 3.0 | 0.50 | moderate  | trending high_vol low_vol
balanced_aggressive | 1.5 | 4.0 | 6.0 | 10.0 | 4.5 | 0.48 | high      | trending high_vol
ultra_aggressive    | 1.0 | 3.0 | 5.0 | 8.0  | 5.0 | 0.45 | very_high | trending ranging high_vol low_vol
scalp               | 0.8 | 1.2 | 1.8 | 2.5  | 1.5 | 0.60 | low       | ranging low_vol
trend_rider         | 2.0 | 5.0 | 8.0 | 12.0 | 6.5 | 0.40 | high      | trending high_vol
"""
NAMES = [
    "Defensive",
    "Moderate",
    "Moderate Aggressive",
    "Balanced Aggressive",
    "Ultra Aggressive",
    "Scalp",
    "Trend Rider",
]
FLAGS = ["trending", "ranging", "high_vol", "low_vol"]
TREND = [
    "moderate",
    "moderate_aggressive",
    "balanced_aggressive",
    "ultra_aggressive",
    "trend_rider",
]
SUITABLE = {
    R.TREND_UP: TREND,
    R.TREND_DOWN: TREND,
    R.RANGE_LOW_VOL: ["defensive", "moderate", "ultra_aggressive", "scalp"],
    R.RANGE_HIGH_VOL: ["defensive", "moderate", "ultra_aggressive"],
    R.HIGH_VOLATILITY: [
        "defensive",
        "moderate",
        "moderate_aggressive",
        "balanced_aggressive",
        "ultra_aggressive",
        "trend_rider",
    ],
    R.ILLIQUID: ["defensive", "scalp"],
    R.UNKNOWN: [str(strategy) for strategy in StrategyID],
}


def custom(strategy_id: str = "custom", **fields: Any) -> StrategyProfile:
    ladder = {"r_sl": 1.2, "r_tp1": 2.8, "r_tp2": 4.5, "r_tp3": 7.0}
    return StrategyProfile(strategy_id=strategy_id, name="Custom", **{**ladder, **fields})


def ids(profiles: tuple[StrategyProfile, ...]) -> list[str]:
    return [str(profile.strategy_id) for profile in profiles]


def test_the_seven_profiles_are_the_contracts() -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    assert list(STRATEGY_PROFILES) == [row[0] for row in rows]
    assert [profile.name for profile in STRATEGY_PROFILES.values()] == NAMES
    for row in rows:
        profile = STRATEGY_PROFILES[row[0]]
        numbers = [profile.r_sl, profile.r_tp1, profile.r_tp2, profile.r_tp3]
        numbers += [profile.expected_risk_reward, profile.expected_win_rate]
        assert profile.strategy_id == row[0]
        assert numbers == [float(cell) for cell in row[1:7]]
        assert profile.aggressiveness == row[7]
        assert [f for f in FLAGS if getattr(profile, f"suitable_for_{f}")] == row[8].split()
        assert profile.description


def test_partial_closes_are_four_three_three() -> None:
    for profile in STRATEGY_PROFILES.values():
        shares = (
            profile.partial_close_tp1,
            profile.partial_close_tp2,
            profile.partial_close_tp3,
        )
        assert shares == (0.4, 0.3, 0.3)


@pytest.mark.parametrize("regime", R)
def test_suitable_candidates_of_each_regime(regime: MarketRegime) -> None:
    assert ids(candidates(STRATEGY_PROFILES, regime, "suitable", DEFAULT)) == SUITABLE[regime]


@pytest.mark.parametrize("regime", R)
def test_all_means_all_in_every_regime(regime: MarketRegime) -> None:
    profiles = merge_profiles([custom()])

    assert ids(candidates(profiles, regime, "all", DEFAULT)) == [*StrategyID, "custom"]


@pytest.mark.parametrize("regime", R)
@pytest.mark.parametrize("flags", list(product([False, True], repeat=4)))
def test_custom_profiles_join_by_their_flags(
    regime: MarketRegime, flags: tuple[bool, bool, bool, bool]
) -> None:
    trending, ranging, high_vol, low_vol = flags
    profile = custom(
        suitable_for_trending=trending,
        suitable_for_ranging=ranging,
        suitable_for_high_vol=high_vol,
        suitable_for_low_vol=low_vol,
    )
    joins = {
        R.TREND_UP: trending,
        R.TREND_DOWN: trending,
        R.RANGE_LOW_VOL: ranging and low_vol,
        R.RANGE_HIGH_VOL: ranging and high_vol,
        R.HIGH_VOLATILITY: high_vol,
        R.ILLIQUID: False,
        R.UNKNOWN: True,
    }

    found = ids(candidates(merge_profiles([profile]), regime, "suitable", DEFAULT))

    assert found == SUITABLE[regime] + ["custom"] * joins[regime]


@pytest.mark.parametrize("regime", [regime for regime in R if regime is not R.UNKNOWN])
def test_nothing_suitable_leaves_the_default_alone(regime: MarketRegime) -> None:
    """A deployment may define profiles that suit nothing: its signals are answered all the same."""
    profiles = {name: custom(name) for name in ("one", "two", "three")}

    assert ids(candidates(profiles, regime, "suitable", "two")) == ["two"]


def test_a_custom_profile_takes_the_place_of_a_built_in_one() -> None:
    changed = custom("scalp", r_sl=0.5)

    merged = merge_profiles([custom("late"), changed])

    assert list(merged) == [*StrategyID, "late"]
    assert merged["scalp"] == changed
    assert STRATEGY_PROFILES["scalp"].r_sl == 0.8


def test_custom_profiles_keep_their_order() -> None:
    assert list(merge_profiles([custom("zz"), custom("aa")])) == [*StrategyID, "zz", "aa"]


@pytest.mark.parametrize(
    ("regime", "strategy"),
    [
        (R.TREND_UP, "ultra_aggressive"),
        (R.TREND_DOWN, "ultra_aggressive"),
        (R.RANGE_LOW_VOL, "scalp"),
        (R.RANGE_HIGH_VOL, "moderate"),
        (R.HIGH_VOLATILITY, "defensive"),
        (R.ILLIQUID, "defensive"),
        (R.UNKNOWN, "moderate_aggressive"),
    ],
)
def test_cold_start_table(regime: MarketRegime, strategy: str) -> None:
    for confidence in (0.0, 0.5, nextafter(0.9, 0.0)):
        assert cold_start_choice(regime, confidence, "moderate_aggressive") == strategy
    if regime not in {R.TREND_UP, R.TREND_DOWN}:
        assert cold_start_choice(regime, 1.0, "moderate_aggressive") == strategy


@pytest.mark.parametrize("regime", [R.TREND_UP, R.TREND_DOWN])
def test_a_sure_trend_is_ridden_from_0_9(regime: MarketRegime) -> None:
    assert cold_start_choice(regime, 0.9, DEFAULT) == "trend_rider"
    assert cold_start_choice(regime, 1.0, DEFAULT) == "trend_rider"
