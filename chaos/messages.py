"""Signals, closed trades and bad messages: cheap to make, and in them all that the contract allows."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

CANARY = "canary-payload-5f1d"
"""Stands in signals and in bad messages; found in no output of a worker (I13)."""
SYMBOLS = 120
FRAGMENTS = 3_000
_ATR_PCTS = (0.004, 0.012, 0.03, 0.045, 0.07)

POISON: tuple[tuple[bytes | None, bytes], ...] = (
    (b"S00001", b"no json " + CANARY.encode()),
    (b"S00001", b'{"schema_version":1,"signal_id":"' + CANARY.encode() + b'"}'),
    (None, b'{"schema_version":1}'),
    (b"S00001", b'{"schema_version":99,"symbol":"S00001"}'),
    (b"S00001", b'{"schema_version":1,"market":{"atr":NaN}}'),
    (b"S00001", b"\xff\xfe\x00" + CANARY.encode()),
    (b"S00001", b"x" * 70_000),
    (b"S00001", b""),
)
"""Bad in either topic."""


class Fragment(NamedTuple):
    """The end of a signal, and where it goes."""

    partition: int
    key: bytes
    value: bytes


def usual_prices(rng: random.Random) -> dict[str, float]:
    """Give the price about which each symbol moves."""
    return {f"S{number:05d}": rng.uniform(0.5, 60_000.0) for number in range(SYMBOLS)}


def fragments(
    rng: random.Random, partition_of: Callable[[bytes], int], prices: Mapping[str, float]
) -> Iterator[Fragment]:
    """Make the parts of signals behind id and time: few, used again and again."""
    for number in range(FRAGMENTS):
        symbol = f"S{number % SYMBOLS:05d}"
        price = prices[symbol] * rng.uniform(0.98, 1.02)
        atr_pct = rng.choice(_ATR_PCTS) * rng.uniform(0.9, 1.1)
        rest: dict[str, Any] = {
            "symbol": symbol,
            "side": rng.choice(("LONG", "SHORT")),
            "timeframe": rng.choice(("5m", "15m", "1h")),
            "market": {
                "current_price": price,
                "atr": price * atr_pct,
                "atr_pct": atr_pct,
                "adx": rng.uniform(8.0, 55.0),
                "trend_strength": rng.uniform(-1.0, 1.0),
                "volume_24h": rng.uniform(1e6, 9e8),
                "depth_5bps": rng.uniform(4.5e4, 9e5),
                "spread_bps": rng.uniform(0.2, 10.5),
            },
        }
        if number % 4 == 0:
            rest["account"] = "paper"
        if number % 50 == 0:
            rest["metadata"] = {"note": CANARY}
        key = symbol.encode()
        yield Fragment(partition_of(key), key, orjson.dumps(rest)[1:])


def close(decision: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Close a decision's position: all that a trade may say, in turn."""
    tpsl = decision["tpsl"]
    entry, atr = tpsl["entry_reference"], tpsl["atr"]
    sign = 1 if decision["side"] == "LONG" else -1
    exit_price = max(entry + sign * atr * rng.uniform(-1.2, 2.5), entry * 0.01)
    trade = {
        "schema_version": 1,
        "trade_id": f"t-{decision['signal_id']}",
        "symbol": decision["symbol"],
        "side": decision["side"],
        "closed_at": decision["ts"],
        "account": decision["account"],
        "decision_id": decision["decision_id"],
        "entry_price": entry,
        "exit_price": exit_price,
        "fees": atr * 0.01,
        "close_reason": "take_profit",
        "strategy": decision["strategy"],
        "regime": decision["regime"],
        "atr": atr,
    }
    draw = rng.random()
    if draw < 0.1:
        trade["realized_r"] = rng.uniform(-1.5, 3.0)
    elif draw < 0.15:
        half = max((entry + exit_price) / 2, entry * 0.01)
        trade["exits"] = [
            {"price": exit_price, "fraction": 0.4},
            {"price": half, "fraction": 0.6},
        ]
    elif draw < 0.18:
        trade["close_reason"] = "manual"
    elif draw < 0.21:
        del trade["decision_id"]
    return trade
