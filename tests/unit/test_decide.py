"""One signal, one decision: the same one wherever and whenever it is made again."""

import json
from collections import Counter
from contextlib import suppress
from math import inf
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.decide import Decider, Decision, decision_id_of
from consumer.decision_log import decode_logged_decision
from consumer.domain.context import ContextKey
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.regime import RegimeDetector
from consumer.domain.selector import Selector
from consumer.domain.stored import Position
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import BadMessageError
from consumer.settings import load
from consumer.wire import DecisionEncoder, OutRecord, header
from schemas import (
    DeadLetterCode,
    MarketRegime,
    Mode,
    Signal,
    StrategyDecision,
    StrategyID,
    TradeClosed,
)
from tests.support.builders import OMIT, START_MS, FakeRecord, make_signal, make_trade

NOW = START_MS + 9_999_999
FIELDS = [
    "schema_version",
    "decision_id",
    "signal_id",
    "account",
    "symbol",
    "side",
    "timeframe",
    "signal_ts",
    "ts",
    "regime",
    "regime_confidence",
    "regime_reasoning",
    "strategy",
    "strategy_name",
    "is_exploration",
    "confidence",
    "reasoning",
    "mode",
    "policy",
    "policy_version",
    "propensity",
    "propensities",
    "source",
    "table_offset",
    "degraded",
    "experiment",
    "variant",
    "tpsl",
    "metadata",
]
TPSL = [
    "atr_mult_sl",
    "atr_mult_tp1",
    "atr_mult_tp2",
    "atr_mult_tp3",
    "partial_close_tp1",
    "partial_close_tp2",
    "partial_close_tp3",
    "stop_loss",
    "take_profit_1",
    "take_profit_2",
    "take_profit_3",
    "atr",
    "entry_reference",
]


def decider(*, epsilon: float = 0.0, seed: int = 0, max_age_ms: int = 0, **rules: Any) -> Decider:
    policy = EpsilonGreedy(base_epsilon=epsilon)
    selector = Selector(
        STRATEGY_PROFILES,
        policy,
        **{"candidate_rule": "suitable", "default_strategy": "ultra_aggressive", **rules},
    )
    return Decider(
        RegimeDetector(), selector, fold=FoldSettings(), seed=seed, max_signal_age_ms=max_age_ms
    )


def a_state() -> PartitionState:
    return PartitionState(FoldSettings())


def a_signal(**fields: Any) -> Signal:
    return Signal.model_validate(make_signal(**fields))


def decide(
    signal: Signal,
    state: PartitionState | None = None,
    *,
    now_ms: int = NOW,
    degraded: bool = False,
    by: Decider | None = None,
) -> Decision | None:
    return (by or decider()).decide(
        signal, a_state() if state is None else state, now_ms=now_ms, degraded=degraded
    )


def written(decision: Decision | None, **source: Any) -> tuple[OutRecord, dict[str, Any]]:
    assert decision is not None
    record = DecisionEncoder("epsilon_greedy", "abc123").encode(decision, FakeRecord(b"", **source))
    assert record.value is not None
    return record, json.loads(record.value)


def taught(arm: str, *rewards: float, regime: str = "trend_up") -> PartitionState:
    state = a_state()
    for reward in rewards:
        trade = make_trade(strategy=arm, regime=regime, realized_r=reward)
        state.fold_trade(TradeClosed.model_validate(trade), 0)
    return state


@given(
    st.text("abcXYZ019_-", min_size=1, max_size=32),
    st.text(min_size=1, max_size=128).filter(str.isprintable),
)
def test_decision_id_is_a_name_uuid_of_account_and_signal(account: str, signal_id: str) -> None:
    """The router drops repeats by it: it must never depend on a worker."""
    wanted = str(uuid5(NAMESPACE_URL, f"meta-strategy:{account}:{signal_id}"))

    decision = decide(a_signal(account=account, signal_id=signal_id))

    assert decision is not None
    assert decision.decision_id == decision_id_of(account, signal_id) == wanted


def test_decision_id_in_full() -> None:
    assert decision_id_of("default", "signal-000001") == str(
        uuid5(NAMESPACE_URL, "meta-strategy:default:signal-000001")
    )


@pytest.mark.parametrize("account", [OMIT, None, "default"])
def test_a_missing_account_is_the_default_one(account: Any) -> None:
    _, body = written(decide(a_signal(account=account, signal_id="s1")))

    assert body["account"] == "default"
    assert body["decision_id"] == decision_id_of("default", "s1")


def test_a_decision_holds_all_fields_of_the_contract() -> None:
    signal = make_signal(
        signal_id="s1",
        ts="2026-01-01T01:00:00.123456+01:00",
        account="paper",
        side="SHORT",
        timeframe="4h",
        confidence=0.7,
        metadata={"a": [1, {"b": None}], "ü": "€"},
    )
    state = a_state()
    state.position = Position(7, 1234)

    record, body = written(
        decide(Signal.model_validate(signal), state, now_ms=START_MS + 1, degraded=True)
    )

    assert set(FIELDS) <= set(body)
    assert set(body["tpsl"]) == set(TPSL)
    StrategyDecision.model_validate(body)
    copied = ("signal_id", "account", "symbol", "side", "timeframe", "metadata")
    assert {name: body[name] for name in copied} == {name: signal[name] for name in copied}
    assert body["schema_version"] == 1
    assert body["signal_ts"] == "2026-01-01T00:00:00.123Z"
    assert body["ts"] == "2026-01-01T00:00:00.001Z"
    assert (body["regime"], body["regime_confidence"]) == ("trend_up", pytest.approx(0.85))
    assert body["regime_reasoning"] == "Trending UP: ADX=35.0, trend_strength=0.60, ATR=0.50%"
    assert (body["strategy"], body["strategy_name"]) == ("ultra_aggressive", "Ultra Aggressive")
    assert (body["is_exploration"], body["mode"]) == (False, "heuristic")
    assert (body["policy"], body["policy_version"]) == ("epsilon_greedy", "abc123")
    assert body["propensity"] == 1.0
    assert sum(body["propensities"].values()) == pytest.approx(1.0)
    assert body["source"] == {"topic": "signals", "partition": 3, "offset": 42}
    assert body["table_offset"] == 1234
    assert body["degraded"] is True
    assert body["experiment"] is None
    assert body["variant"] is None
    assert body["tpsl"] == {
        "atr_mult_sl": 1.0,
        "atr_mult_tp1": 3.0,
        "atr_mult_tp2": 5.0,
        "atr_mult_tp3": 8.0,
        "partial_close_tp1": 0.4,
        "partial_close_tp2": 0.3,
        "partial_close_tp3": 0.3,
        "stop_loss": 50_250.0,
        "take_profit_1": 49_250.0,
        "take_profit_2": 48_750.0,
        "take_profit_3": 48_000.0,
        "atr": 250.0,
        "entry_reference": 50_000.0,
    }
    assert record.key == b"BTCUSDT"
    assert record.timestamp_ms == START_MS + 1


def test_a_signal_without_metadata_has_none_in_its_decision() -> None:
    assert written(decide(a_signal()))[1]["metadata"] is None


def test_headers_name_id_strategy_regime_and_version() -> None:
    record, body = written(decide(a_signal()))

    assert dict(record.headers) == {
        "decision_id": body["decision_id"].encode(),
        "strategy": b"ultra_aggressive",
        "regime": b"trend_up",
        "schema_version": b"1",
    }


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_traceparent_is_passed_on_and_nothing_else() -> None:
    headers = [("other", b"x"), ("traceparent", TRACE), ("strategy", b"forged")]

    record, _ = written(decide(a_signal()), headers=headers)

    assert header(record.headers, "traceparent") == TRACE
    assert header(record.headers, "strategy") == b"ultra_aggressive"
    assert header(record.headers, "other") is None


@pytest.mark.parametrize(
    "headers", [[("traceparent", None)], [("a", None)], [("traceparent", b"")]]
)
def test_headers_without_a_value_stop_nothing(headers: list[tuple[str, Any]]) -> None:
    """Kafka allows null as the value of a header, and any producer may send it."""
    record, _ = written(decide(a_signal()), headers=headers)

    assert all(isinstance(value, bytes) for _, value in record.headers)


optional_numbers = {
    "adx": st.floats(0.0, 100.0),
    "trend_strength": st.floats(-1.0, 1.0),
    "atr_pct": st.floats(1e-6, 0.2),
    "volume_24h": st.floats(0.0, 1e9),
    "spread_bps": st.floats(0.0, 100.0),
}


@given(
    st.fixed_dictionaries({"side": st.sampled_from(["LONG", "SHORT"])}, optional=optional_numbers),
    st.integers(-(2**63), 2**63),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_same_inputs_give_the_same_bytes(fields: dict[str, Any], seed: int, epsilon: float) -> None:
    """So anybody can make a decision again from the logs and check it."""
    signal = make_signal(signal_id=f"s{seed}", **fields)
    rewards = (1.0, -1.0, 2.0, 0.5, 3.0, 1.0)

    records = [
        written(
            decide(
                Signal.model_validate(signal),
                taught("moderate", *rewards),
                by=decider(epsilon=epsilon, seed=seed),
            )
        )[0]
        for _ in range(2)
    ]

    assert records[0] == records[1]
    body = StrategyDecision.model_validate(json.loads(records[0].value or b""))
    assert body.propensities[body.strategy] == body.propensity > 0.0
    assert sum(body.propensities.values()) == pytest.approx(1.0, abs=1e-12)
    assert body.is_exploration is (body.mode is Mode.EXPLORE)


def test_other_seeds_draw_other_strategies() -> None:
    signals = [a_signal() for _ in range(40)]

    drawn = [
        [
            written(decide(signal, by=decider(epsilon=1.0, seed=seed)))[1]["strategy"]
            for signal in signals
        ]
        for seed in (0, 1)
    ]

    assert drawn[0] != drawn[1]


def test_exploration_is_as_frequent_as_epsilon() -> None:
    n, epsilon, by, state = 2_000, 0.25, decider(epsilon=0.25), a_state()
    market = a_signal().market

    bodies = [
        decide(a_signal(signal_id=f"n{number}").model_copy(update={"market": market}), state, by=by)
        for number in range(n)
    ]

    explored = [one for one in bodies if one is not None and one.is_exploration]
    # four standard errors of a share of n draws
    assert len(explored) / n == pytest.approx(epsilon, abs=4 * (0.25 * 0.75 / n) ** 0.5)
    assert len(Counter(one.choice.arm for one in explored)) == 5


def test_a_repeated_signal_is_not_answered_again() -> None:
    state = a_state()
    signal = make_signal(signal_id="s1", account="paper")
    assert decide(Signal.model_validate(signal), state) is not None
    size = len(state.decisions.open)

    changed = {**signal, "side": "SHORT", "market": {"current_price": 1.0, "atr": 5.0}}
    repeats = [
        decide(Signal.model_validate(signal), state),
        decide(Signal.model_validate(changed), state),
        decide(Signal.model_validate(signal), state, by=decider(max_age_ms=1)),
    ]

    assert repeats == [None, None, None], "a repeat is neither answered nor a dead letter"
    assert len(state.decisions.open) == size


def test_the_same_signal_id_of_another_account_is_another_signal() -> None:
    state = a_state()

    decisions = [
        decide(a_signal(signal_id="s1", account=account), state) for account in ("a", "b", "a")
    ]

    assert [decision is not None for decision in decisions] == [True, True, False]


@pytest.mark.parametrize(
    ("limit_ms", "age_ms", "is_stale"),
    [(1000, 1000, False), (1000, 1001, True), (0, 10**9, False), (1000, -5000, False)],
)
def test_a_signal_older_than_the_limit_is_stale(limit_ms: int, age_ms: int, is_stale: bool) -> None:
    state, signal = a_state(), a_signal(ts=START_MS)
    by = decider(max_age_ms=limit_ms)

    if not is_stale:
        assert decide(signal, state, now_ms=START_MS + age_ms, by=by) is not None
        return
    with pytest.raises(BadMessageError) as caught:
        decide(signal, state, now_ms=START_MS + age_ms, by=by)
    assert caught.value.code is DeadLetterCode.STALE_SIGNAL
    assert decide(signal, state) is not None, "what went to the dead letters is not seen"


def test_a_signal_without_a_candidate_left_is_refused() -> None:
    state = a_state()
    signal = make_signal(signal_id="s1", side="LONG", current_price=1.0, atr=5.0, atr_pct=OMIT)

    with pytest.raises(BadMessageError) as caught:
        decide(Signal.model_validate(signal), state)

    assert caught.value.code is DeadLetterCode.INVALID_LEVELS
    assert decide(a_signal(signal_id="s1"), state) is not None, "it does not count as seen"


def test_a_decision_exploits_what_was_learned() -> None:
    state = taught("moderate", *[3.245] * 12)

    _, body = written(decide(a_signal(), state))

    assert (body["strategy"], body["mode"]) == ("moderate", "exploit")
    assert body["reasoning"] == "Exploitation: highest Q-value=3.245"
    assert body["confidence"] == 0.875


@pytest.mark.parametrize(
    "other", [{"account": "paper"}, {"symbol": "ETHUSDT"}, {"adx": 5.0, "trend_strength": 0.0}]
)
def test_other_accounts_symbols_and_regimes_learn_apart(other: dict[str, Any]) -> None:
    state = taught("moderate", *[3.0] * 12)

    _, body = written(decide(a_signal(**other), state))

    assert body["mode"] == "heuristic"


@pytest.mark.parametrize(
    ("confirmation", "regime"), [("off", "trend_up"), ("higher_timeframes", "unknown")]
)
def test_higher_timeframes_are_asked_when_a_setting_says_so(confirmation: str, regime: str) -> None:
    """And the policy's version tells the two apart: a replay needs the same one."""
    against = [{"timeframe": "4h", "atr_pct": 0.01, "adx": 40.0, "trend_strength": -0.8}]
    by = load(regime_confirmation=confirmation).decider

    _, content = written(decide(a_signal(higher_timeframes=against), by=by))

    assert content["regime"] == regime
    assert (by.policy_version == load().decider.policy_version) == (confirmation == "off")


def test_disabled_decides_the_default_strategy() -> None:
    by = decider(enabled=False, default_strategy="scalp", epsilon=1.0)

    _, body = written(decide(a_signal(), taught("moderate", *[3.0] * 12), by=by))

    assert (body["strategy"], body["mode"], body["propensity"]) == ("scalp", "default", 1.0)
    assert body["is_exploration"] is False


def test_a_decision_is_remembered_for_its_reward() -> None:
    state = a_state()
    decision = decide(a_signal(account="paper"), state)
    assert decision is not None

    trade = make_trade(account="paper", realized_r=2.0)
    result = state.fold_trade(TradeClosed.model_validate(trade), NOW)

    assert result.strategy == decision.choice.arm
    assert result.context == decision.context
    assert result.context == ContextKey("paper", "BTCUSDT", MarketRegime.TREND_UP)
    assert result.attribution == "symbol"


def test_what_the_log_holds_is_what_was_remembered() -> None:
    """The fold of the log must equal the state of the worker that wrote it."""
    state = a_state()
    state.position = Position(0, 17)
    decision = decide(a_signal(account="paper", side="SHORT"), state, by=decider(epsilon=1.0))
    record, body = written(decision)

    logged = decode_logged_decision(record.value, record.timestamp_ms)

    assert logged is not None
    assert decision is not None
    assert logged.remembered == decision.remembered(0)
    assert (logged.table_offset, logged.is_exploration) == (17, body["is_exploration"])
    other = a_state()
    other.admit(logged.remembered, is_exploration=logged.is_exploration)
    assert other.stored().open == state.stored().open
    assert other.totals == state.totals


@pytest.mark.parametrize(
    "value", [None, b"", b"{}", b"[]", b"not JSON", b'{"schema_version":1}', b"\xff", b"null"]
)
def test_foreign_records_in_the_decision_log_are_passed_over(value: bytes | None) -> None:
    """Anybody who may write the topic could otherwise stop every opening of the partition."""
    assert decode_logged_decision(value, 0) is None


def test_a_record_that_no_worker_could_have_written_is_not_parsed() -> None:
    """A hundred megabytes of JSON in the decision log held the opening of its partition up for seconds."""
    record, _ = written(decide(a_signal()))
    assert record.value is not None
    room = (1 << 20) - len(record.value)

    assert decode_logged_decision(b" " * room + record.value, 0) is not None
    assert decode_logged_decision(b" " * (room + 1) + record.value, 0) is None


@given(st.binary(max_size=64) | st.text(max_size=32).map(str.encode))
def test_any_bytes_in_the_decision_log_are_passed_over(value: bytes) -> None:
    assert decode_logged_decision(value, 0) is None


@pytest.mark.parametrize(
    "field",
    ["decision_id", "account", "symbol", "side", "regime", "strategy", "variant", "table_offset",
     "is_exploration", "tpsl", "atr", "atr_mult_sl"],
)  # fmt: skip
def test_a_damaged_decision_in_the_log_is_passed_over(field: str) -> None:
    """It is read at every opening: one that cannot be folded would close its partition for ever."""
    _, good = written(decide(a_signal()))
    for value in (None, True, -1, 0, 1.5, 10**400, "", "x", "nan", "inf", [], ["x"], {}, "a\n{"):
        body = json.loads(json.dumps(good))
        place = body["tpsl"] if field in TPSL else body
        place[field] = value

        logged = decode_logged_decision(json.dumps(body).encode(), 5)

        if logged is None:
            continue
        known, case = logged.remembered, f"{field}={value!r:.40}"
        for name in (known.decision_id, known.account, known.symbol, known.strategy):
            assert isinstance(name, str), case
            assert name, case
        assert known.variant is None or isinstance(known.variant, str), case
        assert isinstance(logged.table_offset, int), case
        assert logged.table_offset >= 0, case
        assert 0.0 < known.atr < inf, case
        assert 0.0 < known.atr_mult_sl < inf, case


@pytest.mark.parametrize("rules", [{}, {"reward_unit": "risk"}])
@pytest.mark.parametrize("field", ["atr", "atr_mult_sl"])
@pytest.mark.parametrize("value", [0, -1, "nan", "inf"])
def test_numbers_in_the_decision_log_never_break_the_fold(
    rules: dict[str, Any], field: str, value: Any
) -> None:
    _, body = written(decide(a_signal()))
    body["tpsl"][field] = value
    state = PartitionState(FoldSettings(**rules))
    logged = decode_logged_decision(json.dumps(body).encode(), 5)
    if logged is not None:
        state.admit(logged.remembered, is_exploration=logged.is_exploration)

    for number, prices in enumerate([{"atr": OMIT}, {"realized_r": 2.0}]):
        trade = make_trade(trade_id=f"t{number}", decision_id=body["decision_id"], **prices)
        with suppress(BadMessageError):
            state.fold_trade(TradeClosed.model_validate(trade), 5)

    for row in state.stored().rows.values():
        assert all(abs(stats.ema_reward) <= 1e6 for stats in row.values()), "and none is NaN"


@pytest.mark.parametrize("side", ["LONG", "SHORT"])
def test_levels_of_every_strategy_reach_the_decision(side: str) -> None:
    signs = {"LONG": 1.0, "SHORT": -1.0}
    for strategy in StrategyID:
        by = decider(enabled=False, default_strategy=strategy)
        _, body = written(decide(a_signal(side=side), by=by))
        profile, tpsl = STRATEGY_PROFILES[strategy], body["tpsl"]
        wanted = [50_000.0 - signs[side] * profile.r_sl * 250.0]
        wanted += [
            50_000.0 + signs[side] * distance * 250.0
            for distance in (profile.r_tp1, profile.r_tp2, profile.r_tp3)
        ]
        found = [tpsl[name] for name in TPSL[7:11]]
        assert found == pytest.approx(wanted, rel=1e-12)
