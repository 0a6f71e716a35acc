"""A closed trade with its price path: every strategy learns from it, unless paths prove wrong."""

from random import Random
from typing import Any

import pytest

from consumer.domain.context import ContextKey
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import OpenDecision
from consumer.domain.paper import Calibration
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.policies.base import Situation
from consumer.domain.policies.catalog import make_policy
from consumer.domain.qtable import ArmStats
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.store.codec import decode_trade, encode_trade
from schemas import CloseReason, MarketRegime, Side, TradeClosed
from tests.support.builders import make_trade

CONTEXT = ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP)
ENTRY, ATR = 100.0, 2.0
# up to 3 ATR, and back to the exit: near ladders ended, wide ones are open
PATH = [(0, 103.0, 99.5, 102.5), (60_000, 106.0, 102.0, 103.0)]
EXIT = 103.0


def a_state(**rules: Any) -> PartitionState:
    return PartitionState(FoldSettings(**rules))


def close(
    state: PartitionState, number: int, *, strategy: str = "ultra_aggressive", **fields: Any
) -> FoldResult:
    """Open and close one trade along the path above."""
    account = fields.get("account", "default")
    name = f"d{number}"
    profile = STRATEGY_PROFILES[strategy]
    state.admit(
        OpenDecision(
            name, account, "BTCUSDT", Side.LONG, MarketRegime.TREND_UP, None, strategy, ATR,
            profile.r_sl, number,
        ),
        is_exploration=False,
    )  # fmt: skip
    usual: dict[str, Any] = {
        "trade_id": f"t{number}",
        "decision_id": name,
        "entry_price": ENTRY,
        "exit_price": EXIT,
        "atr": None,
        "path": PATH,
    }
    message = make_trade(**{**usual, **fields})
    return state.fold_trade(TradeClosed.model_validate(message), number)


def paper_r(state: PartitionState) -> dict[str, float]:
    return {name: stats.paper_r for name, stats in state.table.row(CONTEXT).items()}


def partial_r(strategy: str, best_r: float, mark_r: float) -> float:
    """Add the parts of a ladder up, when the price went to `best_r` and ended at `mark_r`."""
    p = STRATEGY_PROFILES[strategy]
    parts = (
        (p.r_tp1, p.partial_close_tp1),
        (p.r_tp2, p.partial_close_tp2),
        (p.r_tp3, p.partial_close_tp3),
    )
    return sum(part * (target if target <= best_r else mark_r) for target, part in parts)


# What is learned


def test_every_strategy_learns_from_one_path() -> None:
    state = a_state()

    result = close(state, 1)

    assert result.path == "folded"
    assert paper_r(state) == pytest.approx(
        {name: partial_r(name, 3.0, 1.5) for name in STRATEGY_PROFILES}
    )
    for row in (state.table.row(CONTEXT), *state.table.parent_rows(CONTEXT)):
        assert {stats.paper_count for stats in row.values()} == {1}
        assert {name for name, stats in row.items() if stats.count} == {"ultra_aggressive"}
        for stats in row.values():
            assert stats.paper_squares == pytest.approx(stats.paper_r**2)
            assert stats.recent_paper_r == stats.paper_r


def test_what_was_really_earned_is_counted_as_without_a_path() -> None:
    with_path, without = a_state(), a_state()
    for number in range(1, 6):
        close(with_path, number, exit_price=100.0 + number)
        close(without, number, exit_price=100.0 + number, path=None)

    for name, stats in without.table.row(CONTEXT).items():
        found = with_path.table.row(CONTEXT)[name]
        assert (found.count, found.ema_reward, found.total_r) == (
            stats.count,
            stats.ema_reward,
            stats.total_r,
        )


def test_paper_pays_the_same_fees() -> None:
    free, charged = a_state(), a_state()
    close(free, 1)
    close(charged, 1, fees=0.5)

    for name, reward in paper_r(free).items():
        assert paper_r(charged)[name] == pytest.approx(reward - 0.5 / ATR)


def test_what_is_open_is_marked_at_the_last_partial_close() -> None:
    state = a_state()

    close(
        state,
        1,
        exit_price=None,
        exits=[{"price": 106.0, "fraction": 0.5}, {"price": 101.0, "fraction": 0.5}],
    )

    assert paper_r(state)["trend_rider"] == pytest.approx(0.5)


def test_an_atr_of_the_trades_own_is_the_unit_and_moves_no_level() -> None:
    state = a_state()

    close(state, 1, atr=4.0)

    assert paper_r(state)["scalp"] == pytest.approx(partial_r("scalp", 3.0, 1.5) / 2)


def test_in_risk_each_strategy_counts_in_its_own_stops() -> None:
    atr, risk = a_state(), a_state(reward_unit="risk")
    close(atr, 1)
    close(risk, 1)

    for name, reward in paper_r(atr).items():
        assert paper_r(risk)[name] == pytest.approx(reward / STRATEGY_PROFILES[name].r_sl)


def test_a_short_learns_from_the_mirrored_path() -> None:
    state = a_state()
    state.admit(
        OpenDecision(
            "d", "default", "BTCUSDT", Side.SHORT, MarketRegime.TREND_UP, None, "scalp", ATR, 0.8, 1
        ),
        is_exploration=False,
    )
    mirrored = [
        (time, 2 * ENTRY - low, 2 * ENTRY - high, 2 * ENTRY - end) for time, high, low, end in PATH
    ]
    trade = make_trade(
        decision_id="d", side="SHORT", entry_price=ENTRY, exit_price=97.0, atr=None, path=mirrored
    )

    state.fold_trade(TradeClosed.model_validate(trade), 1)

    assert paper_r(state) == pytest.approx(
        {name: partial_r(name, 3.0, 1.5) for name in STRATEGY_PROFILES}
    )


def test_an_echoed_trade_with_its_atr_has_a_path_too() -> None:
    state = a_state()
    trade = make_trade(
        decision_id="gone",
        strategy="scalp",
        regime="trend_up",
        entry_price=ENTRY,
        exit_price=EXIT,
        atr=ATR,
        path=PATH,
    )

    result = state.fold_trade(TradeClosed.model_validate(trade), 1)

    assert result.path == "folded"


# What is not


@pytest.mark.parametrize("reason", [CloseReason.MANUAL, CloseReason.EXTERNAL])
def test_a_trade_that_is_not_learned_from_has_no_paper(reason: CloseReason) -> None:
    state = a_state()

    result = close(state, 1, close_reason=str(reason))

    assert result.path is None
    assert paper_r(state) == {}
    assert state.calibrations == {}


def test_a_path_of_other_prices_is_refused_and_the_reward_counts() -> None:
    state = a_state()

    result = close(state, 1, path=[(0, 1e9, 9e8, 9.5e8)], realized_r=1.0)

    assert (result.outcome, result.path) == ("win", "refused")
    assert state.table.row(CONTEXT)["ultra_aggressive"].count == 1
    assert paper_r(state) == {"ultra_aggressive": 0.0}


def test_where_candles_tell_it_a_path_is_not_looked_at() -> None:
    result = close(a_state(candles=""), 1)

    assert (result.outcome, result.path) == ("win", None)


def test_a_path_without_an_atr_is_not_looked_at() -> None:
    trade = make_trade(
        decision_id="gone", strategy="scalp", regime="trend_up", realized_r=1.0, atr=None, path=PATH
    )

    result = a_state().fold_trade(TradeClosed.model_validate(trade), 1)

    assert (result.outcome, result.path) == ("win", None)


def test_a_repeat_folds_no_path_again() -> None:
    state = a_state()
    close(state, 1)
    before = paper_r(state)

    assert close(state, 1).outcome == "duplicate"
    assert close(state, 1, revision=1, exit_price=104.0).outcome == "revised"

    assert paper_r(state) == before, "a revision corrects what was earned, not what the path told"


# Whether paths are to be believed


def test_paths_that_agree_are_believed() -> None:
    state = a_state()
    for number in range(1, 30):
        close(state, number, realized_r=partial_r("ultra_aggressive", 3.0, 1.5) + 0.1)

    calibration = state.calibration("default")
    assert calibration.is_trusted
    assert calibration.mean_gap_r == pytest.approx(0.1)


def test_paths_that_do_not_agree_are_not_believed_until_they_do_again() -> None:
    state = a_state()
    right = partial_r("ultra_aggressive", 3.0, 1.5)
    for number in range(1, 11):
        assert state.calibration("default").is_trusted, "too few to tell"
        close(state, number, realized_r=right - 0.2)

    assert not state.calibration("default").is_trusted
    assert state.calibration("paper").is_trusted, "another account"

    for number in range(11, 30):
        close(state, number, realized_r=right)
    assert state.calibration("default").is_trusted


def test_only_the_newest_hundred_are_compared() -> None:
    calibration = Calibration()
    for number in range(100):
        calibration.put(number, 1.0)
    for number in range(100, 186):
        calibration.put(number, 0.0)

    assert calibration.mean_gap_r == pytest.approx(0.14)
    assert calibration.is_trusted
    assert not Calibration().mean_gap_r


def test_a_correction_mends_the_comparison() -> None:
    state = a_state()
    right = partial_r("ultra_aggressive", 3.0, 1.5)
    for number in range(1, 13):
        close(state, number, realized_r=right + 1.0)
    assert not state.calibration("default").is_trusted

    for number in range(1, 13):
        close(state, number, realized_r=right, revision=1)

    assert state.calibration("default").mean_gap_r == pytest.approx(0.0)
    assert state.calibration("default").is_trusted


def test_in_risk_the_difference_is_still_told_in_atr() -> None:
    state = a_state(reward_unit="risk")
    right = partial_r("trend_rider", 3.0, 1.5)

    close(state, 1, strategy="trend_rider", realized_r=right + 0.3)

    assert state.calibration("default").mean_gap_r == pytest.approx(0.3)


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_a_restored_state_believes_what_the_first_one_did(window: int) -> None:
    rng = Random(window)
    state = a_state(dedupe_window=window)
    for number in range(1, 160):
        account = rng.choice(["default", "paper"])
        path = PATH if rng.random() < 0.7 else None
        close(state, number, account=account, path=path, realized_r=rng.uniform(0.0, 3.0))
        if rng.random() < 0.1 and window > 20:
            close(state, number, account=account, path=path, realized_r=2.0, revision=1)
    restored = a_state(dedupe_window=window)

    restored.restore(state.stored())

    for account in ("default", "paper"):
        first, second = state.calibration(account), restored.calibration(account)
        assert (first.mean_gap_r, first.is_trusted) == (second.mean_gap_r, second.is_trusted)
    trade = state.trades["default"].newest
    name = f"{trade.account}:{trade.trade_id}"
    assert decode_trade(name, encode_trade(trade)) == trade


# What a policy makes of it


def told(*, trusts_paper: bool) -> Situation:
    """On paper `trend_rider` is best, by what was earned `scalp`."""
    row = {
        name: ArmStats(
            count=200,
            total_r=200.0 * (name == "scalp"),
            sum_squares=200.0,
            recent_r=150.0 * (name == "scalp"),
            paper_count=200,
            paper_r=200.0 * (name == "trend_rider"),
            paper_squares=200.0,
            recent_paper_r=150.0 * (name == "trend_rider"),
        )
        for name in STRATEGY_PROFILES
    }
    candidates = tuple(STRATEGY_PROFILES)
    return Situation(MarketRegime.TREND_UP, 0.8, row, candidates, (row, row), trusts_paper)


def test_the_policy_follows_paper_only_while_it_is_believed() -> None:
    policy = make_policy(
        "full_information",
        STRATEGY_PROFILES,
        unit="atr",
        half_life=300.0,
        default_strategy="ultra_aggressive",
    )

    trusting = policy.choose(told(trusts_paper=True), Random(1))
    doubting = policy.choose(told(trusts_paper=False), Random(1))

    assert trusting.arm == "trend_rider"
    assert doubting.arm == "scalp"
    assert "not believed" in doubting.reasoning
    assert "not believed" not in trusting.reasoning
