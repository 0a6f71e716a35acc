"""A record of closed trades is passed once, whatever it was."""

from typing import Any

import pytest

from consumer.domain.context import ContextKey
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.stored import Position
from consumer.errors import BadMessageError
from consumer.learn import follow, learn
from schemas import Candle, DeadLetterCode, MarketRegime, TradeClosed
from tests.support.builders import make_trade

ECHO = {"strategy": "scalp", "regime": "trend_up"}
CANDLE = Candle(
    schema_version=1,
    symbol="BTCUSDT",
    timeframe="1h",
    open_time=1_772_366_400_000,
    close_time=1_772_370_000_000,
    open=100.0,
    high=101.0,
    low=99.0,
    close=100.5,
    volume=1.0,
)


def a_state() -> PartitionState:
    return PartitionState(FoldSettings())


def trade(**fields: Any) -> TradeClosed:
    return TradeClosed.model_validate(make_trade(**fields))


def test_a_trade_moves_the_table_and_the_position() -> None:
    state = a_state()

    result = learn(state, trade(realized_r=3.5, **ECHO), offset=7, timestamp_ms=0)

    assert isinstance(result, FoldResult)
    assert result.outcome == "win"
    assert state.position == Position(0, 8)
    row = state.table.row(ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP))
    assert row["scalp"].ema_reward == 3.5


def test_a_bad_message_moves_the_position_only() -> None:
    """Otherwise one poisoned record would be read for ever."""
    state = a_state()
    bad = BadMessageError(DeadLetterCode.INVALID_JSON, "not a JSON object")

    result = learn(state, bad, offset=0, timestamp_ms=0)

    assert result is bad
    assert state.position == Position(0, 1)
    assert not state.stored().rows


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, DeadLetterCode.UNKNOWN_DECISION),
        ({"decision_id": "gone"}, DeadLetterCode.UNKNOWN_DECISION),
        ({"revision": 1, **ECHO}, DeadLetterCode.UNKNOWN_TRADE),
        ({"exit_price": 1e15, **ECHO}, DeadLetterCode.INVALID_MESSAGE),
    ],
)
def test_a_refused_trade_moves_the_position_only(
    fields: dict[str, Any], code: DeadLetterCode
) -> None:
    state = a_state()

    result = learn(state, trade(**fields), offset=3, timestamp_ms=0)

    assert isinstance(result, BadMessageError)
    assert result.code is code
    assert state.position == Position(0, 4)
    assert not state.stored().trades


def test_a_duplicate_moves_the_position_only() -> None:
    state = a_state()
    once = trade(realized_r=1.0, **ECHO)
    learn(state, once, offset=0, timestamp_ms=0)
    rows = state.stored().rows

    result = learn(state, once, offset=1, timestamp_ms=0)

    assert isinstance(result, FoldResult)
    assert result.outcome == "duplicate"
    assert state.position == Position(0, 2)
    assert state.stored().rows == rows


def test_offsets_may_have_gaps() -> None:
    """Transactions leave markers between records, and retention removes the oldest."""
    state = a_state()

    for offset in (5, 9, 100):
        learn(state, trade(realized_r=1.0, **ECHO), offset=offset, timestamp_ms=0)

    assert state.position == Position(0, 101)


def test_whatever_is_folded_is_progress() -> None:
    """A feed of candles may take minutes to fold: no reason to end whoever does it."""
    state = PartitionState(FoldSettings(candles=""))
    bad = BadMessageError(DeadLetterCode.INVALID_JSON, "not a JSON object")
    seen = [state.folded]
    for fold in (
        lambda: learn(state, trade(realized_r=3.5, **ECHO), offset=0, timestamp_ms=0),
        lambda: learn(state, bad, offset=1, timestamp_ms=0),
        lambda: follow(state, CANDLE, offset=0),
        lambda: follow(state, bad, offset=1),
    ):
        fold()
        seen.append(state.folded)

    assert sorted(set(seen)) == seen
