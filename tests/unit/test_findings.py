"""What the worker tells of its tables, once at each turn."""

from typing import Any

from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.telemetry.findings import Findings
from consumer.telemetry.metrics import Metrics
from schemas import TradeClosed


def fold(state: PartitionState, start: int, rewards: list[float], **fields: Any) -> None:
    for number, reward in enumerate(rewards, start):
        content = {
            "schema_version": 1,
            "trade_id": f"t-{number}",
            "symbol": "EURUSD",
            "side": "LONG",
            "closed_at": "2026-01-02T03:04:05Z",
            "strategy": "scalp",
            "regime": "trend_up",
            "entry_price": 1.0,
            "exit_price": 1.0,
            "realized_r": reward,
        }
        state.fold_trade(TradeClosed.model_validate(content | fields), 0)


def value(metrics: Metrics, name: str) -> float:
    (found,) = [
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]
    return found


class Told:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        taken, self.lines = sorted(self.lines), []
        return taken


def findings_told() -> tuple[Findings, Metrics, Told]:
    metrics, told = Metrics(), Told()
    logger: Any = told
    return Findings(metrics, logger), metrics, told


def test_an_arm_that_changes_is_told_once() -> None:
    findings, metrics, told = findings_told()
    state = PartitionState(FoldSettings(half_life=50))
    fold(state, 0, [1.0, -0.5] * 200)
    findings.look({3: state})
    assert (told.take(), value(metrics, "meta_strategy_drifting_arms")) == ([], 0)

    fold(state, 400, [-1.0, -0.5] * 50)
    findings.look({3: state})
    # the arm over all regimes, and in its own
    assert value(metrics, "meta_strategy_drifting_arms") == 2
    what = "lately -0.501 R earned, +0.05 R over all, 9.9 deviations apart"
    assert told.take() == [
        (f"drift: scalp of account default in all regimes {what}", {"partition": 3}),
        (f"drift: scalp of account default in trend_up {what}", {"partition": 3}),
    ]

    fold(state, 500, [-1.0])
    findings.look({3: state})
    assert (told.take(), value(metrics, "meta_strategy_drifting_arms")) == ([], 2)


def test_arms_of_partitions_that_are_gone_do_not_count() -> None:
    findings, metrics, _ = findings_told()
    state = PartitionState(FoldSettings(half_life=50))
    fold(state, 0, [1.0, -0.5] * 200 + [-1.0, -0.5] * 50)
    findings.look({3: state})
    assert value(metrics, "meta_strategy_drifting_arms") == 2

    findings.look({4: PartitionState(FoldSettings())})

    assert value(metrics, "meta_strategy_drifting_arms") == 0


def test_an_arm_that_earns_again_what_it_did_is_told_again_later() -> None:
    findings, metrics, told = findings_told()
    state = PartitionState(FoldSettings(half_life=50))
    fold(state, 0, [1.0, -0.5] * 200 + [-1.0, -0.5] * 50)
    findings.look({0: state})
    fold(state, 500, [1.0, -0.5] * 100)
    findings.look({0: state})
    assert value(metrics, "meta_strategy_drifting_arms") == 0
    assert len(told.take()) == 2

    fold(state, 700, [-1.0, -0.5] * 50)
    findings.look({0: state})

    assert len(told.take()) == 2
