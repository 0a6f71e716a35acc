"""From a regime to a strategy: who is eligible, and what happens when nobody is."""

from dataclasses import asdict, fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.fold_settings import FoldSettings
from consumer.domain.policies.base import Choice
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.qtable import ArmStats
from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.domain.selector import Selector
from consumer.domain.strategies import STRATEGY_PROFILES, merge_profiles
from consumer.errors import BadMessageError
from schemas import (
    CloseReason,
    DeadLetterCode,
    MarketRegime,
    Mode,
    Side,
    StrategyID,
    StrategyProfile,
)

R = MarketRegime
TREND = RegimeResult(R.TREND_UP, 0.85, "")
STRATEGIES = list(StrategyID)


def selector(**rules: Any) -> Selector:
    usual = {
        "profiles": STRATEGY_PROFILES,
        "policy": EpsilonGreedy(base_epsilon=0.0),
        "candidate_rule": "suitable",
        "default_strategy": "ultra_aggressive",
    }
    return Selector(**{**usual, **rules})


def choose(regime: RegimeResult = TREND, *, share: float = 0.005, **fields: Any) -> Choice:
    """Choose at a price of 100 and an ATR of `share` of it."""
    rules = {
        name: fields.pop(name)
        for name in list(fields)
        if name not in {"row", "side", "rng", "spread_bps"}
    }
    return selector(**rules).choose(
        regime,
        fields.get("row", {}),
        fields.get("rng", Random(1)),
        side=fields.get("side", Side.LONG),
        entry=100.0,
        atr=100.0 * share,
        spread_bps=fields.get("spread_bps"),
    )


@pytest.mark.parametrize(
    ("regime", "confidence", "strategy"),
    [
        (R.TREND_UP, 0.85, "ultra_aggressive"),
        (R.TREND_DOWN, 0.9, "trend_rider"),
        (R.RANGE_LOW_VOL, 0.5, "scalp"),
        (R.RANGE_HIGH_VOL, 0.5, "moderate"),
        (R.HIGH_VOLATILITY, 0.99, "defensive"),
        (R.ILLIQUID, 0.99, "defensive"),
        (R.UNKNOWN, 0.0, "ultra_aggressive"),
    ],
)
def test_cold_start_of_each_regime(regime: R, confidence: float, strategy: str) -> None:
    choice = choose(RegimeResult(regime, confidence, ""))

    assert (choice.arm, choice.mode) == (strategy, Mode.HEURISTIC)


def test_candidates_are_those_of_the_regime() -> None:
    assert set(choose(RegimeResult(R.ILLIQUID, 1.0, "")).propensities) == {"defensive", "scalp"}
    assert set(choose(RegimeResult(R.UNKNOWN, 0.0, "")).propensities) == set(StrategyID)
    assert set(choose(candidate_rule="all").propensities) == set(StrategyID)


def test_known_arms_that_are_no_candidates_are_not_taken() -> None:
    row = {
        "scalp": ArmStats(count=50, ema_reward=9.0),
        "moderate": ArmStats(count=50, ema_reward=1.0),
    }

    assert choose(row=row).arm == "moderate"
    assert choose(row=row, candidate_rule="all").arm == "scalp"


shares = st.floats(0.01, 2.0)


@given(st.sampled_from(R), st.sampled_from(Side), shares, st.integers(0, 99))
def test_strategies_with_a_level_at_or_below_zero_are_no_candidates(
    regime: R, side: Side, share: float, seed: int
) -> None:
    policy = EpsilonGreedy(base_epsilon=0.5)
    here = RegimeResult(regime, 0.5, "")
    eligible = list(choose(here, policy=policy).propensities)
    lowest = {
        name: 1.0 - share * (profile.r_sl if side is Side.LONG else profile.r_tp3)
        for name, profile in STRATEGY_PROFILES.items()
    }
    wanted = [name for name in eligible if lowest[name] > 0.0]
    if any(abs(value) < 1e-9 for value in lowest.values()):
        return  # rounding decides

    if not wanted:
        with pytest.raises(BadMessageError) as caught:
            choose(here, policy=policy, side=side, share=share, rng=Random(seed))
        assert caught.value.code is DeadLetterCode.INVALID_LEVELS
        return
    choice = choose(here, policy=policy, side=side, share=share, rng=Random(seed))

    assert list(choice.propensities) == wanted
    assert sum(choice.propensities.values()) == pytest.approx(1.0, abs=1e-12)
    assert choice.arm in wanted


def test_a_cold_start_choice_without_valid_levels_gives_way() -> None:
    """A short with targets 12 ATR away cannot ride a market that moves 9 % a candle."""
    ride = RegimeResult(R.TREND_DOWN, 0.95, "")

    choice = choose(ride, side=Side.SHORT, share=0.09)

    assert (choice.arm, choice.mode) == ("moderate", Mode.HEURISTIC)
    assert choose(ride, side=Side.LONG, share=0.09).arm == "trend_rider"


@pytest.mark.parametrize(("side", "share"), [(Side.LONG, 1.5), (Side.SHORT, 0.5)])
def test_nothing_left_is_a_bad_signal(side: Side, share: float) -> None:
    with pytest.raises(BadMessageError) as caught:
        choose(side=side, share=share)

    assert caught.value.code is DeadLetterCode.INVALID_LEVELS
    assert "\n" not in str(caught.value)


def test_nothing_suitable_leaves_the_default_alone() -> None:
    bare = [
        StrategyProfile(strategy_id=name, name=name, r_sl=1.0, r_tp1=2.0, r_tp2=3.0, r_tp3=4.0)
        for name in ("one", "two")
    ]
    profiles = {str(profile.strategy_id): profile for profile in bare}

    choice = choose(profiles=profiles, default_strategy="two")

    assert choice.arm == "two"
    assert dict(choice.propensities) == {"two": pytest.approx(1.0)}


@pytest.mark.parametrize("regime", R)
@pytest.mark.parametrize("default", ["scalp", "ultra_aggressive"])
def test_disabled_takes_the_default_always(regime: R, default: str) -> None:
    row = {"moderate": ArmStats(count=50, ema_reward=9.0), default: ArmStats(count=12)}

    choice = choose(
        RegimeResult(regime, 0.95, ""),
        row=row,
        enabled=False,
        default_strategy=default,
        policy=EpsilonGreedy(base_epsilon=1.0),
    )

    assert (choice.arm, choice.mode, choice.propensity) == (default, Mode.DEFAULT, 1.0)
    assert sum(choice.propensities.values()) == 1.0
    assert choice.reasoning


def test_disabled_without_valid_levels_is_a_bad_signal() -> None:
    with pytest.raises(BadMessageError) as caught:
        choose(enabled=False, side=Side.SHORT, share=0.125)  # its third target lies 8 ATR away

    assert caught.value.code is DeadLetterCode.INVALID_LEVELS


FOLD = FoldSettings()
OTHER_FOLDS: list[dict[str, Any]] = [
    {"alpha": 0.3},
    {"half_life": 100.0},
    {"reward_unit": "risk"},
    {"learn_exclude": frozenset({CloseReason.MANUAL})},
    {"decision_ttl_ms": 1},
    {"open_decisions_max": 1},
    {"dedupe_window": 1},
    {"candles": ""},
    {"keeps_usual_atr": True},
]


def test_each_setting_of_the_fold_is_another_version() -> None:
    named = {name for other in OTHER_FOLDS for name in other}

    assert named == {one.name for one in fields(FOLD)} - {"ladders"}, "a profile tells its ladder"


def other_than(value: float | None) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else (value or 0.1) * 1.01


def test_version_tells_everything_apart_that_changes_choices() -> None:
    """Decisions of two versions are evaluated apart: a change must never hide."""
    usual = RegimeDetector()
    changed = STRATEGY_PROFILES["scalp"].model_copy(update={"r_sl": 0.9})
    versions = [
        selector().version(usual, FOLD, 0),
        selector().version(usual, FOLD, 1),
        selector().version(usual, FOLD, 0, 1),
        selector(policy=EpsilonGreedy(base_epsilon=0.2)).version(usual, FOLD, 0),
        selector(policy=EpsilonGreedy(base_epsilon=0.0, min_samples=9)).version(usual, FOLD, 0),
        selector(candidate_rule="all").version(usual, FOLD, 0),
        selector(default_strategy="scalp").version(usual, FOLD, 0),
        selector(enabled=False).version(usual, FOLD, 0),
        selector(profiles=merge_profiles([changed])).version(usual, FOLD, 0),
        selector(profiles=dict(reversed(STRATEGY_PROFILES.items()))).version(usual, FOLD, 0),
        *(
            selector().version(replace(usual, **{name: other_than(value)}), FOLD, 0)
            for name, value in asdict(usual).items()
        ),
        *(selector().version(usual, replace(FOLD, **other), 0) for other in OTHER_FOLDS),
    ]

    assert len(set(versions)) == len(versions)
    assert selector().version(RegimeDetector(), FOLD, 0) == versions[0]
    assert all(versions)


# Costs


@pytest.mark.parametrize(
    ("cost_bps", "spread_bps", "first_target_atr"),
    [
        (0.0, None, 0.0),
        (74.0, None, 1.2),  # at half a percent of the price, 1.5 ATR are 75 basis points
        (75.0, None, 2.0),
        (74.0, 1.0, 2.0),
        (100.0, 25.0, 3.0),
        (249.0, 0.5, 5.0),
        (250.0, None, 5.0),  # nothing pays: the furthest is taken
        (9_999.0, 50.0, 5.0),
    ],
)
def test_a_first_target_has_to_pay_its_costs(
    cost_bps: float, spread_bps: float | None, first_target_atr: float
) -> None:
    choice = choose(candidate_rule="all", cost_bps=cost_bps, spread_bps=spread_bps)

    left = {arm: STRATEGY_PROFILES[arm].r_tp1 for arm in choice.propensities}
    cost_atr = (cost_bps + (spread_bps or 0.0)) / 50.0
    assert min(left.values()) >= first_target_atr
    assert left.keys() == (
        {name for name, p in STRATEGY_PROFILES.items() if p.r_tp1 > cost_atr} or {"trend_rider"}
    )
    assert choice.arm in left


def test_costs_are_not_looked_at_unless_they_are_given() -> None:
    assert set(choose(candidate_rule="all", spread_bps=9_999.0).propensities) == set(StrategyID)
    assert selector(cost_bps=1.0).version(RegimeDetector(), FOLD, 0) != selector().version(
        RegimeDetector(), FOLD, 0
    )
