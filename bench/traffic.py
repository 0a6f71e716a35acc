"""Signals and closed trades, by code that shares nothing with the worker."""

import random
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

SUITABLE = {
    "trend_up": "moderate moderate_aggressive balanced_aggressive ultra_aggressive trend_rider",
    "range_low_vol": "defensive moderate ultra_aggressive scalp",
    "range_high_vol": "defensive moderate ultra_aggressive",
    "high_volatility": "defensive moderate moderate_aggressive balanced_aggressive ultra_aggressive "
    "trend_rider",
    "illiquid": "defensive scalp",
    "unknown": "defensive moderate moderate_aggressive balanced_aggressive ultra_aggressive scalp "
    "trend_rider",
}
SUITABLE["trend_down"] = SUITABLE["trend_up"]
"""Eligible strategies by regime (contract, section 3)."""

_ATR_PCTS = (0.004, 0.012, 0.03, 0.045, 0.07)  # each regime of volatility is there


class BenchSignal(NamedTuple):
    """One signal, ready to be sent."""

    signal_id: str
    key: bytes
    value: bytes


def symbol(number: int) -> str:
    """Name a symbol."""
    return f"S{number:05d}USDT"


class Backlog(NamedTuple):
    """What waits for a contender."""

    signals: Sequence[BenchSignal]
    trades: Sequence[tuple[bytes, bytes]]
    """Keys and values of closed trades; as many as signals, or none."""

    def first(self, share: float) -> "Backlog":
        """Give a part of it, from the beginning."""
        count = round(len(self.signals) * share)
        return Backlog(self.signals[:count], self.trades[:count])


def make_backlog(count: int, *, ts: str, symbols: int = 200, with_trades: bool = True) -> Backlog:
    """Make signals and, if wanted, a closed trade for each.

    Args:
        count: How many signals.
        ts: When all of it claims to be produced.
        symbols: Over how many symbols they are spread.
        with_trades: Whether there is something to learn.
    """
    signals = make_signals(count, ts=ts, symbols=symbols)
    rng = random.Random(9)
    trades = [make_echoing_trade(signal, rng, ts=ts) for signal in signals if with_trades]
    return Backlog(signals, trades)


def make_signals(
    count: int, *, ts: str, tag: str = "run", symbols: int = 200, seed: int = 7
) -> list[BenchSignal]:
    """Make signals over all regimes; the same arguments give the same ones.

    Args:
        count: How many.
        ts: When they claim to be produced.
        tag: Part of each id, for ids that no other run has.
        symbols: Over how many symbols they are spread.
        seed: Of all draws.
    """
    rng = random.Random(seed)
    return [
        _make_signal(f"{number:07d}-{tag}", symbol(rng.randrange(symbols)), ts, rng)
        for number in range(count)
    ]


def _make_signal(signal_id: str, name: str, ts: str, rng: random.Random) -> BenchSignal:
    price = rng.uniform(0.5, 60_000.0)
    # at the most 0.077: the farthest level, 12 ATR below a SHORT's entry, stays above zero
    atr_pct = rng.choice(_ATR_PCTS) * rng.uniform(0.9, 1.1)
    content = {
        "schema_version": 1,
        "signal_id": signal_id,
        "ts": ts,
        "symbol": name,
        "side": rng.choice(("LONG", "SHORT")),
        "timeframe": rng.choice(("5m", "15m", "1h")),
        "confidence": rng.random(),
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
    return BenchSignal(signal_id, name.encode(), orjson.dumps(content))


def make_echoing_trade(signal: BenchSignal, rng: random.Random, *, ts: str) -> tuple[bytes, bytes]:
    """Make a closed trade of a signal whose decision was not read: key and value.

    It echoes a strategy and the regime, as the contract recommends, so that it can be learned from
    before the decision is known as well as after.
    """
    content = orjson.loads(signal.value)
    market, regime = content["market"], expected_regime(content["market"])
    identity = f"meta-strategy:default:{signal.signal_id}"
    trade = _closed_trade(
        str(uuid.uuid5(uuid.NAMESPACE_URL, identity)),
        content["symbol"],
        content["side"],
        market["current_price"],
        market["atr"],
        rng,
        ts,
    )
    echo = {
        "strategy": rng.choice(SUITABLE[regime].split()),
        "regime": regime,
        "atr": market["atr"],
    }
    return signal.key, orjson.dumps(trade | echo)


def make_trade(decision: dict[str, Any], rng: random.Random, *, ts: str) -> tuple[bytes, bytes]:
    """Make the closed trade of a decision: key and value.

    Prices are given and nothing is echoed but the id: who learns from it has to know the decision.
    """
    tpsl = decision["tpsl"]
    trade = _closed_trade(
        decision["decision_id"],
        decision["symbol"],
        decision["side"],
        tpsl["entry_reference"],
        tpsl["atr"],
        rng,
        ts,
    )
    return decision["symbol"].encode(), orjson.dumps(trade)


def _closed_trade(
    decision_id: str, name: str, side: str, entry: float, atr: float, rng: random.Random, ts: str
) -> dict[str, Any]:
    sign = 1 if side == "LONG" else -1
    return {
        "schema_version": 1,
        "trade_id": f"t-{decision_id}",
        "symbol": name,
        "side": side,
        "closed_at": ts,
        "account": "default",
        "decision_id": decision_id,
        "entry_price": entry,
        "exit_price": max(entry + sign * atr * rng.uniform(-1.0, 3.0), entry * 0.01),
        "fees": atr * 0.01,
        "close_reason": "take_profit",
    }


def expected_regime(market: dict[str, float]) -> str:
    """Tell the regime of a market that has all its fields (contract, section 2)."""
    if market["volume_24h"] < 2e6 or market["depth_5bps"] < 5e4 or market["spread_bps"] > 10:
        return "illiquid"
    if market["atr_pct"] > 0.06:
        return "high_volatility"
    adx, strength = market["adx"], market["trend_strength"]
    if adx > 25 and abs(strength) > 0.3:
        return "trend_up" if strength > 0 else "trend_down"
    if adx <= 25 and abs(strength) <= 0.3:
        return "range_high_vol" if market["atr_pct"] > 0.04 else "range_low_vol"
    return "unknown"
