"""The chaos runs find what they look for: the oracle sees each kind of fault, and a short run has none."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import pytest

from chaos.fold import Fold
from chaos.messages import close
from chaos.oracle import Findings, compare_rows, judge_partition
from chaos.replay import replay
from chaos.report import holds, invariants
from chaos.scene import POLICY
from chaos.storm import Plan, run
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.local.stack import StackError
from consumer.pipeline import Pipeline
from consumer.settings import Settings
from tests.support.builders import START_MS, FakeRecord
from tests.support.executor import signals

pytestmark = pytest.mark.timeout(180)

# The oracle, on logs that the product's own pipeline wrote, and that are then spoilt

PARTITION = 3
SETTINGS = Settings(meta_strategy_policy=POLICY)


class Logs:
    """What a partition's topics hold: decisions of 120 signals, and their closed trades."""

    def __init__(self) -> None:
        pipeline = Pipeline(SETTINGS.decider)
        state = PartitionState(SETTINGS.fold)
        self.signals: list[FakeRecord] = []
        self.decisions: list[FakeRecord] = []
        self.trades: list[FakeRecord] = []
        self.letters: Counter[tuple[str, int, int]] = Counter()
        rng, learned = Random(3), 0
        for number, signal in enumerate(signals(120, seed=51, symbols=["BTCUSDT"])):
            source = _record("signals", 2 * number, orjson.dumps(signal))
            step = pipeline.step(
                state, self.trades[learned:], [source], now_ms=START_MS, degraded=False
            )
            learned = len(self.trades)
            state.position = Position(0, learned)
            (decision,) = step.decisions
            self.signals.append(source)
            assert decision.value is not None
            self.decisions.append(_record("decisions", number, decision.value))
            trade = close(orjson.loads(decision.value), rng)
            self.trades.append(_record("trade-closed", number, orjson.dumps(trade)))
        pipeline.step(state, self.trades[learned:], (), now_ms=START_MS, degraded=False)
        self.table = {
            f"ms:{{3}}:q:{context.account}:{context.symbol}:{context.regime}": {
                f"{strategy}:{name}": repr(getattr(arm, name))
                for strategy, arm in row.items()
                for name in (
                    "count",
                    "ema_reward",
                    "avg_reward",
                    "win_count",
                    "loss_count",
                    "total_r",
                    "sum_squares",
                    "loss_squares",
                    "recent_r",
                )
            }
            for context, row in state.table.rows.items()
        }

    def judged(self) -> Findings:
        found, fold = Findings(), Fold(window=1_000, open_max=1_000)
        judge_partition(
            PARTITION,
            self.signals,
            self.decisions,
            self.trades,
            self.letters,
            fold=fold,
            found=found,
        )
        compare_rows(PARTITION, "ms", fold, {}, self.table, found)
        return found


def _record(topic: str, offset: int, value: bytes) -> FakeRecord:
    return FakeRecord(value, b"BTCUSDT", topic, PARTITION, offset, START_MS)


def _edited(record: FakeRecord, **fields: Any) -> FakeRecord:
    assert record.value is not None
    return replace(record, value=orjson.dumps(orjson.loads(record.value) | fields))


def faults(found: Findings) -> dict[str, int]:
    names = [
        "missing",
        "doubled",
        "unasked",
        "out_of_order",
        "wrong",
        "letters_missing",
        "letters_too_many",
        "cells_differing",
    ]
    return {name: count for name in names if (count := getattr(found, name))}


def test_the_oracle_finds_nothing_in_good_logs() -> None:
    found = Logs().judged()

    assert faults(found) == {}, found.examples
    assert (found.signals, found.decisions, found.trades) == (120, 120, 120)
    assert found.cells > 100


def lose(logs: Logs) -> None:
    del logs.decisions[70]


def double(logs: Logs) -> None:
    logs.decisions.append(logs.decisions[70])


def swap(logs: Logs) -> None:
    logs.decisions[70], logs.decisions[71] = logs.decisions[71], logs.decisions[70]


def answer_a_repeat(logs: Logs) -> None:
    logs.signals.append(replace(logs.signals[70], offset=400))
    source = {"topic": "signals", "partition": PARTITION, "offset": 400}
    logs.decisions.append(_edited(logs.decisions[70], source=source))


def decide_from_an_empty_table(logs: Logs) -> None:
    logs.decisions[100:] = [_edited(r, table_offset=0) for r in logs.decisions[100:]]
    del logs.trades[1:]


def spoil_a_price(logs: Logs) -> None:
    assert logs.decisions[9].value is not None
    tpsl = orjson.loads(logs.decisions[9].value)["tpsl"]
    logs.decisions[9] = _edited(logs.decisions[9], tpsl=tpsl | {"stop_loss": 1.0})


def lose_a_dead_letter(logs: Logs) -> None:
    logs.signals.append(_record("signals", 401, b"no json"))


def refuse_what_is_good(logs: Logs) -> None:
    logs.letters["trade-closed", PARTITION, 5] = 1


def lose_a_row(logs: Logs) -> None:
    del logs.table[next(iter(logs.table))]


def shift_a_cell_by_its_last_bit(logs: Logs) -> None:
    row = next(iter(logs.table.values()))
    name = next(name for name in row if name.endswith("ema_reward"))
    row[name] = repr(float(row[name]) * (1 + 2**-52))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lose, "missing"),
        (double, "doubled"),
        (swap, "out_of_order"),
        (answer_a_repeat, "unasked"),
        (decide_from_an_empty_table, "wrong"),
        (spoil_a_price, "wrong"),
        (lose_a_dead_letter, "letters_missing"),
        (refuse_what_is_good, "letters_too_many"),
        (lose_a_row, "cells_differing"),
        (shift_a_cell_by_its_last_bit, "cells_differing"),
    ],
)
def test_the_oracle_finds_what_was_spoilt(spoil: Callable[[Logs], None], fault: str) -> None:
    logs = Logs()

    spoil(logs)

    assert faults(logs.judged()).get(fault, 0) >= 1


def test_a_decision_drawn_otherwise_is_not_the_same_again() -> None:
    logs = Logs()
    assert replay(SETTINGS, logs.signals, logs.decisions, logs.trades) == []

    logs.decisions[50] = _edited(logs.decisions[50], is_exploration="other")

    assert len(replay(SETTINGS, logs.signals, logs.decisions, logs.trades)) == 1


# A run on real servers


@pytest.fixture(scope="module", params=["exactly_once", "at_least_once"])
async def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    plan = Plan(
        what="smoke",
        seed=11,
        signals=1_500,
        share=0.5,
        rate=250.0,
        workers=2,
        kills=2,
        broker_kills=1,
        redis_losses=1,
        network=1,
        clock_jumps=1,
        candles=True,
        guarantee=request.param,
    )
    try:
        return await run(plan, print)
    except StackError as error:
        pytest.skip(f"no Kafka and Redis to hurt: {error}")


async def test_all_invariants_hold_in_a_short_run(result: dict[str, Any]) -> None:
    lines = invariants(result)

    assert [line for line in lines if not line.holds] == [], result["findings"]["examples"]
    assert holds(result)
    assert len(lines) == 13


async def test_the_run_did_what_was_planned(result: dict[str, Any]) -> None:
    """An oracle that compared nothing would find nothing."""
    counts, found = result["faults"]["counts"], result["findings"]

    assert counts["kills"] >= 2
    assert (counts["broker kills"], counts["redis losses"]) == (1, 1)
    assert found["decisions"] == found["replayed"] == 1_500 + found["doubled"]
    assert found["cells"] > 1_000
    assert found["outcomes"] > 100
    assert found["told"] > 8
    assert found["bad"] > 0
    assert found["repeats"] > 0
    assert result["hashes"]["hashes"] > 100
    json.dumps(result)
