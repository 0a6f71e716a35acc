"""The way of a batch: closed trades first, then signals, and nothing is lost on it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.counting import count_step
from consumer.decide import Decider
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.regime import RegimeDetector
from consumer.domain.selector import Selector
from consumer.domain.stored import Position
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.pipeline import Pipeline, Step
from consumer.telemetry.metrics import Metrics
from consumer.wire import header
from schemas import DeadLetterCode
from tests.support.builders import OMIT, START_MS, FakeRecord, signal_bytes, trade_bytes

NOW = START_MS + 10**6
ECHO = {"strategy": "moderate", "regime": "trend_up", "realized_r": 2.5}


def a_state() -> PartitionState:
    return PartitionState(FoldSettings())


def a_pipeline(*, max_age_ms: int = 0, keep_every: int = 1) -> Pipeline:
    selector = Selector(
        STRATEGY_PROFILES,
        EpsilonGreedy(base_epsilon=0.0),
        candidate_rule="suitable",
        default_strategy="ultra_aggressive",
    )
    decider = Decider(
        RegimeDetector(), selector, fold=FoldSettings(), seed=0, max_signal_age_ms=max_age_ms
    )
    return Pipeline(decider, keep_every=keep_every)


def numbered(topic: str, make: Callable[..., bytes], first: int, *bodies: Any) -> list[FakeRecord]:
    """Records of a topic from an offset on; a body is bytes, None or the fields of a message."""
    return [
        FakeRecord(
            make(**body) if isinstance(body, dict) else body,
            topic=topic,
            offset=first + number,
            timestamp=START_MS + number,
        )
        for number, body in enumerate(bodies)
    ]


def signals(*bodies: Any, first: int = 0) -> list[FakeRecord]:
    return numbered("signals", signal_bytes, first, *bodies)


def trades(*bodies: Any, first: int = 0) -> list[FakeRecord]:
    return numbered("trade-closed", trade_bytes, first, *bodies)


def step(
    state: PartitionState,
    closed: list[FakeRecord] = [],  # noqa: B006 - never changed
    asked: list[FakeRecord] = [],  # noqa: B006 - never changed
    *,
    degraded: bool = False,
    by: Pipeline | None = None,
) -> Step:
    return (by or a_pipeline()).step(state, closed, asked, now_ms=NOW, degraded=degraded)


def bodies(found: Step) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in found.decisions]


def reasons(found: Step) -> list[str]:
    return [(header(one.headers, "dlq.reason") or b"").decode() for one in found.dead_letters]


def offsets(found: Step) -> list[int]:
    return [int(header(one.headers, "dlq.offset") or b"-1") for one in found.dead_letters]


def test_closed_trades_are_folded_before_signals_are_decided() -> None:
    """A decision is made from the newest table there is, and says how new it is."""
    found = step(a_state(), trades(*[ECHO] * 6, first=10), signals({}))

    (body,) = bodies(found)
    assert (body["mode"], body["strategy"]) == ("exploit", "moderate")
    assert body["reasoning"] == "Exploitation: highest Q-value=2.500"
    assert body["table_offset"] == 16
    assert [result.outcome for _, result in found.learned] == ["win"] * 6


def test_a_step_moves_the_position_behind_its_trades() -> None:
    state = a_state()

    step(state, trades(ECHO, None, b"{", {"decision_id": "gone"}, first=5), signals({}))

    assert state.position == Position(0, 9)
    Pipeline.advance(state, 77)
    assert state.position == Position(77, 9)


def test_a_step_without_decisions_leaves_the_position_of_their_log() -> None:
    state = a_state()
    Pipeline.advance(state, 5)

    Pipeline.advance(state, None)

    assert state.position == Position(5, 0)


def test_decisions_come_in_the_order_of_their_signals() -> None:
    found = step(a_state(), [], signals({}, b"{", {}, {}, first=3))

    assert [body["source"]["offset"] for body in bodies(found)] == [3, 5, 6]
    assert bodies(found)[0]["source"] == {"topic": "signals", "partition": 3, "offset": 3}
    assert [one.signal.signal_id for one in found.decided] == [
        body["signal_id"] for body in bodies(found)
    ]
    assert {body["table_offset"] for body in bodies(found)} == {0}


@pytest.mark.parametrize(("keep_every", "kept"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4])])
def test_one_of_so_many_is_kept_and_all_are_counted(keep_every: int, kept: list[int]) -> None:
    """Log lines of one in a hundred do not have to wait for their transaction with all the others."""
    pipeline, state = a_pipeline(keep_every=keep_every), a_state()

    steps = [
        step(
            state,
            trades(*[ECHO] * count, first=first),
            signals(*[{}] * count, first=first),
            by=pipeline,
        )
        for first, count in ((0, 3), (3, 2))
    ]

    assert [len(found.decided) for found in steps] == [
        sum(number <= 3 for number in kept),
        sum(number > 3 for number in kept),
    ]
    assert [len(found.learned) for found in steps] == [len(found.decided) for found in steps]
    assert [sum(found.counts.decisions.values()) for found in steps] == [3, 2]
    assert [len(found.counts.signal_ts) for found in steps] == [3, 2]
    assert [sum(map(len, found.counts.rewards.values())) for found in steps] == [3, 2]
    # the second step finds the decisions of the first one
    assert [found.counts.attributions for found in steps] == [{"echo": 3}, {"symbol": 2}]


def test_a_decision_takes_from_when_its_record_was_read() -> None:
    """Whatever it waited for before its batch; a dead letter and a repeat are no decisions."""
    state, metrics = a_state(), Metrics()
    asked = signals({"signal_id": "a"}, b"{", {"signal_id": "a"}, {"signal_id": "b"})
    for number, record in enumerate(asked):
        record.received_s = 100.0 + number

    found = step(state, [], asked)
    count_step(metrics, found.counts, now_s=104.0, now_ms=NOW)

    (family,) = metrics.decision_seconds.collect()
    values = {sample.name: sample.value for sample in family.samples}
    assert values["meta_strategy_decision_seconds_count"] == 2
    assert values["meta_strategy_decision_seconds_sum"] == 4.0 + 1.0


def test_dead_letters_of_both_topics_name_their_record() -> None:
    found = step(
        a_state(),
        trades(b"{", {"decision_id": "gone"}, {"revision": 1, **ECHO}, ECHO, first=100),
        signals(None, {"schema_version": 2}, {}, {"side": "FLAT"}, b"x" * 70_000, first=200),
    )

    assert reasons(found) == [
        "invalid_json",
        "unknown_decision",
        "unknown_trade",
        "invalid_json",
        "unsupported_version",
        "invalid_message",
        "too_large",
    ]
    assert offsets(found) == [100, 101, 102, 200, 201, 203, 204]
    topics = [header(one.headers, "dlq.topic") for one in found.dead_letters]
    assert topics == [b"trade-closed"] * 3 + [b"signals"] * 4
    refused = [(record.offset, str(error.code)) for record, error in found.refused]
    assert refused == list(zip(offsets(found), reasons(found), strict=True))
    assert (len(found.decisions), len(found.learned)) == (1, 1)
    assert all(
        header(one.headers, "dlq.ts") == b"2026-01-01T00:16:40.000Z" for one in found.dead_letters
    )


def test_levels_and_age_send_signals_to_the_dead_letters() -> None:
    found = step(
        a_state(),
        [],
        signals(
            {"atr": 200_000.0, "atr_pct": OMIT, "ts": NOW},
            {"ts": NOW - 1001},
            {"ts": NOW - 1000},
        ),
        by=a_pipeline(max_age_ms=1000),
    )

    assert reasons(found) == ["invalid_levels", "stale_signal"]
    assert len(found.decisions) == 1


def test_a_repeated_signal_is_counted_and_nothing_else() -> None:
    state, once = a_state(), signal_bytes(signal_id="s1")
    step(state, [], signals(once))

    found = step(state, [], signals(once, {}, once, first=1))

    assert [record.offset for record in found.repeated] == [1, 3]
    assert (len(found.decisions), found.dead_letters, found.refused) == (1, [], [])


def test_a_signal_repeated_in_its_batch_is_answered_once() -> None:
    once = signal_bytes(signal_id="s1")

    found = step(a_state(), [], signals(once, once))

    assert (len(found.decisions), len(found.repeated)) == (1, 1)


def test_a_repeated_trade_is_counted_once() -> None:
    state, once = a_state(), trade_bytes(**ECHO)

    found = step(state, trades(once, once))

    (row,) = state.stored().rows.values()
    assert row["moderate"].count == 1
    assert found.dead_letters == []
    outcomes = [result.outcome for _, result in found.learned]
    assert outcomes.count("win") == 1
    assert [record.topic for record in found.repeated] == ["trade-closed"]


def test_a_trade_finds_a_decision_of_an_earlier_step_only() -> None:
    """A step folds its trades first: so does whoever folds the logs again."""
    state = a_state()
    closing = trade_bytes(realized_r=1.0)

    early = step(state, trades(closing), signals({}))
    late = step(state, trades(closing, first=1))

    assert reasons(early) == ["unknown_decision"]
    assert [result.attribution for _, result in late.learned] == ["symbol"]
    assert bodies(early)[0]["table_offset"] == 1


def test_degraded_is_written_down() -> None:
    assert [
        bodies(step(a_state(), [], signals({}), degraded=degraded))[0]["degraded"]
        for degraded in (True, False)
    ] == [True, False]


def test_policy_and_version_are_written_down() -> None:
    first, other = (bodies(step(a_state(), [], signals({}))) for _ in range(2))

    assert first[0]["policy"] == "epsilon_greedy"
    assert first[0]["policy_version"] == other[0]["policy_version"] != ""


def test_an_empty_step_is_empty() -> None:
    assert step(a_state()) == Step()


NASTY = "a\r\nb\x00\x1b[31m{3}:\u2028"


def test_names_of_any_characters_stay_out_of_one_line_errors() -> None:
    """Ids may hold any character; a line break in a log line would forge another one."""
    found = step(
        a_state(),
        trades(
            {"trade_id": NASTY, "decision_id": NASTY},
            {"trade_id": NASTY, "revision": 3, **ECHO},
            {"trade_id": NASTY, **ECHO, "realized_r": OMIT, "exit_price": 1e15},
        ),
        signals({"signal_id": NASTY, "timeframe": NASTY, "atr": 200_000.0}, {"signal_id": NASTY}),
    )

    errors = [(header(one.headers, "dlq.error") or b"").decode() for one in found.dead_letters]
    assert len(errors) == 4
    assert all(error.isprintable() for error in errors)
    assert len(found.decisions) == 1


good = st.sampled_from([{}, {"side": "SHORT"}, {"signal_id": "s1"}, {"adx": OMIT}])
poison = st.binary(max_size=20) | st.none() | st.sampled_from([b"{}", b"[]", b"{", b"\xff"])
closed = st.sampled_from([ECHO, {"trade_id": "t1", **ECHO}, {}, {"decision_id": "x"}])


@given(st.lists(closed | poison, max_size=8), st.lists(good | poison, max_size=8))
def test_every_record_has_exactly_one_fate(asked_trades: list[Any], asked: list[Any]) -> None:
    """Decision, dead letter or repeat: none missing, none twice."""
    state = a_state()

    found = step(state, trades(*asked_trades), signals(*asked))

    ends = [("signals", body["source"]["offset"]) for body in bodies(found)]
    ends += [(one.topic, one.offset) for one in found.repeated]
    ends += [(record.topic, record.offset) for record, _ in found.refused]
    counted = [result for _, result in found.learned if result.outcome != "duplicate"]
    wanted = [("signals", number) for number in range(len(asked))]
    wanted_trades = len(asked_trades)
    assert sorted(end for end in ends if end[0] == "signals") == wanted
    assert len([end for end in ends if end[0] != "signals"]) + len(counted) == wanted_trades
    assert len(found.dead_letters) == len(found.refused)
    assert state.position.trades == wanted_trades
    codes = {str(code) for code in DeadLetterCode}
    assert set(reasons(found)) <= codes


@pytest.mark.parametrize("first", [0, 10**12])
def test_the_same_records_lead_to_the_same_step(first: int) -> None:
    closing, asking = trades(*[ECHO] * 3, first=first), signals({}, {}, b"{")

    one, other = (step(a_state(), closing, asking) for _ in range(2))

    assert one.decisions == other.decisions
    assert one.dead_letters == other.dead_letters
