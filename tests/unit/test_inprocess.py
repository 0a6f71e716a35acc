"""The selector in a process of one's own: memory, file, accounts, errors."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import (
    STRATEGY_PROFILES,
    MarketContext,
    MarketRegime,
    MetaStrategyIntegration,
    MetaStrategySelector,
    Mode,
    RefusedError,
    RegimeResult,
    SelectorDecision,
    Side,
    StrategyID,
    StrategyProfile,
    get_meta_strategy_integration,
    get_strategy_profile,
    register_strategy_profile,
)
from consumer.domain.qtable import HALF_LIFE, NO_REWARDS, decay_of, fold_reward
from consumer.inprocess import integration
from consumer.store import files
from tests.support.examples import examples

MARKET = {
    "current_price": 50_000.0,
    "atr": 250.0,
    "adx": 35.0,
    "trend_strength": 0.6,
    "volume_24h": 50_000_000.0,
    "depth_5bps": 500_000.0,
    "spread_bps": 1.0,
}

few = examples(1.5)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a process of its own: no state file, no integration, no custom profile."""
    monkeypatch.delenv(integration.STATE_FILE_VARIABLE, raising=False)
    monkeypatch.setattr(integration, "_own", integration._ProcessOwn())
    yield
    for strategy_id in list(STRATEGY_PROFILES._custom):
        del STRATEGY_PROFILES[strategy_id]


def make_context(**fields: Any) -> MarketContext:
    return MarketContext(**({"symbol": "BTCUSDT", "timeframe": "15m"} | MARKET | fields))


def make_profile(strategy_id: str = "patient", **fields: Any) -> StrategyProfile:
    ladder = {"name": "Patient", "r_sl": 1.2, "r_tp1": 2.8, "r_tp2": 4.5, "r_tp3": 7.0}
    return StrategyProfile(strategy_id=strategy_id, **(ladder | fields))


def choose(selector: MetaStrategySelector, **arguments: Any) -> SelectorDecision:
    given_: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "regime": MarketRegime.TREND_UP,
        "context": make_context(),
    }
    return selector.choose_strategy(**(given_ | arguments))


def learn(selector: MetaStrategySelector, reward: float, **arguments: Any) -> None:
    given_: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "regime": MarketRegime.TREND_UP,
        "strategy_id": StrategyID.ULTRA_AGGRESSIVE,
    }
    selector.update_reward(reward=reward, **(given_ | arguments))


async def select(
    integration: MetaStrategyIntegration, symbol: str = "BTCUSDT", **signal: Any
) -> integration.StrategySelection:
    return await integration.select_strategy_for_signal(
        symbol=symbol, signal=signal, market_data=MARKET
    )


rewards = st.tuples(
    st.sampled_from(["default", "paper"]),
    st.sampled_from(["BTCUSDT", "BTC/USDT:USDT"]),
    st.sampled_from(MarketRegime),
    st.sampled_from(StrategyID),
    st.floats(-1000.0, 1000.0),
)


# The selector


@few
@given(st.lists(rewards, max_size=30), st.floats(0.01, 1.0))
def test_each_arm_is_the_fold_of_its_own_rewards(
    told: list[tuple[str, str, MarketRegime, StrategyID, float]], alpha: float
) -> None:
    """No context or account reaches into another."""
    selector = MetaStrategySelector(alpha=alpha)
    expected: dict[tuple[str, str, MarketRegime, str], Any] = {}

    for account, symbol, regime, strategy, reward in told:
        learn(selector, reward, account=account, symbol=symbol, regime=regime, strategy_id=strategy)
        arm = (account, symbol, regime, str(strategy))
        expected[arm] = fold_reward(
            expected.get(arm, NO_REWARDS), reward, alpha, decay_of(HALF_LIFE)
        )

    found = {
        (context.account, context.symbol, context.regime, strategy): stats
        for context, row in selector._state.table.rows.items()
        for strategy, stats in row.items()
    }
    assert found == expected
    assert selector.get_performance_summary()["total_updates"] == len(told)


@few
@given(st.integers(), st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=30))
def test_equal_seeds_give_equal_decisions(seed: int, told: list[float]) -> None:
    def live() -> list[SelectorDecision]:
        selector, decisions = MetaStrategySelector(epsilon=0.5, seed=seed), []
        for reward in told:
            decisions.append(choose(selector))
            learn(selector, reward, strategy_id=decisions[-1].strategy_id)
        return decisions

    assert live() == live()


def test_without_a_seed_each_selector_draws_its_own() -> None:
    """A process that starts for every signal would explore always, or never."""
    selectors = [MetaStrategySelector(epsilon=1.0) for _ in range(40)]

    assert len({choose(selector).strategy_id for selector in selectors}) > 1


def test_propensities_are_those_of_the_whole_rule() -> None:
    decision = choose(MetaStrategySelector(epsilon=0.2, seed=1))

    assert sum(decision.propensities.values()) == pytest.approx(1.0)
    assert decision.propensity == decision.propensities[decision.strategy_id]
    assert decision.propensities["ultra_aggressive"] == pytest.approx(0.8 + 0.2 / 5)


@pytest.mark.parametrize(
    ("regime", "adx", "expected"),
    [
        (MarketRegime.TREND_UP, 35.0, "ultra_aggressive"),
        (MarketRegime.TREND_UP, 50.0, "trend_rider"),
        ("trend_up", 50.0, "trend_rider"),
        # the detector sees a rising market: it vouches for nothing else
        (MarketRegime.TREND_DOWN, 50.0, "ultra_aggressive"),
        (RegimeResult(MarketRegime.TREND_DOWN, 0.9, "the caller's own"), 35.0, "trend_rider"),
    ],
)
def test_a_regime_is_as_sure_as_the_detector_or_the_caller_says(
    regime: Any, adx: float, expected: str
) -> None:
    decision = choose(
        MetaStrategySelector(epsilon=0.0), regime=regime, context=make_context(adx=adx)
    )

    assert decision.strategy_id == expected
    assert decision.mode is Mode.HEURISTIC


def test_a_disabled_selector_takes_the_default_and_learns() -> None:
    selector = MetaStrategySelector(enabled=False, default_strategy="moderate", epsilon=1.0)
    for _ in range(20):
        learn(selector, 9.0, strategy_id="scalp")

    decision = choose(selector)

    assert decision.strategy_id is StrategyID.MODERATE
    assert (decision.mode, decision.propensity) == (Mode.DEFAULT, 1.0)
    assert selector.get_performance_summary()["total_updates"] == 20


def test_epsilon_decays_with_the_rewards_of_the_context() -> None:
    selector = MetaStrategySelector(epsilon=0.5, epsilon_min=0.1, epsilon_decay=0.5)
    for _ in range(2):
        learn(selector, 1.0)

    assert choose(selector).propensities["moderate"] == pytest.approx(0.125 / 5)


def test_rewards_in_risk_are_divided_by_the_stop() -> None:
    selector = MetaStrategySelector(reward_unit="risk")

    learn(selector, -2.0, strategy_id="trend_rider")

    assert selector.get_performance_summary()["best_strategies"][0]["ema_reward"] == -1.0


@pytest.mark.parametrize("reason", ["manual", "external"])
def test_trades_closed_from_outside_are_counted_not_learned(reason: str) -> None:
    selector = MetaStrategySelector()

    learn(selector, 5.0, close_reason=reason)

    summary = selector.get_performance_summary()
    assert (summary["total_updates"], summary["total_entries"]) == (1, 0)


def test_a_strategy_with_a_level_below_zero_is_no_candidate() -> None:
    """At an ATR of 20 % of the price a short's targets lie far below it."""
    selector = MetaStrategySelector(epsilon=1.0, candidates="all", seed=1)
    wild = make_context(atr=10_000.0)

    long = choose(selector, context=wild)
    short = choose(selector, context=wild, side=Side.SHORT)

    assert len(long.propensities) == 7
    assert short.propensities.keys() == {"defensive", "scalp"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 1.5}, "epsilon must be within [0, 1], was 1.5"),
        ({"alpha": 0.0}, "alpha must be within (0, 1], was 0.0"),
        ({"epsilon_decay": 2.0}, "epsilon_decay must be within (0, 1], was 2.0"),
        ({"min_samples": -1}, "min_samples must be at least 0, was -1"),
        ({"candidates": "best"}, "candidates must be one of suitable, all, was 'best'"),
        ({"reward_unit": "usd"}, "reward_unit must be one of atr, risk, was 'usd'"),
        ({"default_strategy": "yolo"}, "default strategy must be one of defensive, "),
    ],
)
def test_a_wrong_setting_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MetaStrategySelector(**arguments)


@pytest.mark.parametrize("name", ["enabled", "epsilon", "alpha"])
def test_a_setting_is_told_and_cannot_be_assigned(name: str) -> None:
    """It would be told as it was assigned, and choices would go on by what it was before."""
    settings: dict[str, Any] = {"enabled": False, "epsilon": 0.3, "alpha": 0.5}
    selector = MetaStrategySelector(**settings)
    integration = MetaStrategyIntegration(**settings)

    for one in (selector, integration.selector):
        with pytest.raises(AttributeError):
            setattr(one, name, True)
        assert getattr(one, name) == settings[name]
    assert integration.get_metrics()[name] == settings[name]  # type: ignore[literal-required]


def test_the_epsilon_told_is_what_is_explored_with() -> None:
    integration = MetaStrategyIntegration(epsilon=0.1, epsilon_min=0.3)

    assert integration.get_metrics()["epsilon"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbol": "BTC USDT"}, "symbol: String should match pattern"),
        ({"account": ""}, "account: String should match pattern"),
        ({"regime": "sideways"}, "'sideways' is not a valid MarketRegime"),
        ({"context": make_context(atr=80_000.0)}, "market.atr: is 80000 at a price of 50000"),
    ],
)
def test_what_cannot_be_chosen_for_is_named(arguments: Any, message: str) -> None:
    selector = MetaStrategySelector()

    with pytest.raises(ValueError, match=re.escape(message)):
        choose(selector, **arguments)

    assert selector.get_performance_summary()["total_decisions"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": float("nan")}, "realized_r: must be a finite number, was nan"),
        ({"reward": 1001.0}, "realized_r: must be less than or equal to 1000, was 1001.0"),
        ({"reward": 1.0, "strategy_id": "yolo"}, "strategy: is not known; known are defensive"),
        ({"reward": 1.0, "regime": "sideways"}, "'sideways' is not a valid MarketRegime"),
        ({"reward": 1.0, "close_reason": "fear"}, "'fear' is not a valid CloseReason"),
    ],
)
def test_what_cannot_be_learned_is_named_and_changes_nothing(arguments: Any, message: str) -> None:
    selector = MetaStrategySelector()

    with pytest.raises(ValueError, match=re.escape(message)):
        learn(selector, **arguments)

    assert selector.get_performance_summary() == (MetaStrategySelector().get_performance_summary())


# Profiles


def test_a_registered_profile_joins_selectors_that_are_there_already() -> None:
    selector = MetaStrategySelector(min_samples=0, min_confidence_for_exploit=0.0, epsilon=0.0)

    register_strategy_profile(make_profile(suitable_for_trending=True))
    learn(selector, 2.0, strategy_id="patient")

    assert choose(selector).strategy_profile is get_strategy_profile("patient")
    assert "patient" not in choose(selector, regime="range_low_vol").propensities


def test_a_profile_of_a_built_in_id_takes_its_place_until_deleted() -> None:
    selector = MetaStrategySelector(epsilon=0.0)

    STRATEGY_PROFILES[StrategyID.ULTRA_AGGRESSIVE] = make_profile(
        "ultra_aggressive", suitable_for_trending=True
    )
    changed = choose(selector)
    del STRATEGY_PROFILES[StrategyID.ULTRA_AGGRESSIVE]

    assert changed.strategy_profile.r_sl == 1.2
    assert list(STRATEGY_PROFILES) == list(StrategyID)
    assert choose(selector).strategy_profile.r_sl == 1.0


def test_the_registry_stays_consistent() -> None:
    with pytest.raises(ValueError, match="strategy_id must be the key 'other', was 'patient'"):
        STRATEGY_PROFILES["other"] = make_profile()
    with pytest.raises(ValueError, match="scalp is built in and stays"):
        del STRATEGY_PROFILES["scalp"]
    with pytest.raises(KeyError):
        del STRATEGY_PROFILES["other"]
    with pytest.raises(ValueError, match=r"strategy_id must be one of defensive, .*, was 'other'"):
        get_strategy_profile("other")
    assert len(STRATEGY_PROFILES) == 7


def test_a_selector_with_profiles_of_its_own_ignores_the_process() -> None:
    selector = MetaStrategySelector(
        profiles={"patient": make_profile()}, default_strategy="patient", epsilon=0.0
    )

    register_strategy_profile(make_profile("other", suitable_for_trending=True))

    assert choose(selector).propensities == {"patient": 1.0}


# The file


@few
@given(st.lists(rewards, max_size=20), st.integers())
def test_a_table_comes_back_from_its_file_bit_for_bit(
    told: list[tuple[str, str, MarketRegime, StrategyID, float]], seed: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "state.json"
        before = MetaStrategySelector(seed=seed, epsilon=0.5, state_file=path, auto_save=False)
        for account, symbol, regime, strategy, reward in told:
            choose(before)
            learn(
                before, reward, account=account, symbol=symbol, regime=regime, strategy_id=strategy
            )
        before.save()

        after = MetaStrategySelector(seed=seed, epsilon=0.5, state_file=path)

    assert after._state.table.rows == before._state.table.rows
    assert after.totals.decisions == before.totals.decisions
    assert after.get_performance_summary() == before.get_performance_summary()
    assert [choose(after) for _ in range(5)] == [choose(before) for _ in range(5)]


def test_people_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    selector = MetaStrategySelector(state_file=path)

    learn(selector, 3.5)
    learn(selector, -1.0)

    arm = {
        "strategy": "ultra_aggressive",
        "count": 2,
        "ema_reward": 0.8 * 3.5 - 0.2,
        "avg_reward": 1.25,
        "win_count": 1,
        "loss_count": 1,
        "total_r": 2.5,
        "sum_squares": 13.25,
        "loss_squares": 1.0,
        "recent_r": 3.5 * decay_of(HALF_LIFE) - 1.0,
        "paper_count": 0,
        "paper_r": 0.0,
        "paper_squares": 0.0,
        "paper_loss_squares": 0.0,
        "recent_paper_r": 0.0,
    }
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "format": "meta-strategy-table",
        "version": 2,
        "reward_unit": "atr",
        "totals": {"decisions": 0, "explorations": 0, "rewards": 2},
        "entries": [
            arm | {"account": "default", "symbol": "BTCUSDT", "regime": "trend_up"},
        ],
        "parents": [
            arm | {"account": "default", "regime": None},
            arm | {"account": "default", "regime": "trend_up"},
        ],
    }
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def saved_text(path: Path) -> str:
    learn(MetaStrategySelector(state_file=path), 1.0)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        (r"(?s).*", "", "content: Invalid JSON"),
        (r"(?s)(.{100}).*", r"\1", "content: Invalid JSON"),
        (r"meta-strategy-table", "meta-strategy-snapshot", "format: "),
        (r'"version": 2', '"version": 1', "version: "),
        (r'"ema_reward": 1.0', '"ema_reward": NaN', "entries.0.ema_reward: "),
        (r'"count": 1,', '"count": 0,', "entries.0.count: "),
        (r'"loss_count": 0', '"loss_count": 1', "entries.0: counts do not add up"),
        (r'"trend_up"', '"sideways"', "entries.0.regime: "),
        (r'(?s)("entries": \[)(.*?\})', r"\1\2,\2", "entries.1: is there twice"),
    ],
)
def test_a_broken_file_is_named_and_left_alone(
    tmp_path: Path, pattern: str, replacement: str, problem: str
) -> None:
    """Starting empty instead would throw away all that was learned, unseen."""
    path = tmp_path / "state.json"
    broken = re.sub(pattern, replacement, saved_text(path), count=1)
    path.write_text(broken, encoding="utf-8")

    with pytest.raises(RefusedError) as refused:
        MetaStrategyIntegration(state_file=path)

    assert f"{path}: is no in-process table: {problem}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert path.read_text(encoding="utf-8") == broken


def test_a_file_of_another_unit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    saved_text(path)

    with pytest.raises(RefusedError, match="its rewards are in the unit 'atr'"):
        MetaStrategySelector(state_file=path, reward_unit="risk")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"{re.escape(str(tmp_path))}: cannot be read: Is a dir"):
        MetaStrategySelector(state_file=tmp_path)


def test_a_failed_write_leaves_the_old_file_and_the_next_one_holds_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    old = saved_text(path)
    selector = MetaStrategySelector(state_file=path)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(RefusedError, match="cannot be written: No space left on device"):
            learn(selector, 2.0)
    assert path.read_text(encoding="utf-8") == old
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]

    learn(selector, 3.0)

    assert json.loads(path.read_text(encoding="utf-8"))["totals"]["rewards"] == 3


def test_a_late_thread_does_not_overwrite_a_newer_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    selector = MetaStrategySelector(state_file=path, auto_save=False)
    learn(selector, 1.0)
    late = selector._prepared_write()
    learn(selector, 2.0)
    selector.save()

    assert late is not None
    late()

    assert json.loads(path.read_text(encoding="utf-8"))["totals"]["rewards"] == 2


async def test_updates_at_once_are_all_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    integration = MetaStrategyIntegration(state_file=path)
    symbols = [f"S{number}" for number in range(30)]
    for symbol in symbols:
        await select(integration, symbol)

    await asyncio.gather(
        *(integration.update_strategy_reward(symbol=s, realized_r=1.0) for s in symbols)
    )

    again = MetaStrategyIntegration(state_file=path)
    assert again.get_performance_summary() == integration.get_performance_summary()
    assert again.get_metrics()["total_reward_updates"] == 30


async def test_the_variable_names_the_file_and_the_argument_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_STRATEGY_STATE_FILE", str(tmp_path / "variable.json"))
    by_variable = MetaStrategyIntegration()
    by_argument = MetaStrategyIntegration(state_file=tmp_path / "argument.json")
    monkeypatch.setenv("META_STRATEGY_STATE_FILE", " ")
    in_memory = MetaStrategyIntegration()

    for made in (by_variable, by_argument, in_memory):
        await select(made)
        await made.update_strategy_reward(symbol="BTCUSDT", realized_r=1.0)

    assert in_memory.selector.state_file is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["argument.json", "variable.json"]


async def test_saving_can_be_left_to_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    integration = MetaStrategyIntegration(state_file=path, auto_save=False)
    await select(integration)
    await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=1.0)
    assert not path.exists()

    await integration.selector.save_in_thread()

    assert path.exists()


# The integration


@pytest.mark.parametrize(
    ("changes", "regime", "reasoning"),
    [
        ({"adx": None}, "unknown", "Unknown: adx missing"),
        (
            {"adx": None, "trend_strength": None},
            "unknown",
            "Unknown: adx and trend_strength missing",
        ),
        ({"atr": None}, "unknown", "Unknown: atr missing"),
        (
            {"atr": None, "current_price": None},
            "unknown",
            "Unknown: current_price and atr missing",
        ),
        ({"atr": None, "volume_24h": 1.0}, "illiquid", "Illiquid: volume_24h=1 < 2000000"),
        ({"atr": None, "atr_pct": 0.005}, "trend_up", "Trending UP: "),
        ({"atr": None, "atr_pct": 0.07}, "high_volatility", "Extreme volatility: "),
        ({"adx": None, "spread_bps": 11}, "illiquid", "Illiquid: spread_bps=11.0 > 10.0"),
        ({"volume_24h": None, "depth_5bps": None, "spread_bps": None}, "trend_up", "Trending UP"),
        ({"current_price": "50000.0", "atr": Decimal(250)}, "trend_up", "Trending UP: ADX=35.0"),
        ({"rsi": "overbought", "symbol": 7}, "trend_up", "Trending UP: ADX=35.0"),
    ],
)
async def test_what_is_missing_is_named_what_is_foreign_is_ignored(
    changes: dict[str, object], regime: str, reasoning: str
) -> None:
    result = await MetaStrategyIntegration().select_strategy_for_signal(
        symbol="BTCUSDT", signal={}, market_data=MARKET | changes
    )

    assert result.regime.value == regime
    assert result.regime_reasoning.startswith(reasoning)
    assert (result.regime_confidence == 0.0) == (regime == "unknown")


async def test_without_any_market_data_the_default_is_taken() -> None:
    integration = MetaStrategyIntegration(epsilon=0.0, default_strategy="moderate")

    result = await integration.select_strategy_for_signal(
        symbol="BTCUSDT", signal=None, market_data=None
    )

    assert result.strategy.strategy_id is StrategyID.MODERATE
    assert result.regime_reasoning == "Unknown: current_price and atr missing"


async def test_signal_and_market_data_may_be_objects() -> None:
    integration = MetaStrategyIntegration()

    result = await integration.select_strategy_for_signal(
        symbol="BTCUSDT",
        signal=SimpleNamespace(side=Side.SHORT, account="paper"),
        market_data=make_context(trend_strength=-0.6),
    )

    assert (result.account, result.regime.value) == ("paper", "trend_down")


@pytest.mark.parametrize(
    ("signal", "changes", "message"),
    [
        ({}, {"adx": 150.0}, "market_data: adx: must be less than or equal to 100, was 150.0"),
        ({}, {"atr": float("nan")}, "market_data: atr: must be a finite number, was nan"),
        ({"side": "up"}, {}, "signal: side: must be LONG or SHORT, was 'up'"),
        ({"account": "a b"}, {}, "account: String should match pattern"),
    ],
)
async def test_a_wrong_value_is_named_and_nothing_becomes_active(
    signal: dict[str, object], changes: dict[str, object], message: str
) -> None:
    integration = MetaStrategyIntegration()

    with pytest.raises(ValueError, match=re.escape(message)):
        await integration.select_strategy_for_signal(
            symbol="BTCUSDT", signal=signal, market_data=MARKET | changes
        )

    assert integration.get_metrics()["active_strategies"] == 0
    assert integration.get_metrics()["total_selections"] == 0


async def test_a_reward_goes_to_the_active_strategy_once(caplog: pytest.LogCaptureFixture) -> None:
    integration = MetaStrategyIntegration()
    result = await select(integration)
    assert integration.active_strategies == integration._active_strategies == {"BTCUSDT": result}

    counted = await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=3.5)
    again = await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=3.5)

    assert (counted, again) == (True, False)
    assert integration.active_strategies == {}
    assert integration.get_metrics()["total_reward_updates"] == 1
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "WARNING",
            "[RL UPDATE] BTCUSDT: no active strategy in account default: R=+3.50 is not learned",
        )
    ]


async def test_a_refused_reward_leaves_the_strategy_active() -> None:
    integration = MetaStrategyIntegration()
    await select(integration)

    with pytest.raises(ValueError, match="realized_r"):
        await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=float("inf"))

    assert integration.active_strategies.keys() == {"BTCUSDT"}


async def test_the_record_wins_over_the_echo_which_serves_after_a_restart() -> None:
    integration = MetaStrategyIntegration(epsilon=0.0)
    echo = {"strategy": "trend_rider", "regime": "trend_down"}
    await select(integration)

    await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=1.0, trade_meta=echo)
    await integration.update_strategy_reward(symbol="BTCUSDT", realized_r=2.0, trade_meta=echo)

    best = integration.get_performance_summary()["best_strategies"]
    assert [(b["regime"], b["strategy"], b["total_r"]) for b in best] == [
        ("trend_down", "trend_rider", 2.0),
        ("trend_up", "ultra_aggressive", 1.0),
    ]


async def test_accounts_do_not_mix() -> None:
    integration = MetaStrategyIntegration()
    live = await select(integration)
    paper = await select(integration, account="paper")

    await integration.update_strategy_reward(
        symbol="BTCUSDT", realized_r=-1.0, trade_meta={"account": "paper"}
    )

    assert integration.active_strategies == {"BTCUSDT": live}
    assert integration.active_strategies_of("paper") == {}
    (best,) = integration.get_performance_summary()["best_strategies"]
    assert (best["account"], best["strategy"]) == ("paper", paper.strategy.strategy_id)


async def test_a_disabled_integration_answers_with_the_default() -> None:
    integration = MetaStrategyIntegration(enabled=False)

    result = await select(integration)

    assert result.strategy.strategy_id is StrategyID.ULTRA_AGGRESSIVE
    assert (result.decision.mode, result.decision.propensity) == (Mode.DEFAULT, 1.0)
    assert integration.get_metrics()["enabled"] is False


async def test_decisions_and_rewards_can_be_followed_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="meta_strategy")
    integration = MetaStrategyIntegration(epsilon=0.0, alpha=1.0)
    echo = {"strategy": "ultra_aggressive", "regime": "trend_up"}
    for reward in [-1.0] * 4 + [1.0] * 7 + [3.245]:
        await integration.update_strategy_reward(
            symbol="BTCUSDT", realized_r=reward, trade_meta=echo
        )

    await select(integration)

    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "[META-STRATEGY] Enabled - epsilon=0%, alpha=100%"
    assert lines[-3:] == [
        "[RL UPDATE] BTCUSDT trend_up ultra_aggressive: R=+3.25, EMA=3.25, count=12, WR=66.7%",
        (
            "[REGIME] BTCUSDT: TREND_UP (conf=85%) - "
            "Trending UP: ADX=35.0, trend_strength=0.60, ATR=0.50%"
        ),
        (
            "[STRATEGY] BTCUSDT: Ultra Aggressive (explore=False, conf=88%) - "
            "Exploitation: highest Q-value=3.245"
        ),
    ]


# The process's own


def test_the_process_has_one_integration() -> None:
    made = get_meta_strategy_integration(epsilon=0.2, seed=3)

    assert get_meta_strategy_integration() is made
    assert get_meta_strategy_integration(alpha=0.20, epsilon=0.2) is made
    assert made.selector.seed == 3


def test_asking_for_another_one_is_an_error() -> None:
    """Silently getting somebody else's epsilon is worse."""
    get_meta_strategy_integration(epsilon=0.2)

    with pytest.raises(ValueError, match=r"alpha is 0\.2 in this process's .*; was 0\.3"):
        get_meta_strategy_integration(alpha=0.3)
    with pytest.raises(TypeError, match="gamma is no setting"):
        get_meta_strategy_integration(gamma=0.3)  # type: ignore[call-arg]


def test_one_that_could_not_be_made_can_be_asked_for_again() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        get_meta_strategy_integration(epsilon=2.0)

    assert get_meta_strategy_integration(epsilon=0.3).get_metrics()["epsilon"] == 0.3
