"""What the executor sends in one schedule: signals and closed trades, good, repeated and bad."""

from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from tests.simulation.cluster import CANDLES, SIGNALS, TRADES
from tests.simulation.log import NewRecord
from tests.support.builders import START_MS
from tests.support.fold_oracle import decision_id

_MARKETS: list[dict[str, Any]] = [
    {"current_price": 50_000.0, "atr": 250.0, "adx": 35.0, "trend_strength": 0.6},
    {"current_price": 50_000.0, "atr": 250.0, "adx": 15.0, "trend_strength": 0.1},
    {"current_price": 50_000.0, "atr": 250.0},
]
_TOGETHER_SHARE = 0.4
"""Of the records: they come at once with the one before."""
_CANDLE_MS = 900_000
_MOVES = ((10.0, 10.0), (0.0, 700.0), (0.0, 3_500.0), (3_500.0, 0.0), (300.0, 300.0))
"""Below and above the open [quote]: nothing, some targets, all of them, all stops, near ones."""
_RESULTS = (-1.0, 3.5, 0.0, -0.25, 1.5)


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that the executor sends."""

    at_s: float
    topic: str
    partition: int
    record: NewRecord
    message: dict[str, Any] | None
    """None: it is no message."""


def make_workload(
    rng: Random, partitions: int, *, count: int, until_s: float, has_candles: bool = False
) -> list[Sent]:
    """Draw some records, in the order in which they are sent."""
    draw = rng.random
    signals: list[tuple[int, dict[str, Any]]] = []
    trades: list[tuple[int, dict[str, Any]]] = []
    candles: dict[str, int] = {}
    sent: list[Sent] = []
    times = sorted(until_s * draw() for _ in range(count))
    for number in range(1, count):
        if draw() < _TOGETHER_SHARE:
            times[number] = times[number - 1]
    for number, at_s in enumerate(times):
        partition = int(draw() * partitions)
        symbol = f"P{partition}{'AB'[draw() < 0.3]}"
        topic = TRADES if signals and draw() < 0.45 else SIGNALS
        if has_candles and signals and draw() < 0.4:
            topic = CANDLES
        key: bytes | None = None
        if draw() < 0.07:
            value, message, symbol_key = _poison(draw(), symbol), None, draw() < 0.8
            key = symbol.encode() if symbol_key else None
        else:
            if topic == CANDLES:
                partition, signal = signals[int(draw() * len(signals))]
                message = _candle(draw, candles, signal["symbol"])
            elif topic == SIGNALS:
                partition, message = _signal(draw, signals, partition, symbol, number)
                if has_candles:  # some come when candles have gone ahead of them
                    passed = candles.get(message["symbol"], 0) - int(draw() * 3)
                    message["ts"] = START_MS + max(0, passed) * _CANDLE_MS
            else:
                partition, message = _trade(draw, signals, trades, partition, symbol, number)
            value, key = orjson.dumps(message), message["symbol"].encode()
        record = NewRecord(key, value, (), START_MS + round(1000 * at_s))
        sent.append(Sent(at_s, topic, partition, record, message))
    return sent


def _poison(draw: float, symbol: str) -> bytes | None:
    if draw < 0.3:
        return None
    if draw < 0.6:
        return b"{"
    return orjson.dumps({"schema_version": 7, "symbol": symbol})


def _signal(
    draw: Any, sent: list[tuple[int, dict[str, Any]]], partition: int, symbol: str, number: int
) -> tuple[int, dict[str, Any]]:
    if sent and draw() < 0.12:
        return sent[int(draw() * len(sent))]
    message = {
        "schema_version": 1,
        "signal_id": f"s{number}",
        "ts": START_MS,
        "symbol": symbol,
        "side": "LONG" if draw() < 0.8 else "SHORT",
        "timeframe": "15m",
        "market": _MARKETS[min(int(draw() * 4), 2)],
    }
    sent.append((partition, message))
    return partition, message


def _candle(draw: Any, sent: dict[str, int], symbol: str) -> dict[str, Any]:
    number = sent.get(symbol, 0)
    if draw() < 0.85:
        sent[symbol] = number + 1
    else:
        number -= 1 + (draw() < 0.3)  # a repeat, or one that goes back
    low, high = _MOVES[int(draw() * len(_MOVES))]
    return {
        "schema_version": 1,
        "symbol": symbol,
        "timeframe": "15m",
        "open_time": START_MS + number * _CANDLE_MS,
        "close_time": START_MS + (number + 1) * _CANDLE_MS,
        "open": 50_000.0,
        "high": 50_000.0 + high,
        "low": 50_000.0 - low,
        "close": 50_000.0,
        "volume": 1.0,
    }


def _trade(
    draw: Any,
    signals: list[tuple[int, dict[str, Any]]],
    sent: list[tuple[int, dict[str, Any]]],
    partition: int,
    symbol: str,
    number: int,
) -> tuple[int, dict[str, Any]]:
    kind = draw()
    if sent and kind < 0.10:
        return sent[int(draw() * len(sent))]
    if sent and kind < 0.18:
        partition, message = sent[int(draw() * len(sent))]
        return partition, message | {
            "revision": 1 + int(draw() * 2),
            "realized_r": _RESULTS[int(draw() * 5)],
        }
    message = {
        "schema_version": 1,
        "trade_id": f"t{number}",
        "symbol": symbol,
        "side": "LONG" if draw() < 0.8 else "SHORT",
        "closed_at": START_MS,
        "entry_price": 50_000.0,
        "exit_price": 50_000.0,
        "realized_r": _RESULTS[int(draw() * 5)],
    }
    if kind < 0.25:  # of which decision, only the symbol tells
        pass
    elif kind < 0.30:
        message |= {"strategy": "scalp", "regime": "trend_up", "decision_id": "no-such-decision"}
    elif kind < 0.34:
        message |= {"decision_id": "no-such-decision"}
    else:
        partition, signal = signals[int(draw() * len(signals))]
        message |= {
            "symbol": signal["symbol"],
            "side": signal["side"],
            "decision_id": decision_id("default", signal["signal_id"]),
        }
        if draw() < 0.1:
            message["close_reason"] = "manual"
    sent.append((partition, message))
    return partition, message
