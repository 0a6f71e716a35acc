"""The benchmark's own check: it must pass what is right and notice what is not."""

import random
from collections import Counter
from uuid import NAMESPACE_URL, uuid5

import orjson
import pytest

from bench.floor import VALUE
from bench.history import row_trades
from bench.judge import fault_of, judge
from bench.ordinary_job import ROW_FIELDS, parse_row
from bench.ordinary_rules import decide, detect, reward_of
from bench.traffic import (
    SUITABLE,
    BenchSignal,
    expected_regime,
    make_backlog,
    make_signals,
    make_trade,
)
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.pipeline import Pipeline
from consumer.settings import Settings
from consumer.stream.read_record import ReadRecord
from consumer.wire import decode_trade
from schemas import Signal

TS = "2026-03-01T12:00:00.000Z"


def as_record(signal: BenchSignal, offset: int = 0) -> ReadRecord:
    return ReadRecord("signals", 0, offset, 0, signal.key, signal.value, ())


def decided_by_worker(signals: list[BenchSignal]) -> list[bytes]:

    settings = Settings(_env_file=None, meta_strategy_policy="epsilon_greedy")
    pipeline = Pipeline(settings.decider)
    state = PartitionState(settings.fold)
    records = [as_record(signal, offset) for offset, signal in enumerate(signals)]
    step = pipeline.step(state, (), records, now_ms=1_772_366_400_000, degraded=False)
    return [record.value or b"" for record in step.decisions]


def decided_by_plain(signals: list[BenchSignal]) -> list[bytes]:
    row = parse_row([None] * len(ROW_FIELDS))
    found = []
    for offset, signal in enumerate(signals):
        request = Signal.model_validate(orjson.loads(signal.value))
        decision_id = str(uuid5(NAMESPACE_URL, f"meta-strategy:default:{request.signal_id}"))
        record = as_record(signal, offset)
        found.append(decide(record, request, decision_id, detect(request.market), row, 0).value)
    return found


def test_the_same_arguments_give_the_same_signals() -> None:
    assert make_signals(50, ts=TS) == make_signals(50, ts=TS)
    assert make_signals(50, ts=TS) != make_signals(50, ts=TS, seed=8)


def test_signals_are_valid_and_reach_every_regime() -> None:
    signals = make_signals(1_000, ts=TS)

    for signal in signals:
        assert Signal.model_validate(orjson.loads(signal.value)).symbol.encode() == signal.key
    regimes = Counter(expected_regime(orjson.loads(s.value)["market"]) for s in signals)
    assert len(regimes) == 7
    assert len({signal.key for signal in signals}) == pytest.approx(200, abs=5)


def test_both_contenders_decide_every_signal_rightly() -> None:
    signals = make_signals(500, ts=TS)

    assert judge(signals, decided_by_worker(signals)).is_clean
    assert judge(signals, decided_by_plain(signals)).is_clean


def test_both_contenders_write_the_same_fields() -> None:
    """A ratio compares designs only while both do the same work."""
    signals = make_signals(1, ts=TS)

    (mine,), (plain,) = decided_by_worker(signals), decided_by_plain(signals)

    assert sorted(orjson.loads(mine)) == sorted(orjson.loads(plain))
    assert len(mine) == pytest.approx(len(plain), rel=0.1)


def test_the_floor_writes_as_much_as_a_decision() -> None:
    sizes = list(map(len, decided_by_worker(make_signals(500, ts=TS))))

    assert len(VALUE) == pytest.approx(sum(sizes) / len(sizes), rel=0.02)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("symbol",), "OTHER"),
        (("decision_id",), "00000000-0000-0000-0000-000000000000"),
        (("regime",), "sideways"),
        (("mode",), "default"),
        (("propensity",), 0.5),
        (("propensities", "defensive"), 0.5),
        (("tpsl", "stop_loss"), 1.0),
        (("tpsl", "take_profit_3"), 1.0),
        (("tpsl", "partial_close_tp1"), 0.5),
        (("tpsl",), None),
    ],
)
def test_a_wrong_decision_is_noticed(path: tuple[str, ...], value: object) -> None:
    (signal,) = make_signals(1, ts=TS)
    (right,) = decided_by_plain([signal])
    wrong = orjson.loads(right)
    place = wrong
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value

    assert fault_of(right, signal.value) is None
    assert fault_of(orjson.dumps(wrong), signal.value) is not None


def test_a_missing_field_is_noticed() -> None:
    (signal,) = make_signals(1, ts=TS)
    content = orjson.loads(decided_by_plain([signal])[0])
    del content["policy_version"]

    assert "policy_version" in (fault_of(orjson.dumps(content), signal.value) or "")


def test_lost_doubled_and_foreign_decisions_are_counted() -> None:
    signals = make_signals(4, ts=TS)
    strangers = decided_by_plain(make_signals(1, ts=TS, tag="other"))
    first, second, *_ = decided_by_plain(signals)

    verdict = judge(signals, [first, second, second, *strangers])

    assert (verdict.missing, verdict.doubled, verdict.foreign, verdict.faulty) == (2, 1, 1, 0)
    assert not verdict.is_clean


def test_trades_belong_to_their_decisions() -> None:
    (signal,) = make_signals(1, ts=TS)
    decision = orjson.loads(decided_by_plain([signal])[0])

    key, value = make_trade(decision, random.Random(1), ts=TS)

    record = ReadRecord("trade-closed", 0, 0, 0, key, value, ())
    trade = decode_trade(record)
    assert trade.decision_id == decision["decision_id"]
    assert (trade.strategy, trade.regime, trade.atr) == (None, None, None)


def test_a_backlogs_trades_can_be_learned_from_without_their_decisions() -> None:
    """They wait beside the signals: whether a decision is known by then is a matter of order."""
    backlog = make_backlog(200, ts=TS)
    state = PartitionState(FoldSettings())

    for (key, value), signal in zip(backlog.trades, backlog.signals, strict=True):
        trade = decode_trade(ReadRecord("t", 0, 0, 0, key, value, ()))
        result = state.fold_trade(trade, 0)
        assert result.attribution == "echo"
        assert result.reward == pytest.approx(reward_of(trade, trade.atr or 0.0))
        assert key == signal.key
        assert trade.strategy in SUITABLE[str(trade.regime)].split()


def test_a_part_of_a_backlog_keeps_signals_and_trades_together() -> None:
    backlog = make_backlog(10, ts=TS)

    part = backlog.first(0.5)

    assert part.signals == backlog.signals[:5]
    assert part.trades == backlog.trades[:5]
    assert make_backlog(10, ts=TS, with_trades=False).first(0.5).trades == []


def test_each_row_trade_makes_a_row_of_its_own() -> None:
    state = PartitionState(FoldSettings())

    for key, value in row_trades(100, ts=TS):
        trade = decode_trade(ReadRecord("t", 0, 0, 0, key, value, ()))
        state.fold_trade(trade, 0)

    assert len(state.table.rows) == 100
