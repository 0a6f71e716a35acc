"""Signals followed on paper, candle by candle."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain import following
from consumer.domain.context import ContextKey, parents_of
from consumer.domain.features import FEATURES, Features
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.following import Entry, Followed
from consumer.domain.ladder import Bar, Ladder, walk
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.qtable import NO_REWARDS
from consumer.domain.stored import StoredPartition
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import BadMessageError
from consumer.store import codec
from schemas import Candle, CloseReason, MarketRegime, Side, TradeClosed
from tests.support.builders import make_trade
from tests.support.examples import examples

LADDERS = {name: Ladder.of_profile(profile) for name, profile in STRATEGY_PROFILES.items()}
CONTEXT = ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP)
ENTRY, ATR = 100.0, 2.0
START, HOUR = 1_772_366_400_000, 3_600_000
FAR_UP = Bar(ENTRY, 200.0, 100.0, 200.0)
"""Every target of a long position, no stop."""


def a_state(candles: str | None = "", **rules: Any) -> PartitionState:
    return PartitionState(FoldSettings(candles=candles, **rules))


def a_candle(bar: Bar, number: int, *, symbol: str = "BTCUSDT", timeframe: str = "1h") -> Candle:
    return Candle(
        schema_version=1,
        symbol=symbol,
        timeframe=timeframe,
        open_time=START + number * HOUR,
        close_time=START + (number + 1) * HOUR,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=1.0,
    )


def features_at(timestamp_ms: int) -> Features:
    """What is measured of a signal: something else each hour."""
    hours = timestamp_ms // HOUR
    return tuple((hours * number % 11 - 5) / 5.0 for number in range(1, len(FEATURES) + 1))


def decide(
    state: PartitionState,
    name: str,
    *,
    since_ms: int = START,
    side: Side = Side.LONG,
    strategy: str = "scalp",
    timestamp_ms: int = START,
    account: str = "default",
    symbol: str = "BTCUSDT",
    atr: float = ATR,
) -> None:
    state.admit(
        OpenDecision(
            *(name, account, symbol, side, MarketRegime.TREND_UP, None, strategy, atr),
            atr_mult_sl=STRATEGY_PROFILES[strategy].r_sl,
            timestamp_ms=timestamp_ms,
            features=features_at(timestamp_ms),
        ),
        is_exploration=False,
        entry=Entry(ENTRY, since_ms, "1h"),
    )


def close(state: PartitionState, name: str, **fields: Any) -> None:
    """Close a trade of a decision."""
    usual = {"trade_id": f"t{name}", "decision_id": name, "entry_price": ENTRY, "atr": None}
    message = make_trade(**{**usual, "exit_price": ENTRY, **fields})
    state.fold_trade(TradeClosed.model_validate(message), START)


def counts(state: PartitionState) -> dict[str, int]:
    assert state.following is not None
    return dict(state.following.counts)


def paper_counts(state: PartitionState) -> set[int]:
    return {state.table.row(CONTEXT).get(name, NO_REWARDS).paper_count for name in LADDERS}


def bars() -> st.SearchStrategy[list[Bar]]:
    """Bars with gaps between them; of four bytes each, as numbers cost much to draw."""

    def make(drawn: bytes) -> list[Bar]:
        found = []
        prices = [round(70.0 + byte * 60.0 / 255, 1) for byte in drawn]
        for four in zip(prices[::4], prices[1::4], prices[2::4], prices[3::4], strict=False):
            low, a, b, high = sorted(four)
            opened, closed = (a, b) if four[0] <= four[1] else (b, a)
            found.append(Bar(opened, high, low, closed))
        return found

    return st.binary(min_size=4, max_size=32).map(make)


# What comes of a signal


def test_outcomes_tell_what_features_have_to_do_with_them() -> None:
    """Of every ladder, by the signal's features: kept with the signal until it has ended."""
    state = a_state()
    for number in range(3):
        decide(
            state, f"d{number}", since_ms=START + number * HOUR, timestamp_ms=START + number * HOUR
        )
        state.fold_candle(a_candle(Bar(ENTRY, ENTRY + 20 * ATR, ENTRY, ENTRY), number))

    account = state.table.parents[parents_of(CONTEXT)[0]]
    for name in LADDERS:
        stats = account[name]
        assert stats.paper_count == 3
        weights = [state.settings.decay**later for later in (2, 1, 0)]
        z = [(1.0, *features_at(START + number * HOUR)) for number in range(3)]
        reward = stats.paper_r / 3  # of all three the same
        wanted = [
            sum(w * one[row] * one[column] for w, one in zip(weights, z, strict=True))
            for row in range(len(z[0]))
            for column in range(row, len(z[0]))
        ]
        wanted += [
            sum(w * one[row] * reward for w, one in zip(weights, z, strict=True))
            for row in range(len(z[0]))
        ]
        assert stats.paper_feature_sums == pytest.approx(wanted)
        assert stats.feature_sums == ()


@given(bars(), st.sampled_from(Side), st.floats(0.5, 9.0), st.sampled_from(["atr", "risk"]))
def test_every_strategy_earns_what_its_ladder_walks(
    path: list[Bar], side: Side, atr: float, unit: Any
) -> None:
    """To the last bit; nothing counts before the last ladder has ended."""
    state = a_state(reward_unit=unit)
    decide(state, "d", side=side, atr=atr)
    walked = {name: walk(ladder, side, ENTRY, atr, path) for name, ladder in LADDERS.items()}
    ends = max(
        len(path) + 1 if one.close_reason is CloseReason.TIMEOUT else one.bars
        for one in walked.values()
    )

    for number, bar in enumerate(path, 1):
        state.fold_candle(a_candle(bar, number - 1))
        assert paper_counts(state) == {1 if number >= ends else 0}

    if ends <= len(path):
        assert {name: stats.paper_r for name, stats in state.table.row(CONTEXT).items()} == {
            name: one.gross_r if unit == "atr" else one.gross_r / LADDERS[name].stop
            for name, one in walked.items()
        }
        assert counts(state) == {"ended": 1}


def test_outcomes_enter_the_rows_above_too() -> None:
    state = a_state()
    decide(state, "d")

    state.fold_candle(a_candle(FAR_UP, 0))

    for parent in parents_of(CONTEXT):
        assert {stats.paper_count for stats in state.table.parents[parent].values()} == {1}
    assert all(stats.count == 0 for stats in state.table.row(CONTEXT).values()), (
        "nothing was earned"
    )


@given(bars())
def test_what_is_too_old_is_marked(path: list[Bar]) -> None:
    state = a_state(decision_ttl_ms=len(path) * HOUR - 1)
    decide(state, "d")

    for number, bar in enumerate(path):
        state.fold_candle(a_candle(bar, number))

    assert {name: stats.paper_r for name, stats in state.table.row(CONTEXT).items()} == {
        name: walk(ladder, Side.LONG, ENTRY, ATR, path).gross_r for name, ladder in LADDERS.items()
    }
    assert sum(counts(state).values()) == 1


def test_a_signal_without_candles_is_dropped_at_its_age() -> None:
    state = a_state(decision_ttl_ms=HOUR)
    decide(state, "d")

    decide(state, "e", timestamp_ms=START + HOUR + 1, symbol="ETHUSDT")

    assert counts(state) == {"unseen": 1}
    assert paper_counts(state) == {0}
    assert [one.decision_id for one in state.stored().followed] == ["e"]


def test_too_many_push_the_oldest_out_at_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_FOLLOWED", 2)
    state = a_state()
    decide(state, "a")
    state.fold_candle(a_candle(Bar(100.0, 101.0, 99.5, 101.0), 0))

    for name in ("b", "c"):
        decide(state, name, since_ms=START + HOUR)

    assert [one.decision_id for one in state.stored().followed] == ["b", "c"]
    assert counts(state) == {"marked": 1}
    assert {stats.paper_r for stats in state.table.row(CONTEXT).values()} == {0.5}


def test_prices_out_of_range_count_nothing() -> None:
    state = a_state()
    decide(state, "d", atr=1e-6)

    state.fold_candle(a_candle(Bar(1e6, 1e6, 1e6, 1e6), 0))

    assert counts(state) == {"refused": 1}
    assert state.table.rows == {}


# Which candles count


@pytest.mark.parametrize(("late_ms", "is_followed"), [(0, True), (HOUR // 10, True)])
def test_a_candle_counts_for_a_signal_of_its_beginning(late_ms: int, is_followed: bool) -> None:
    state = a_state()
    decide(state, "d", since_ms=START + late_ms)

    state.fold_candle(a_candle(FAR_UP, 0))

    assert paper_counts(state) == {int(is_followed)}


def test_a_candle_that_began_before_the_signal_does_not_count() -> None:
    state = a_state()
    decide(state, "d", since_ms=START + HOUR // 10 + 1)

    state.fold_candle(a_candle(FAR_UP, 0))
    assert paper_counts(state) == {0}
    state.fold_candle(a_candle(FAR_UP, 1))
    assert paper_counts(state) == {1}


def test_a_signal_decided_after_its_candles_is_not_followed() -> None:
    """Part of its way would be missing: no outcome is better than a wrong one."""
    state = a_state()
    state.fold_candle(a_candle(Bar(100.0, 101.0, 99.5, 101.0), 0))

    decide(state, "d")
    state.fold_candle(a_candle(FAR_UP, 1))

    assert counts(state) == {"late": 1}
    assert paper_counts(state) == {0}


def test_candles_that_do_not_fit_change_nothing() -> None:
    state = a_state()
    decide(state, "d")
    quiet = Bar(100.0, 100.5, 99.5, 100.0)
    assert state.fold_candle(a_candle(quiet, 3)) == "followed"
    before = state.stored()

    assert state.fold_candle(a_candle(FAR_UP, 3)) == "repeated"
    assert state.fold_candle(a_candle(FAR_UP, 2)) == "out_of_order"
    assert state.stored() == before
    assert state.fold_candle(a_candle(quiet, 5)) == "gap"
    assert state.fold_candle(a_candle(quiet, 0, timeframe="1d")) == "followed", "its own series"
    assert state.fold_candle(a_candle(FAR_UP, 0, symbol="ETHUSDT")) == "followed"
    assert paper_counts(state) == {0}


def test_one_timeframe_may_serve_all_signals() -> None:
    state = a_state("1m")
    decide(state, "d")

    assert state.fold_candle(a_candle(FAR_UP, 0)) == "other_timeframe"
    assert state.fold_candle(a_candle(FAR_UP, 0, timeframe="1m")) == "followed"
    assert paper_counts(state) == {1}


def test_a_gap_over_the_stop_fills_at_the_open() -> None:
    state = a_state()
    decide(state, "d")

    state.fold_candle(a_candle(Bar(90.0, 150.0, 90.0, 150.0), 0))

    assert {stats.paper_r for stats in state.table.row(CONTEXT).values()} == {-5.0}


# Without candles, and paths beside them


def test_without_the_topic_nothing_is_followed() -> None:
    state = a_state(None)
    decide(state, "d")

    assert not state.stored().followed
    with pytest.raises(RuntimeError, match="candles"):
        state.fold_candle(a_candle(FAR_UP, 0))


def test_a_path_does_not_count_twice() -> None:
    state = a_state()
    decide(state, "d")

    close(state, "d", path=[(START, 200.0, 100.0, 200.0)], exit_price=200.0)

    assert paper_counts(state) == {0}


# Is paper to be believed?


def trade_all(state: PartitionState, count: int, exit_price: float, **fields: Any) -> None:
    """Let signals go up through all targets, their trades being closed somewhere."""
    for number in range(count):
        decide(state, f"d{number}", since_ms=START + number * HOUR)
        state.fold_candle(a_candle(FAR_UP, number))
        close(state, f"d{number}", exit_price=exit_price, **fields)


def test_paper_that_agrees_is_believed() -> None:
    state = a_state()
    earned = walk(LADDERS["scalp"], Side.LONG, ENTRY, ATR, [FAR_UP]).gross_r

    trade_all(state, 12, ENTRY + earned * ATR, fees=0.5)

    assert state.calibration("default").mean_gap_r == pytest.approx(0.0, abs=1e-9)
    assert state.calibration("default").is_trusted


def test_paper_that_differs_is_not() -> None:
    state = a_state()

    trade_all(state, 12, ENTRY)

    assert not state.calibration("default").is_trusted
    assert state.calibration("other").is_trusted


@pytest.mark.parametrize("reason", ["timeout", "manual", "liquidation", "external"])
def test_what_no_ladder_closed_is_not_compared(reason: str) -> None:
    state = a_state()

    trade_all(state, 12, ENTRY, close_reason=reason)

    assert state.calibrations == {}


# The state


Event = tuple[str, Any]


def history(numbers: list[int]) -> list[Event]:
    """Make decisions, trades and candles of two symbols and accounts; each number is one of them.

    So leaving a number out leaves an event out, and a failure shrinks quickly.
    """
    events: list[Event] = []
    candles = {"BTCUSDT": 0, "ETHUSDT": 0}
    decisions: dict[str, dict[str, Any]] = {}
    for number, seed in enumerate(numbers):
        rng = Random(seed)
        kind = rng.choice(["decision", "trade", "candle", "candle"])
        symbol = rng.choice(sorted(candles))
        if kind == "decision":
            decisions[f"d{number}"] = {
                "account": rng.choice(["default", "paper"]),
                "since_ms": START + (candles[symbol] - rng.choice([0, 1])) * HOUR,
                "side": rng.choice(list(Side)),
                "strategy": rng.choice(["scalp", "trend_rider"]),
                "timestamp_ms": START + number * HOUR,
                "symbol": symbol,
            }
            events.append((kind, (f"d{number}", decisions[f"d{number}"])))
        elif kind == "trade" and decisions:
            name = rng.choice(list(decisions))
            fields = {part: decisions[name][part] for part in ("symbol", "side", "account")}
            exit_price = float(rng.randint(90, 110))
            fields |= {"trade_id": f"t{number}", "exit_price": exit_price}
            events.append((kind, (name, fields)))
        elif kind == "candle":
            low, opened, closed, high = sorted(rng.randint(85, 115) for _ in range(4))
            bar = Bar(opened, high, low, closed)
            events.append((kind, (bar, candles[symbol], symbol)))
            candles[symbol] += 1
    return events


# characters are the numbers that cost least to draw
histories = st.text(max_size=40).map(lambda text: history([*map(ord, text)]))


def feed(state: PartitionState, events: Sequence[Event]) -> None:
    for kind, what in events:
        if kind == "decision":
            name, fields = what
            decide(state, name, **fields)
        elif kind == "trade":
            name, fields = what
            with suppress(BadMessageError):  # its decision may be too old
                close(state, name, **fields)
        else:
            bar, number, symbol = what
            state.fold_candle(a_candle(bar, number, symbol=symbol))


def whole(state: PartitionState) -> Any:
    """What a state holds, in an order that can be compared."""
    stored = state.stored()
    return (
        replace(stored, followed=(), rows={}, parents={}),
        {one.decision_id: one for one in stored.followed},
        {key: dict(row) for key, row in stored.rows.items()},
        {key: dict(row) for key, row in stored.parents.items()},
        {name: (c.mean_gap_r, c.is_trusted) for name, c in state.calibrations.items() if c._gaps},
    )


def small_state(limit: int) -> PartitionState:
    return a_state(decision_ttl_ms=limit * HOUR)


@examples(3)
@given(histories, st.integers(2, 40), st.data())
def test_trades_and_candles_may_come_in_any_order_between_decisions(
    events: list[Event], limit: int, data: st.DataObject
) -> None:
    """A decision says how far each log was folded, not how they were mixed."""
    live, again = small_state(limit), small_state(limit)
    feed(live, events)

    start = 0
    for end in (*[n for n, (kind, _) in enumerate(events) if kind == "decision"], len(events)):
        between = events[start:end]
        first = data.draw(st.sampled_from(["trade", "candle"]))
        between.sort(key=lambda event: event[0] != first and event[0] != "decision")
        feed(again, between)
        start = end

    assert whole(again) == whole(live)


def stored_again(stored: StoredPartition) -> StoredPartition:
    """Write what following keeps as fields of hashes, and read it."""
    fields = [(one.decision_id, codec.encode_followed(one)) for one in stored.followed]
    series = [
        (codec.series_field(k), codec.encode_last_candle(v)) for k, v in stored.series.items()
    ]
    return replace(
        stored,
        followed=[codec.decode_followed(*one) for one in reversed(fields)],
        series=dict(codec.decode_series(*one) for one in reversed(series)),
    )


@examples(3)
@given(histories, st.integers(2, 40), st.data())
def test_a_restored_state_goes_on_as_if_it_had_never_stopped(
    events: list[Event], limit: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(events)))
    live, begun, restored = (small_state(limit) for _ in range(3))
    feed(live, events)
    feed(begun, events[:cut])

    restored.restore(stored_again(begun.stored()))
    feed(restored, events[cut:])

    assert whole(restored) == whole(live)


@examples(2)
@given(histories, st.integers(2, 40))
def test_what_changed_is_all_that_changed(events: list[Event], limit: int) -> None:
    """A view that takes only the changes holds everything."""
    state = small_state(limit)
    kept: dict[str, Followed] = {}
    assert state.following is not None

    for event in events:
        feed(state, [event])
        for name in state.following.take_changes().followed:
            if (one := state.following.followed.get(name)) is None:
                del kept[name]
            else:
                kept[name] = one

    assert kept == state.following.followed
