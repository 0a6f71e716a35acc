"""Logged decisions judged: from files, folded as the worker folded them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import pytest

from consumer import settings
from consumer.domain.arm_table import ArmTable
from consumer.domain.context import ContextKey
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.catalog import PolicyName
from consumer.domain.pooled import Elsewhere, Pool
from consumer.errors import RefusedError
from consumer.pipeline import Pipeline
from lab.evaluate import Evaluation, evaluate
from lab.logged import Folder, Log, log_of
from lab.progress import silent
from lab.sources import from_files
from schemas import MarketRegime, StrategyDecision, TradeClosed
from tests.support.builders import (
    OMIT,
    START_MS,
    FakeRecord,
    make_signal,
    make_trade,
    signal_bytes,
    trade_bytes,
)
from tests.support.executor import signals

MINUTE = 60_000
PROFILES = settings.load().all_profiles


class Worker:
    """Decides and learns as a partition does, and keeps what it published."""

    def __init__(self, **overrides: Any) -> None:
        loaded = settings.load(**overrides)
        self.state = PartitionState(loaded.fold)
        self.pipeline = Pipeline(loaded.decider)
        self.now_ms = START_MS
        self.decisions: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []

    def decide(self, signal: Mapping[str, Any]) -> dict[str, Any]:
        self.now_ms += MINUTE
        record = FakeRecord(signal_bytes(signal), signal["symbol"].encode())
        step = self.pipeline.step(self.state, [], [record], now_ms=self.now_ms, degraded=False)
        decision: dict[str, Any] = json.loads(step.decisions[0].value or b"")
        self.decisions.append(decision)
        return decision

    def close(self, decision: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        self.now_ms += MINUTE
        same = {name: decision[name] for name in ("symbol", "side", "account", "decision_id")}
        trade = make_trade(**same | {"closed_at": self.now_ms} | fields)
        offset = self.state.position.trades
        record = FakeRecord(
            trade_bytes(trade), trade["symbol"].encode(), offset=offset, timestamp=self.now_ms
        )
        self.pipeline.step(self.state, [record], [], now_ms=self.now_ms, degraded=False)
        self.trades.append(trade)
        return trade

    def log(self, folder: Path, **overrides: Any) -> Log:
        files = []
        for name, messages in (("decisions", self.decisions), ("trades", self.trades)):
            files.append(folder / f"{name}.jsonl")
            files[-1].write_text("\n".join(map(json.dumps, messages)), encoding="utf-8")
        return from_files(settings.load(**overrides), files[0], files[1], track=silent)


def traded(count: int, *, seed: int = 1, **overrides: Any) -> Worker:
    """A worker whose trades earn what the strategy's first target is far, or lose one ATR."""
    worker, rng = Worker(**overrides), Random(seed)
    for signal in signals(count, seed=seed, symbols=["BTCUSDT"], kinds=["trend_up", "mixed"]):
        decision = worker.decide(signal)
        won = rng.random() < 0.4
        worker.close(decision, realized_r=decision["tpsl"]["atr_mult_tp1"] if won else -1.0)
    return worker


def potential_r(decision: Mapping[str, Any], arm: str) -> float:
    """What an arm would have earned on a decision, chosen or not: known here, never in life."""
    won = Random(f"{decision['decision_id']} {arm}").random() < 0.4
    return PROFILES[arm].r_tp1 if won else -1.0


def judged(log: Log) -> Evaluation:
    found = evaluate(log, seed=1)
    assert found is not None
    return found


def test_the_policy_that_was_at_work_is_worth_what_it_earned(tmp_path: Path) -> None:
    """The log is folded as it was live, so the probabilities are the same to the last bit."""
    log = traded(200).log(tmp_path)

    found = judged(log)

    assert log.column("target").tolist() == log.column("logged").tolist()
    assert (found.decisions, found.open, found.unreadable) == (200, 0, 0)
    assert found.effective == pytest.approx(200.0)
    assert found.snips is not None
    assert found.ips == found.logged
    assert found.snips.value == pytest.approx(found.logged.value)
    assert found.gain == pytest.approx((0.0, 0.0, 0.0))
    assert found.unsupported == 0.0
    assert found.would == found.was


def with_spreads(count: int) -> Iterator[dict[str, Any]]:
    """Signals of one market whose spread is 1 to 30 basis points: 0.05 to 1.5 ATR."""
    rng = Random(7)
    for _ in range(count):
        spread_bps = rng.choice((1.0, 5.0, 30.0))
        market = {"current_price": 1000.0, "atr": 2.0, "adx": 20.0, "trend_strength": 0.1}
        yield make_signal(side="LONG", market=market | {"spread_bps": spread_bps})


@pytest.mark.parametrize("cost_bps", [None, 2.0, 100.0])
@pytest.mark.parametrize("candidates", ["suitable", "all"])
@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_every_policy_agrees_with_its_own_log(
    tmp_path: Path, policy: str, candidates: str, cost_bps: float | None
) -> None:
    """A decision does not tell the spread, by which the worker may have left candidates out."""
    rng = Random(3)
    own = {
        "meta_strategy_policy": policy,
        "meta_strategy_candidates": candidates,
        "meta_strategy_cost_bps": cost_bps,
    }
    worker = Worker(**own)
    for signal in with_spreads(80):
        worker.close(worker.decide(signal), realized_r=rng.gauss(0.0, 1.5))

    log = worker.log(tmp_path, **own)

    assert log.column("target").tolist() == log.column("logged").tolist()
    assert not log.column("unsupported").any()


def told_by_another(own: FoldSettings) -> Elsewhere:
    """What another partition has learned: scalp earns, all others lose."""
    table, rng = ArmTable(own), Random(5)
    for _ in range(40):
        for arm in PROFILES:
            reward = rng.gauss(1.0 if arm == "scalp" else -0.5, 1.5)
            table.learn(ContextKey("default", "ETHUSDT", MarketRegime.RANGE_LOW_VOL), arm, reward)
    return Elsewhere(Pool(7, {"default": {1: dict(table.parents)}}), 0, own.decay)


@pytest.mark.parametrize("cost_bps", [None, 2.0])
@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_every_policy_agrees_with_what_it_decided_by_a_pool(
    policy: str, cost_bps: float | None
) -> None:
    rng = Random(3)
    own = {
        "meta_strategy_policy": policy,
        "meta_strategy_candidates": "all",
        "meta_strategy_cost_bps": cost_bps,
        "kafka_pool_topic": "pool",
    }
    worker, loaded = Worker(**own), settings.load(**own)
    worker.state.elsewhere = told_by_another(loaded.fold)
    for signal in with_spreads(80):
        worker.close(worker.decide(signal), realized_r=rng.gauss(0.0, 1.5))

    folder = Folder(loaded)
    told = told_by_another(loaded.fold)
    for number, made in enumerate(zip(worker.decisions, worker.trades, strict=True)):
        decision, trade = StrategyDecision(**made[0]), TradeClosed(**made[1])
        folder.decide(decision, decision.ts, told)
        folder.learn(trade, number, trade.closed_at)
    log = log_of([folder])

    assert {one["pool_offset"] for one in worker.decisions} == {7}
    assert log.column("target").tolist() == log.column("logged").tolist()
    assert log.rewards.size == 80


def test_what_a_pool_told_is_not_in_files(tmp_path: Path) -> None:
    """Judged without it, a policy would be found worse than itself."""
    worker = Worker(meta_strategy_policy="thompson", kafka_pool_topic="pool")
    worker.state.elsewhere = told_by_another(settings.load().fold)
    worker.decide(make_signal())

    with pytest.raises(RefusedError, match=r"pool_offset 7.*read the topics"):
        worker.log(tmp_path, meta_strategy_policy="thompson")
    # the ones that look at their own context alone need no pool
    assert worker.log(tmp_path, meta_strategy_policy="epsilon_greedy").decisions
    assert worker.log(
        tmp_path, meta_strategy_policy="thompson", meta_strategy_enabled=False
    ).decisions


def test_with_costs_another_rule_has_the_candidates_that_surely_pay(tmp_path: Path) -> None:
    """All whose first target is no nearer than that of a candidate, whichever rule had that one."""
    drawn = {"meta_strategy_epsilon": 1.0, "meta_strategy_cost_bps": 2.0}
    worker = Worker(**drawn)
    for signal in with_spreads(60):
        worker.close(worker.decide(signal), realized_r=1.0)

    log = worker.log(tmp_path, **drawn, meta_strategy_candidates="all")

    kept = []
    for decision in worker.decisions:
        nearest = min(PROFILES[arm].r_tp1 for arm in decision["propensities"])
        kept.append(sum(one.r_tp1 >= nearest for one in PROFILES.values()))
    assert len(set(kept)) > 1
    assert log.column("target").tolist() == pytest.approx([1.0 / count for count in kept])


def test_what_was_decided_while_disabled_tells_nothing_of_costs(tmp_path: Path) -> None:
    """The default was the only candidate then; the others are not left out for it."""
    worker = Worker(meta_strategy_enabled=False)
    for signal in with_spreads(60):
        worker.close(worker.decide(signal), realized_r=1.0)

    log = worker.log(
        tmp_path,
        meta_strategy_epsilon=1.0,
        meta_strategy_candidates="all",
        meta_strategy_cost_bps=2.0,
    )

    # 2 basis points are a tenth of an ATR: all of the seven pay that
    assert log.column("target").tolist() == pytest.approx([1.0 / 7.0] * 60)


def test_another_policy_is_judged_by_what_it_would_have_done(tmp_path: Path) -> None:
    """Drawn evenly, and then always the default: its value is the mean of the default's trades."""
    worker = traded(700, meta_strategy_epsilon=1.0, meta_strategy_candidates="all")
    default = [n for n, d in enumerate(worker.decisions) if d["strategy"] == "ultra_aggressive"]

    log = worker.log(tmp_path, meta_strategy_enabled=False)
    found = judged(log)

    assert found.snips is not None
    assert found.snips.value == pytest.approx(log.rewards[default].mean())
    assert found.effective == pytest.approx(len(default))
    assert found.is_enough


def test_estimates_lie_around_the_truth(tmp_path: Path) -> None:
    """Every arm's outcome is known, so is what the target earns: an even draw of the candidates."""
    worker = Worker(meta_strategy_epsilon=0.3)
    for signal in signals(1500, seed=3, symbols=["BTCUSDT"], kinds=["trend_up", "mixed"]):
        decision = worker.decide(signal)
        worker.close(decision, realized_r=potential_r(decision, decision["strategy"]))

    found = judged(worker.log(tmp_path, meta_strategy_epsilon=1.0))

    truth = np.mean(
        [
            np.mean([potential_r(decision, arm) for arm in decision["propensities"]])
            for decision in worker.decisions
        ]
    )
    for estimate in (found.ips, found.snips, found.snips_bootstrap, found.doubly_robust):
        assert estimate is not None
        # half a width is 1.96 standard errors: 3.5 of them
        assert abs(estimate.value - truth) < 3.5 / 1.96 * (estimate.high - estimate.low) / 2
    gain = found.gain.value - (truth - found.logged.value)
    assert abs(gain) < 3.5 / 1.96 * (found.gain.high - found.gain.low) / 2
    # a model of rewards leaves less to chance than weights alone
    assert found.doubly_robust.high - found.doubly_robust.low < found.ips.high - found.ips.low


def test_too_little_overlap_is_said(tmp_path: Path) -> None:
    """Ten decisions in agreement prove nothing."""
    log = traded(60, meta_strategy_epsilon=1.0).log(tmp_path, meta_strategy_enabled=False)

    assert not judged(log).is_enough


def test_arms_that_could_not_be_taken_are_counted(tmp_path: Path) -> None:
    """Without exploration the logs hold one arm alone; an even draw has no support for the rest."""
    log = traded(60, meta_strategy_epsilon=0.0).log(tmp_path, meta_strategy_epsilon=1.0)

    found = judged(log)

    assert found.unsupported_decisions == 60
    assert 0.7 < found.unsupported < 0.9


def test_open_trades_are_neither_zero_nor_left_out(tmp_path: Path) -> None:
    worker = traded(100)
    opened = [
        worker.decide(signal)
        for signal in signals(40, seed=9, symbols=["BTCUSDT"], kinds=["trend_up"])
    ]

    log = worker.log(tmp_path)
    found = judged(log)

    assert (found.decisions, found.open) == (140, 40)
    assert np.isnan(log.rewards).sum() == 40
    closed = 100 * found.logged.value
    stops = sum(one["tpsl"]["atr_mult_sl"] for one in opened)
    targets = sum(
        one["tpsl"][f"atr_mult_tp{n}"] * one["tpsl"][f"partial_close_tp{n}"]
        for one in opened
        for n in (1, 2, 3)
    )
    assert found.worst == pytest.approx((closed - stops) / 140)
    assert found.best == pytest.approx((closed + targets) / 140)
    assert found.worst < found.doubly_robust.value < found.best


def test_what_became_of_a_decision_is_found(tmp_path: Path) -> None:
    """Two trades of one decision, one corrected later; one by hand; one that names no decision."""
    worker = Worker()
    both, by_hand, unnamed = [worker.decide(make_signal(side="LONG")) for _ in range(3)]
    worker.decide(make_signal(side="SHORT"))
    first = worker.close(both, realized_r=1.0)
    worker.close(both, realized_r=2.0)
    worker.close(both, trade_id=first["trade_id"], realized_r=4.0, revision=1)
    worker.close(by_hand, realized_r=5.0, close_reason="manual")
    worker.close(unnamed, decision_id=OMIT, realized_r=-0.5)

    log = worker.log(tmp_path)

    assert (log.excluded, log.unreadable) == (1, 0)
    assert log.rewards.tolist()[:2] == [3.0, -0.5]
    assert np.isnan(log.rewards[2:]).tolist() == [True]


def test_a_trade_of_another_symbol_is_none_of_the_decision_that_it_names(tmp_path: Path) -> None:
    """The worker folds it by what it echoes; a revision goes where the first record went."""
    worker = Worker()
    named = worker.decide(make_signal(symbol="BTCUSDT"))
    echo = {"symbol": "ETHUSDT", "strategy": named["strategy"], "regime": named["regime"]}
    other = worker.close(named, **echo, realized_r=7.0)
    worker.close(named, **echo, trade_id=other["trade_id"], realized_r=9.0, revision=1)

    alone = worker.log(tmp_path)
    own = worker.close(named, realized_r=1.0)
    worker.close(named, trade_id=own["trade_id"], realized_r=2.0, revision=1)
    log = worker.log(tmp_path)

    assert np.isnan(alone.rewards).tolist() == [True]
    assert log.rewards.tolist() == [2.0]
    assert log.unreadable == alone.unreadable == 2


def test_a_trade_by_hand_of_another_symbol_leaves_the_decision_to_be_judged(tmp_path: Path) -> None:
    worker = Worker()
    named = worker.decide(make_signal(symbol="BTCUSDT"))
    echo = {"symbol": "ETHUSDT", "strategy": named["strategy"], "regime": named["regime"]}
    worker.close(named, **echo, realized_r=7.0, close_reason="manual")

    log = worker.log(tmp_path)

    assert (len(log.decisions), log.excluded) == (1, 0)


def test_foreign_lines_are_counted_and_missing_files_told(tmp_path: Path) -> None:
    worker = traded(5)
    worker.trades.append({"nothing": "known"})

    assert worker.log(tmp_path).unreadable == 1
    with pytest.raises(RefusedError, match=r"nowhere\.jsonl: cannot be read"):
        from_files(
            settings.load(), tmp_path / "nowhere.jsonl", tmp_path / "trades.jsonl", track=silent
        )


def test_nothing_is_said_of_one_trade(tmp_path: Path) -> None:
    assert evaluate(traded(1).log(tmp_path), seed=1) is None
