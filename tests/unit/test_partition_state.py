"""The state of a partition is a fold of its logs: compared with an oracle that knows no product."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import cramjam
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.connection import TopicNames
from consumer.domain.context import ContextKey, ParentKey, parents_of
from consumer.domain.features import FEATURES
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.qtable import ArmStats, fold_paper_reward
from consumer.domain.stored import Position, StoredPartition
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import BadMessageError, RefusedError
from consumer.learn import learn
from consumer.store import codec, redis_delta
from consumer.store.blocks import BLOCK_HASHES
from consumer.store.keys import HASHES
from consumer.store.meta import Meta
from consumer.store.raw import RawPartition
from schemas import CloseReason, DeadLetterCode, MarketRegime, Side, StrategyID, TradeClosed
from tests.support import oracle
from tests.support.builders import OMIT, make_trade
from tests.support.examples import examples
from tests.support.hash_view import KEYS, Hashes, Writer
from tests.support.hashes import arms_of
from tests.support.windows import small_windows

STOPS = {str(name): profile.r_sl for name, profile in STRATEGY_PROFILES.items()}
ACCOUNTS = ["default", "paper"]
SYMBOLS = ["BTCUSDT", "A:B/C"]
REGIMES = ["trend_up", "unknown"]
STRATEGIES = ["scalp", "trend_rider"]
TTL_MS = 100
LONG_AGO = 10**9


class Log(NamedTuple):
    """Both logs, with the settings they are folded with."""

    rules: dict[str, Any]
    events: list[dict[str, Any]]
    """In the order in which one partition sees them; a decision has a `decision_id`."""

    @property
    def settings(self) -> FoldSettings:
        rules = {**self.rules, "learn_exclude": frozenset(map(CloseReason, EXCLUDED))}
        return FoldSettings(**rules)

    @property
    def oracle(self) -> oracle.Fold:
        fold = oracle.Fold(
            STOPS,
            alpha=self.rules["alpha"],
            unit=self.rules["reward_unit"],
            exclude=EXCLUDED,
            ttl_ms=self.rules["decision_ttl_ms"],
            open_max=self.rules["open_decisions_max"],
            window=self.rules["dedupe_window"],
        )
        decisions = [event for event in self.events if "decision_id" in event]
        trades = [event for event in self.events if "decision_id" not in event]
        return fold.run(decisions, trades)


EXCLUDED = {"manual", "external"}


def place_of(number: int) -> dict[str, str]:
    """Account, symbol and side of a decision: the same id is the same signal."""
    return {
        "account": ACCOUNTS[number % 2],
        "symbol": SYMBOLS[number // 2 % 2],
        "side": ["LONG", "SHORT"][number // 4 % 2],
    }


def rules_of(rng: Random) -> dict[str, Any]:
    return {
        "alpha": rng.choice([0.2, 1.0, 0.5]),
        "reward_unit": rng.choice(["atr", "risk"]),
        "decision_ttl_ms": TTL_MS,
        "open_decisions_max": rng.choice([1, 2, 3, 5, 1000]),
        "dedupe_window": rng.choice([1, 2, 3, 5, 1000]),
    }


def decision_event(rng: Random, number: int) -> dict[str, Any]:
    strategy = rng.choice(STRATEGIES)
    return {
        "decision_id": f"d{number}",
        **place_of(number),
        "regime": rng.choice(REGIMES),
        "variant": rng.choice([None, None, "a"]),
        "strategy": strategy,
        "stop": STOPS[strategy],
        "atr": rng.choice([1.0, 2.0]),
        # some were decided before features were kept
        "features": rng.choice([(), *2 * [tuple(rng.uniform(-1.0, 1.0) for _ in FEATURES)]]),
    }


def trade_message(rng: Random, number: int) -> dict[str, Any]:
    """Trade `number` belongs to decision `number // 2`: two trades each, so that both count.

    A revision has an ATR of its own when the first had one: which one it takes else is a test of
    its own.
    """
    decision = number // 2
    place = place_of(decision)
    fields: dict[str, Any] = {
        "trade_id": f"t:{number}",
        **place,
        "account": OMIT if place["account"] == "default" else place["account"],
        "decision_id": rng.choice([f"d{decision}", f"d{decision}", OMIT]),
        "revision": rng.choice([OMIT, OMIT, 0, 0, 0, 0, 1, 2]),
        "close_reason": rng.choice([OMIT, "stop_loss", "timeout", "manual"]),
        "atr": [OMIT, 4.0][number % 2],
        "entry_price": 100.0,
        "exit_price": float(rng.randint(90, 110)),
        "fees": rng.choice([OMIT, 0.5]),
        "path": rng.choice([OMIT, [[1, 103.0, 99.0, 101.5], [2, 107.0, 96.0, 99.0]]]),
    }
    if rng.random() < 0.5:
        fields["realized_r"] = rng.randint(-8, 8) / 4
    if rng.random() < 0.5:
        fields["strategy"] = rng.choice(STRATEGIES)
        fields["regime"] = rng.choice(REGIMES)
        fields["variant"] = rng.choice([OMIT, "b"])
    if rng.random() < 0.25:
        price = float(rng.randint(90, 110))
        fields["exits"] = [{"price": price, "fraction": 0.75}, {"price": 100.0, "fraction": 0.25}]
    return make_trade(**fields)


def log_of(numbers: list[int]) -> Log:
    """Make the logs that numbers stand for: the first gives the rules, each other one an event.

    So leaving a number out leaves an event out, and a failure shrinks to few events, quickly.
    """
    first, *rest = numbers
    now, offset = 0, 0
    events: list[dict[str, Any]] = []
    for seed in rest:
        rng = Random(seed)
        now += rng.choice([0, 0, 1, 7, 45])
        number = rng.randint(0, 5)
        if rng.random() < 0.5:
            events.append({**decision_event(rng, number), "table_offset": offset, "ts": now})
        else:
            message = trade_message(rng, 2 * number + rng.randint(0, 1))
            trade = TradeClosed.model_validate(message)
            events.append({"message": message, "trade": trade, "offset": offset, "ts": now})
            offset += 1
    return Log(rules_of(Random(first)), events)


def logs() -> st.SearchStrategy[Log]:
    """Characters are the numbers that cost least to draw."""
    return st.text(min_size=2, max_size=50).map(lambda text: log_of([*map(ord, text)]))


def empty(log: Log) -> PartitionState:
    return PartitionState(log.settings)


def opened(event: dict[str, Any]) -> OpenDecision:
    return OpenDecision(
        decision_id=event["decision_id"],
        account=event["account"],
        symbol=event["symbol"],
        side=Side(event["side"]),
        regime=MarketRegime(event["regime"]),
        variant=event["variant"],
        strategy=event["strategy"],
        atr=event["atr"],
        atr_mult_sl=event["stop"],
        timestamp_ms=event["ts"],
        features=event["features"],
    )


@pytest.fixture(autouse=True, scope="module")
def _small_windows() -> Iterator[None]:
    with small_windows():
        yield


def feed(state: PartitionState, events: list[dict[str, Any]], *, packs_every: int = 3) -> list[str]:
    """Fold events as a partition does, and tell what became of each trade."""
    outcomes = []
    for number, event in enumerate(events):
        if number % packs_every == 1:
            state.pack()
        if "decision_id" in event:
            state.admit(opened(event), is_exploration=False)
            continue
        result = learn(state, event["trade"], offset=event["offset"], timestamp_ms=event["ts"])
        outcomes.append(result.outcome if isinstance(result, FoldResult) else str(result.code))
    return outcomes


def cells(state: PartitionState) -> dict[oracle.Arm, dict[str, float]]:
    return {
        (context.account, context.symbol, str(context.regime), context.variant, str(strategy)): {
            "count": stats.count,
            "ema_reward": stats.ema_reward,
            "avg_reward": stats.avg_reward,
            "win_count": stats.win_count,
            "loss_count": stats.loss_count,
            "total_r": stats.total_r,
        }
        for context, row in state.table.rows.items()
        for strategy, stats in row.items()
        if stats.count
    }


def whole(stored: StoredPartition) -> Any:
    """A stored state that can be compared: its groups are in no order."""
    return (
        stored.position,
        stored.totals,
        {context: dict(row) for context, row in stored.rows.items() if row},
        {parent: dict(row) for parent, row in stored.parents.items() if row},
        sorted(stored.open, key=lambda one: one.decision_id),
        sorted(stored.closed, key=lambda one: one.decision_id),
        sorted(stored.decision_ids),
        sorted(stored.trades, key=lambda one: (one.account, one.trade_id)),
    )


def in_hashes(state: PartitionState) -> RawPartition:
    """Write a state into hashes, and read these."""
    hashes = Hashes()
    Writer(state, hashes).rewrite()
    return hashes.raw(meta_of(state.settings))


def meta_of(settings: FoldSettings) -> Meta:
    topics = TopicNames(signals="s", trades="t", decisions="d", dead_letters="l")
    return Meta(settings, 1, topics)


# --- against the oracle


@examples(3)
@given(logs())
def test_every_cell_equals_the_oracles(log: Log) -> None:
    """Whatever comes when, the table is what its logs say."""
    state = empty(log)

    outcomes = feed(state, log.events)

    wanted = log.oracle
    assert outcomes == wanted.outcomes
    found, table = cells(state), wanted.cells()
    assert found.keys() == table.keys()
    for arm, cell in table.items():
        assert found[arm] == pytest.approx(cell, abs=1e-9)
    assert {one.decision_id for one in state.decisions.open.values()} <= {
        one["decision_id"] for one in wanted.answered
    }
    assert len(state.decisions.open) <= log.rules["open_decisions_max"]
    assert state.position.trades == len(wanted.outcomes)


@examples(0.7)
@given(logs())
def test_same_logs_give_the_same_state_to_the_last_bit(log: Log) -> None:
    """What is packed when makes no difference."""
    first, second = empty(log), empty(log)

    outcomes = feed(first, log.events)

    assert feed(second, log.events, packs_every=1 << 30) == outcomes
    assert whole(first.stored()) == whole(second.stored())


# --- kept and restored


@examples(1.5)
@given(logs(), st.data())
@pytest.mark.parametrize("by", ["state", "hashes"])
def test_a_restored_state_goes_on_as_if_it_had_never_stopped(
    by: str, log: Log, data: st.DataObject
) -> None:
    """A new owner of the partition must not differ from the old one in a single bit."""
    cut = data.draw(st.integers(0, len(log.events)))
    straight, first, second = empty(log), empty(log), empty(log)
    outcomes = feed(straight, log.events)

    before = feed(first, log.events[:cut])
    kept = first.stored()
    if by == "hashes":
        kept = in_hashes(first).decode("it", "fold the logs")
    else:
        kept = replace(
            kept,
            open=kept.open[::-1],
            closed=kept.closed[::-1],
            decision_ids=kept.decision_ids[::-1],
            trades=kept.trades[::-1],
        )
    second.restore(kept)
    assert whole(second.stored()) == whole(first.stored())
    after = feed(second, log.events[cut:])

    assert before + after == outcomes
    assert whole(second.stored()) == whole(straight.stored())


@examples(30)
@given(logs(), st.integers(1, 4), st.booleans(), st.booleans())
def test_what_is_written_is_all_that_changed(
    log: Log, every: int, goes_back: bool, is_taken_over: bool
) -> None:
    """What reached Redis is all that there is at the next failover."""
    hashes, meta = Hashes(), meta_of(log.settings)
    state = empty(log)
    writer = Writer(state, hashes)
    writer.rewrite()
    for number, event in enumerate(log.events):
        if goes_back:  # clocks of brokers may: what is older is not what came first then
            event["ts"] = event["ts"] * 7 % (3 * TTL_MS)
        feed(state, [event])
        state.position = state.position._replace(decisions=number + 1)
        if number % every:
            continue
        writer.write()

        assert state.pending == 0
        raw = hashes.raw(meta)
        assert whole(raw.decode("it", "fold the logs")) == whole(state.stored())
        assert rows_in(hashes) == {
            KEYS.row(context): row for context, row in state.stored().rows.items()
        }
        assert_no_block_is_all_forgotten(raw, state)
        if is_taken_over:
            state = empty(log)
            state.restore(raw.decode("it", "fold the logs"))
            writer = Writer(state, hashes)
            writer.know(raw)


def rows_in(hashes: Hashes) -> dict[str, Mapping[str, ArmStats]]:
    return {
        key: arms_of(fields)
        for key, fields in hashes.keys.items()
        if key.startswith(KEYS.row_prefix)
    }


def assert_no_block_is_all_forgotten(raw: RawPartition, state: PartitionState) -> None:
    oldest = {("decisions-closed", ""): redis_delta.oldest_closed(state)}
    for account, ids in state.decisions.ids.items():
        oldest["decision-ids", account] = ids.oldest
    for account, counted in state.trades.items():
        oldest["trades", account] = counted.oldest.sequence
    for name in BLOCK_HASHES:
        for field in raw.blocks(name):
            account, last, _ = codec.block_of(field)
            assert last >= oldest[name, account]


@examples(10)
@given(logs(), st.lists(st.sampled_from("abAB"), max_size=40))
def test_two_writers_of_one_partition_write_one_state(log: Log, turns: list[str]) -> None:
    """A worker that was thought dead may write between its successor's writes."""
    hashes, meta = Hashes(), meta_of(log.settings)
    states = {"a": empty(log), "b": empty(log)}
    writers = {name: Writer(state, hashes) for name, state in states.items()}
    for writer in writers.values():
        writer.rewrite()
    done = dict.fromkeys(states, 0)
    for turn in turns:
        name = turn.lower()
        state, at = states[name], done[name]
        if turn == name:  # folds one more
            feed(state, log.events[at : at + 1])
            done[name] = min(at + 1, len(log.events))
            state.position = state.position._replace(decisions=done[name])
        else:
            writers[name].write()
    furthest = states["a"] if done["a"] >= done["b"] else states["b"]
    writers["a" if furthest is states["a"] else "b"].write()

    found = hashes.raw(meta).decode("it", "fold the logs")
    assert whole(found) == whole(furthest.stored())


def test_what_was_written_is_packed() -> None:
    state = a_state()
    for number in range(10):
        open_up(state, f"open-{number}", f"closed-{number}")
        close(state, f"t{number}", decision_id=f"closed-{number}")
    remembered = state.decisions

    state.take_changes()
    state.pack()

    for window in (remembered.open, remembered.closed, *remembered.ids.values()):
        assert window._packed
    assert all(window._packed for window in state.trades.values())
    assert close(state, "late", decision_id="closed-3").attribution == "decision"
    assert close(state, "t3", decision_id="closed-3").outcome == "duplicate"
    assert close(state, "t4", decision_id="closed-4", revision=1).outcome == "revised"


def test_what_was_folded_before_the_first_write_is_packed_by_it() -> None:
    state = a_state()
    for number in range(40):
        open_up(state, f"open-{number}", f"closed-{number}")
        close(state, f"t{number}", decision_id=f"closed-{number}")

    Writer(state, Hashes()).rewrite()

    remembered = state.decisions
    windows = [remembered.open, remembered.closed, *remembered.ids.values(), *state.trades.values()]
    assert all(len(window._front) + len(window._loose) < 12 for window in windows)


def test_a_write_unpacks_nothing_that_was_written_before() -> None:
    state, hashes = a_state(), Hashes()
    writer = Writer(state, hashes)

    def fold(numbers: range) -> None:
        for number in numbers:
            open_up(state, f"open-{number}", f"closed-{number}")
            close(state, f"t{number}", decision_id=f"closed-{number}")
        state.position = Position(decisions=state.totals.decisions)

    with small_windows(group=2, loose=4):
        fold(range(40))
        writer.rewrite()
        fold(range(40, 42))
        writer.write()  # the oldest are unpacked: they leave next
        with mock.patch("cramjam.zstd.decompress", wraps=cramjam.zstd.decompress) as unpack:
            for first in range(42, 50, 2):
                fold(range(first, first + 2))
                writer.write()

    assert unpack.call_count == 0
    found = hashes.raw(meta_of(state.settings)).decode("it", "fold the logs")
    assert whole(found) == whole(state.stored())


def test_touching_all_names_all() -> None:
    state = a_state()
    open_up(state, "d1", "d2")
    close(state, "t1", decision_id="d1")
    first = state.take_changes()

    state.touch_all()

    assert state.take_changes() == replace(first, open=set(), all_open=True)


def _row_text(numbers: Sequence[Any]) -> str:
    return orjson.dumps(["a", "b", "unknown", None, {"scalp": numbers}]).decode()


def test_a_view_that_is_none_is_refused() -> None:
    state = a_state()
    open_up(state, "d1")
    close(state, "t1", decision_id="d1")
    open_up(state, "d2")
    good = in_hashes(state)

    for broken in (
        replace(good, watermark={}),
        replace(good, watermark={"decisions": "x", "trades": "0"}),
        replace(good, decisions={"d1": "[1]"}),
        replace(good, decisions={"d1": "not JSON"}),
        replace(good, decisions_closed={":1:1": "[1]"}),
        replace(good, decisions_closed={"1": "[]"}),
        replace(good, decision_ids={"default:1:1": '[["d1"]]'}),
        replace(good, decision_ids={"default:one": "[]"}),
        replace(good, trades={"nocolon": "[]"}),
        replace(good, trades={"default:1:1": '[["t1", 1]]'}),
        replace(good, trades_revised={"default:t1": "[]"}),
        replace(good, totals={"decisions": "many"}),
        replace(good, parents={"default:*:scalp": "[]"}),
        replace(good, contexts={"a:b:c": "{}"}),
        replace(good, contexts={"a:b:c": '["a","b","unknown",null,[]]'}),
        replace(good, contexts={"a:b:c": _row_text(["1", *[1.0] * 12])}),
        replace(good, contexts={"a:b:c": _row_text([1] * 12)}),
        replace(good, contexts={"a:b:c": _row_text([1] * 14)}),
        replace(good, contexts={"a:b:c": '["a","b","sideways",null,{}]'}),
    ):
        with pytest.raises(RefusedError, match=r"^it cannot be read \(.*\): fold the logs$"):
            broken.decode("it", "fold the logs")


# --- rule by rule


def a_state(**rules: Any) -> PartitionState:
    return PartitionState(FoldSettings(**rules))


def decision(name: str, ts: int = 0, **fields: Any) -> OpenDecision:
    usual: dict[str, Any] = {
        "account": "default",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "regime": MarketRegime.TREND_UP,
        "variant": None,
        "strategy": "scalp",
        "atr": 2.0,
    }
    made = {**usual, **fields}
    return OpenDecision(
        decision_id=name, timestamp_ms=ts, atr_mult_sl=STOPS[made["strategy"]], **made
    )


def open_up(state: PartitionState, *names: str, **fields: Any) -> None:
    for name in names:
        state.admit(decision(name, **fields), is_exploration=False)


def close(state: PartitionState, trade_id: str, *, ts: int = 0, **fields: Any) -> FoldResult:
    usual: dict[str, Any] = {"realized_r": 1.0, "trade_id": trade_id}
    return state.fold_trade(TradeClosed.model_validate(make_trade(**{**usual, **fields})), ts)


def code_of(state: PartitionState, trade_id: str, **fields: Any) -> DeadLetterCode:
    before = whole(state.stored())
    with pytest.raises(BadMessageError) as caught:
        close(state, trade_id, **fields)
    assert whole(state.stored()) == before, "a refused trade changes nothing"
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("r", "outcome"), [(3.5, "win"), (-1.0, "loss"), (0.0, "flat"), (1e-9, "win")]
)
def test_outcome_is_the_sign_of_the_reward(r: float, outcome: str) -> None:
    state = a_state()
    open_up(state, "d1")

    result = close(state, "t1", decision_id="d1", realized_r=r)

    assert result.outcome == outcome
    assert result.attribution == "decision"
    assert (result.context, result.strategy, result.reward) == (
        ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP),
        "scalp",
        r,
    )
    assert result.stats == state.table.row(result.context)["scalp"]
    assert result.stats.total_r == r


def test_the_records_own_strategy_and_regime_win_over_echoed_ones() -> None:
    state = a_state()
    open_up(state, "d1", variant="a")

    result = close(
        state, "t1", decision_id="d1", strategy="moderate", regime="unknown", variant="b"
    )

    assert (result.strategy, result.context) == (
        "scalp",
        ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP, "a"),
    )


def test_echoed_strategy_and_regime_are_used_when_the_record_is_gone() -> None:
    result = close(
        a_state(), "t1", decision_id="gone", strategy="moderate", regime="unknown", variant="b"
    )

    assert result.attribution == "echo"
    assert result.strategy == "moderate"
    assert result.context == ContextKey("default", "BTCUSDT", MarketRegime.UNKNOWN, "b")


@pytest.mark.parametrize("echo", [{}, {"strategy": "scalp"}, {"regime": "unknown"}])
@pytest.mark.parametrize("named", [{}, {"decision_id": "gone"}])
def test_a_trade_of_no_known_decision_is_refused(
    echo: dict[str, str], named: dict[str, str]
) -> None:
    assert code_of(a_state(), "t1", **echo, **named) is DeadLetterCode.UNKNOWN_DECISION


def test_a_strategy_that_never_was_is_refused() -> None:
    """An echoed name makes a field of a hash: a forged one must not."""
    fields = {"strategy": "never_heard_of", "regime": "unknown"}

    assert code_of(a_state(), "t1", **fields) in {
        DeadLetterCode.INVALID_MESSAGE,
        DeadLetterCode.UNKNOWN_DECISION,
    }


def test_a_named_decision_that_is_gone_is_never_replaced_by_another() -> None:
    """The newest open decision stands in only for a trade that names none."""
    state = a_state()
    open_up(state, "d1")

    assert code_of(state, "t1", decision_id="gone") is DeadLetterCode.UNKNOWN_DECISION


@pytest.mark.parametrize(
    "foreign", [{"symbol": "ETHUSDT"}, {"account": "paper"}, {"side": "SHORT"}]
)
def test_a_trade_is_attributed_by_account_symbol_and_side(foreign: dict[str, str]) -> None:
    state = a_state()
    open_up(state, "d1")

    assert code_of(state, "t1", **foreign) is DeadLetterCode.UNKNOWN_DECISION
    assert close(state, "t1").attribution == "symbol"


def test_the_newest_open_decision_is_attributed_first() -> None:
    state = a_state()
    for name, strategy in (("d1", "scalp"), ("d2", "moderate"), ("d3", "defensive")):
        open_up(state, name, strategy=strategy)

    close(state, "t0", decision_id="d2")
    strategies = [close(state, f"t{number}").strategy for number in (1, 2)]

    assert strategies == ["defensive", "scalp"]
    assert code_of(state, "t3") is DeadLetterCode.UNKNOWN_DECISION


def test_several_trades_of_one_decision_each_count() -> None:
    state = a_state()
    open_up(state, "d1")

    counts = [close(state, f"t{number}", decision_id="d1").stats.count for number in range(3)]

    assert counts == [1, 2, 3]


def test_an_excluded_trade_is_counted_but_not_learned() -> None:
    """A position closed by hand says nothing of the strategy; but it is closed."""
    state = a_state()
    open_up(state, "d1")

    result = close(state, "t1", decision_id="d1", close_reason="manual")

    assert result.outcome == "excluded"
    assert cells(state) == {}
    assert close(state, "t1", decision_id="d1").outcome == "duplicate"
    assert code_of(state, "t2") is DeadLetterCode.UNKNOWN_DECISION


def test_excluded_reasons_are_a_setting() -> None:
    state = a_state(learn_exclude=frozenset({CloseReason.TIMEOUT}))
    open_up(state, "d1")

    outcomes = [
        close(state, reason, decision_id="d1", close_reason=reason).outcome
        for reason in ("manual", "timeout", "liquidation")
    ]

    assert outcomes == ["win", "excluded", "win"]


def test_a_correction_of_an_excluded_trade_is_only_counted() -> None:
    """Its close reason stays the first's, whatever the correction says."""
    state = a_state()
    open_up(state, "d1")
    close(state, "t1", decision_id="d1", close_reason="external")

    result = close(state, "t1", decision_id="d1", revision=1, close_reason="take_profit")

    assert result.outcome == "excluded"
    assert cells(state) == {}
    assert close(state, "t1", decision_id="d1", revision=1).outcome == "duplicate"


def test_decision_strategy_regime_and_reason_stay_the_firsts() -> None:
    state = a_state()
    open_up(state, "d1")
    open_up(state, "d2", strategy="moderate", regime=MarketRegime.UNKNOWN)
    close(state, "t1", decision_id="d1", realized_r=2.0)

    result = close(
        state,
        "t1",
        decision_id="d2",
        revision=1,
        realized_r=-1.0,
        strategy="moderate",
        regime="unknown",
        close_reason="manual",
    )

    assert result.outcome == "revised"
    assert cells(state) == {
        ("default", "BTCUSDT", "trend_up", None, "scalp"): {
            "count": 1,
            "ema_reward": -1.0,
            "avg_reward": -1.0,
            "win_count": 0,
            "loss_count": 1,
            "total_r": -1.0,
        }
    }
    assert close(state, "t2").strategy == "moderate", "the second decision is still open"


@pytest.mark.parametrize("revision", [OMIT, 0, 3, 4])
def test_an_equal_or_lower_revision_is_a_duplicate(revision: Any) -> None:
    state = a_state()
    open_up(state, "d1")
    close(state, "t1", decision_id="d1")
    close(state, "t1", revision=4, realized_r=2.0)
    before = whole(state.stored())

    assert close(state, "t1", revision=revision, realized_r=9.0).outcome == "duplicate"

    assert whole(state.stored()) == before


def test_a_correction_of_an_unknown_trade_is_refused() -> None:
    """Without the first one nobody knows what to take out."""
    state = a_state(dedupe_window=1)
    open_up(state, "d1")
    fields = {"decision_id": "d1", "strategy": "scalp", "regime": "trend_up", "revision": 1}

    assert code_of(state, "never", **fields) is DeadLetterCode.UNKNOWN_TRADE
    close(state, "t1", decision_id="d1")
    close(state, "t2", decision_id="d1")
    assert code_of(state, "t1", **fields) is DeadLetterCode.UNKNOWN_TRADE


def test_a_correction_needs_no_open_decision() -> None:
    """Funding is known days later: its decision may be gone by then."""
    state = a_state(decision_ttl_ms=10)
    open_up(state, "d1")
    close(state, "t1", decision_id="d1")

    result = close(state, "t1", decision_id="d1", revision=1, realized_r=-2.0, ts=LONG_AGO)

    assert result.outcome == "revised"
    assert result.stats.total_r == -2.0


def test_a_correction_out_of_range_is_refused() -> None:
    state = a_state()
    open_up(state, "d1")
    prices = {"realized_r": OMIT, "entry_price": 100.0, "atr": 1.0}
    close(state, "t1", decision_id="d1", **prices, exit_price=101.0)

    code = code_of(state, "t1", revision=1, **prices, exit_price=9999.0)

    assert code is DeadLetterCode.INVALID_MESSAGE
    assert close(state, "t1", revision=1, **prices, exit_price=102.0).outcome == "revised"


def test_a_correction_without_atr_takes_the_decisions() -> None:
    """`atr` is optional: the decision's ATR when absent, and the decision stays the first's."""
    state = a_state()
    open_up(state, "d1", atr=2.0)
    prices = {"realized_r": OMIT, "entry_price": 100.0, "exit_price": 108.0}
    close(state, "t1", decision_id="d1", **prices, atr=4.0)

    result = close(state, "t1", decision_id="d1", revision=1, **prices, atr=OMIT)

    assert result.reward == 4.0


def test_refused_trades_do_not_count_as_seen() -> None:
    state = a_state()
    assert code_of(state, "t1", decision_id="d1") is DeadLetterCode.UNKNOWN_DECISION

    open_up(state, "d1")

    assert close(state, "t1", decision_id="d1").outcome == "win"


def test_the_same_trade_id_of_two_accounts_is_two_trades() -> None:
    state = a_state()
    open_up(state, "d1")
    open_up(state, "d2", account="paper")

    outcomes = [
        close(state, "t1", decision_id="d1").outcome,
        close(state, "t1", decision_id="d2", account="paper").outcome,
        close(state, "t1", decision_id="d2", account="paper").outcome,
    ]

    assert outcomes == ["win", "win", "duplicate"]


def test_accounts_symbols_and_regimes_learn_apart() -> None:
    state = a_state()
    places: list[dict[str, Any]] = [
        {},
        {"account": "paper"},
        {"symbol": "A:B"},
        {"regime": MarketRegime.UNKNOWN},
        {"variant": "a"},
    ]
    for number, place in enumerate(places):
        open_up(state, f"d{number}", **place)
        where = {k: v for k, v in place.items() if k in {"account", "symbol"}}
        close(state, f"t{number}", decision_id=f"d{number}", realized_r=float(number), **where)

    assert sorted(cell["total_r"] for cell in cells(state).values()) == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("age", "outcome"), [(99, "win"), (101, DeadLetterCode.UNKNOWN_DECISION)])
@pytest.mark.parametrize("named", [{"decision_id": "d1"}, {}])
def test_a_decision_is_gone_after_its_time(age: int, outcome: str, named: dict[str, str]) -> None:
    """By record time: a worker that was away for a week must come to the same table."""
    state = a_state(decision_ttl_ms=100)
    open_up(state, "d1", ts=LONG_AGO)

    if outcome == "win":
        assert close(state, "t1", ts=LONG_AGO + age, **named).outcome == outcome
    else:
        assert code_of(state, "t1", ts=LONG_AGO + age, **named) is outcome


def test_the_oldest_open_decision_goes_when_there_are_too_many() -> None:
    state = a_state(open_decisions_max=2)

    open_up(state, "d1", "d2", "d3")

    assert [one.decision_id for one in state.decisions.open.values()] == ["d2", "d3"]
    assert code_of(state, "t1", decision_id="d1") is DeadLetterCode.UNKNOWN_DECISION
    assert close(state, "t2", decision_id="d2").outcome == "win"


def test_a_repeated_decision_changes_nothing_and_the_first_one_counts() -> None:
    state = a_state()
    open_up(state, "d1")
    before = whole(state.stored())

    open_up(state, "d1", strategy="moderate", atr=9.0)

    assert whole(state.stored()) == before
    assert close(state, "t1", decision_id="d1").strategy == "scalp"


def test_a_decision_that_is_gone_does_not_hide_a_new_one() -> None:
    """Its id was used long ago, and nobody knows it any more: the new record is the first one."""
    state = a_state(decision_ttl_ms=100, dedupe_window=1)
    open_up(state, "d1")
    open_up(state, "d2", ts=50)

    open_up(state, "d1", ts=101, strategy="moderate")

    assert close(state, "t1", ts=101, decision_id="d1").strategy == "moderate"


def test_a_decision_out_of_the_window_but_still_remembered_is_the_first_one() -> None:
    state = a_state(dedupe_window=1)
    open_up(state, "d1", "d2")

    open_up(state, "d1", strategy="moderate")

    assert close(state, "t1", decision_id="d1").strategy == "scalp"


def test_the_last_decisions_of_an_account_are_known() -> None:
    """A busy account must not push another one's ids out."""
    state = a_state(dedupe_window=2)
    open_up(state, "p1", account="paper")

    open_up(state, "d1", "d2", "d3")

    known = [state.decisions.knows("default", name) for name in ("d1", "d2", "d3", "p1")]
    assert known == [False, True, True, False]
    assert state.decisions.knows("paper", "p1")


def test_a_closed_decision_is_still_known() -> None:
    state = a_state()
    open_up(state, "d1")
    close(state, "t1", decision_id="d1")

    assert state.decisions.knows("default", "d1")
    assert not state.decisions.open


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.booleans())), st.data())
def test_the_newest_open_decision_is_found_whenever_it_is_first_asked_for(
    told: list[tuple[str, bool, bool]], data: st.DataObject
) -> None:
    """A trade that names no decision is the newest one's of its symbol and side; until one comes nobody looks."""
    asked_at = data.draw(st.integers(0, len(told)))
    states = a_state(), a_state()
    for number, (name, is_short, closes) in enumerate(told):
        if number == asked_at:
            newest_open(states[0], Side.LONG)
        for state in states:
            if closes and (opened := state.decisions.open.get(name)) is not None:
                close(state, f"t{number}", decision_id=name, side=opened.side)
            else:
                open_up(state, name, side=Side.SHORT if is_short else Side.LONG)

    for side in Side:
        expected = [n for n, one in states[0].decisions.open.items() if one.side is side]
        for state in states:
            assert newest_open(state, side) == (expected[-1] if expected else None)


def newest_open(state: PartitionState, side: Side) -> str | None:
    trade = TradeClosed.model_validate(make_trade(decision_id=OMIT, side=side))
    found = state.decisions.decision_of(trade, "default", 0)
    return None if found is None else found.decision_id


def test_reward_unit_risk_divides_by_the_strategys_stop() -> None:
    state = a_state(reward_unit="risk")
    open_up(state, "d1", strategy="trend_rider")

    named = close(state, "t1", decision_id="d1", realized_r=-2.0)
    echoed = close(state, "t2", symbol="X", strategy="scalp", regime="unknown", realized_r=-0.8)

    assert (named.reward, echoed.reward) == (pytest.approx(-1.0), pytest.approx(-1.0))


def test_a_context_without_rewards_is_empty() -> None:
    assert dict(a_state().table.row(ContextKey("default", "X", MarketRegime.UNKNOWN))) == {}


@examples(3)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]),
            st.sampled_from([MarketRegime.TREND_UP, MarketRegime.UNKNOWN]),
            st.sampled_from(["scalp", "moderate"]),
            st.integers(-8, 8),
            st.none() | st.integers(-8, 8),
        ),
        max_size=20,
    )
)
def test_parents_are_the_fold_of_all_their_symbols_rewards(
    trades: list[tuple[str, MarketRegime, str, int, int | None]],
) -> None:
    """A correction reaches each row with the weight that its reward still has there."""
    state = a_state(half_life=2.0)
    sums: dict[tuple[ParentKey, str], list[float]] = {}
    for number, (symbol, regime, strategy, reward, _) in enumerate(trades):
        close(
            state,
            f"t{number}",
            symbol=symbol,
            decision_id="gone",
            regime=regime,
            strategy=strategy,
            realized_r=float(reward),
        )
    for number, (symbol, regime, strategy, reward, revised) in enumerate(trades):
        if revised is not None:
            close(state, f"t{number}", symbol=symbol, revision=1, realized_r=float(revised))
        final = float(reward if revised is None else revised)
        for parent in parents_of(ContextKey("default", symbol, regime)):
            sums.setdefault((parent, strategy), []).append(final)

    found = {
        (parent, strategy): stats
        for parent, row in state.table.parents.items()
        for strategy, stats in row.items()
    }
    assert found.keys() == sums.keys()
    for key, rewards in sums.items():
        recent = sum(reward * 0.5 ** (age / 2) for age, reward in enumerate(reversed(rewards)))
        assert found[key].count == len(rewards)
        assert found[key].total_r == pytest.approx(sum(rewards))
        assert found[key].sum_squares == pytest.approx(sum(r * r for r in rewards))
        assert found[key].recent_r == pytest.approx(recent, abs=1e-9)
    for symbol, regime, *_ in trades:
        context = ContextKey("default", symbol, regime)
        assert state.table.parent_rows(context) == tuple(
            state.table.parents[one] for one in parents_of(context)
        )


def test_a_row_that_was_given_away_never_changes() -> None:
    """What a policy worked out from a row holds as long as it has that row."""
    state = a_state()
    open_up(state, "d1")
    close(state, "t1", decision_id="d1", realized_r=1.0)
    (context,) = state.table.rows
    given = (state.table.row(context), *state.table.parent_rows(context))
    before = [dict(row) for row in given]

    close(state, "t2", decision_id="d1", realized_r=2.0)

    assert [dict(row) for row in given] == before
    assert state.table.row(context) != given[0]


def test_counters_count_decisions_explorations_and_rewards() -> None:
    state = a_state()
    state.admit(decision("d1"), is_exploration=True)
    state.admit(decision("d2"), is_exploration=False)
    state.admit(decision("d2"), is_exploration=True)

    close(state, "t1", decision_id="d1")
    close(state, "t1", decision_id="d1")

    totals = state.totals
    assert (totals.decisions, totals.explorations, totals.rewards) == (2, 1, 1)


def fields_of(strategy: str, stats: ArmStats) -> dict[str, str]:
    listed = codec.arm_fields(strategy, stats)
    fields = dict(zip(listed[::2], listed[1::2], strict=True))
    assert 2 * len(fields) == len(listed)
    return fields


@given(st.floats(-1000.0, 1000.0), st.integers(0, 2**53), st.text("abc:_", min_size=1))
def test_numbers_survive_being_stored(value: float, count: int, trade_id: str) -> None:
    """17 significant digits: what a restart reads is what was folded, to the last bit."""
    stats = ArmStats(
        count, value, count // 2, count // 3, value * 3, value * value, value / 2, value / 3
    )

    fields = fields_of("scalp", stats)

    assert arms_of(fields) == {"scalp": stats}
    assert fields["scalp:count"] == str(count)
    assert float(fields["scalp:ema_reward"]) == value
    assert set(fields) == {
        f"scalp:{name}"
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
    stats = fold_paper_reward(stats, value, 0.5)
    assert arms_of(fields_of("scalp", stats)) == {"scalp": stats}
    context, row = ContextKey("paper", "X:Y", MarketRegime.UNKNOWN, "b"), {StrategyID.SCALP: stats}
    assert codec.decode_row(codec.encode_row(context, row)) == (context, row)
    both = {"scalp": stats, "defensive": ArmStats()}
    turned = dict(reversed(both.items()))
    assert codec.encode_row(context, both) == codec.encode_row(context, turned)
    for parent in parents_of(ContextKey("paper", "X", MarketRegime.UNKNOWN, "b")):
        assert codec.decode_parents([codec.encode_parent(parent, "scalp", stats)]) == {
            parent: {"scalp": stats}
        }
    name = codec.trade_field("paper", trade_id)
    state = a_state()
    open_up(state, "d1", account="paper", atr=abs(value) + 1e-12)
    close(state, trade_id, account="paper", decision_id="d1", realized_r=value)
    (kept,) = state.stored().trades
    assert codec.decode_trade(name, codec.encode_trade(kept)) == kept
    (closed,) = state.stored().closed
    assert codec.decode_decision(codec.encode_decision(closed)) == closed
    assert codec.decode_decisions(codec.encode_decisions([closed]).decode()) == [closed]
    assert codec.decode_trades("paper", codec.encode_trades([kept]).decode()) == [kept]


def test_hashes_are_read_in_the_order_of_their_keys() -> None:
    named = [one.name.replace("_", "-") for one in fields(RawPartition)]

    assert named == list(HASHES)


def test_position_starts_at_the_logs_beginning() -> None:
    assert a_state().position == Position(0, 0)


def test_a_state_that_is_cleared_holds_nothing() -> None:
    state = a_state()
    for number in range(4):
        open_up(state, f"d{number}", atr=2.0)
    close(state, "t1", decision_id="d1", realized_r=1.0)
    assert newest_open(state, Side.LONG) == "d3"

    state.clear()

    stored = state.stored()
    assert not any((stored.rows, stored.parents, stored.open, stored.closed, stored.trades))
    assert not stored.decision_ids
    assert not state.pending
    assert newest_open(state, Side.LONG) is None


@pytest.mark.parametrize("reward", [1.25, -1.25, 0.1, -0.0, 0.0, 5e-324])
@pytest.mark.parametrize("count", [1, 2])
def test_numbers_of_an_arm_that_are_alike_are_written_as_each_alone(
    reward: float, count: int
) -> None:
    square = reward * reward
    stats = ArmStats(count, reward, 0, 0, reward, square, square, -reward)

    fields = fields_of("scalp", stats)

    for name in ("ema_reward", "avg_reward", "total_r", "sum_squares", "loss_squares", "recent_r"):
        assert fields[f"scalp:{name}"] == codec.number(getattr(stats, name))
