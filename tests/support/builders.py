"""Builders of input messages: valid by default, everything that matters to a test is named there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

OMIT: Final = object()
"""As the value of an override: leave the field out."""

START_MS: Final = 1_767_225_600_000
"""Time of the first message: 2026-01-01T00:00:00Z [ms]."""

_MARKET: Final[dict[str, Any]] = {
    "current_price": 50_000.0,
    "atr": 250.0,
    "atr_pct": 0.005,
    "adx": 35.0,
    "trend_strength": 0.6,
    "volume_24h": 50_000_000.0,
    "depth_5bps": 500_000.0,
    "spread_bps": 1.0,
    "market_cap_rank": OMIT,
    "correlation_to_btc": OMIT,
    "recent_news_sentiment": OMIT,
}
_SIGNAL: Final[dict[str, Any]] = {
    "schema_version": 1,
    "signal_id": OMIT,
    "ts": OMIT,
    "symbol": "BTCUSDT",
    "account": OMIT,
    "side": "LONG",
    "timeframe": "15m",
    "confidence": OMIT,
    "market": OMIT,
    "higher_timeframes": OMIT,
    "metadata": OMIT,
}
_TRADE: Final[dict[str, Any]] = {
    "schema_version": 1,
    "trade_id": OMIT,
    "symbol": "BTCUSDT",
    "side": "LONG",
    "closed_at": OMIT,
    "account": OMIT,
    "decision_id": OMIT,
    "strategy": OMIT,
    "regime": OMIT,
    "variant": OMIT,
    "close_reason": OMIT,
    "revision": OMIT,
    "entry_price": 50_000.0,
    "exit_price": 50_875.0,
    "exits": OMIT,
    "atr": 250.0,
    "fees": OMIT,
    "realized_r": OMIT,
    "mfe_r": OMIT,
    "mae_r": OMIT,
    "path": OMIT,
    "pnl": OMIT,
    "duration_hours": OMIT,
    "metadata": OMIT,
}

_signal_numbers = count(1)
_trade_numbers = count(1)


def make_signal(**overrides: Any) -> dict[str, Any]:
    """Build a signal of a calm uptrend (ADX 35, trend strength 0.6, ATR 0.5 %).

    Each one has a new `signal_id` and a `ts` one second later than the one before it.

    Args:
        **overrides: Fields of the signal, or of its market (`adx=35`); `OMIT` leaves one out, and
            `market` replaces the whole market. Other names are an error: to test an unknown
            field, add it to the result.

    Returns:
        The signal, ready for JSON; nothing in it is shared with another one.
    """
    number = next(_signal_numbers)
    market = _merged(_MARKET, {k: v for k, v in overrides.items() if k in _MARKET})
    numbered = {
        "signal_id": f"signal-{number:06d}",
        "ts": START_MS + 1000 * number,
        "market": market,
    }
    return _merged(_SIGNAL, numbered | {k: v for k, v in overrides.items() if k not in _MARKET})


def make_trade(**overrides: Any) -> dict[str, Any]:
    """Build a closed trade that earned 3.5 R, and names no decision.

    Each one has a new `trade_id` and a `closed_at` one second later than the one before it, from
    one hour after `START_MS`.

    Args:
        **overrides: Fields of the trade; `OMIT` leaves one out. Other names are an error: to test
            an unknown field, add it to the result.

    Returns:
        The trade, ready for JSON; nothing in it is shared with another one.
    """
    number = next(_trade_numbers)
    numbered = {
        "trade_id": f"trade-{number:06d}",
        "closed_at": START_MS + 3_600_000 + 1000 * number,
    }
    return _merged(_TRADE, numbered | overrides)


def signal_bytes(signal: Mapping[str, Any] | None = None, /, **overrides: Any) -> bytes:
    """Encode a signal, or the one that `make_signal` builds from the overrides."""
    return _encoded(make_signal(**overrides) if signal is None else {**signal, **overrides})


def trade_bytes(trade: Mapping[str, Any] | None = None, /, **overrides: Any) -> bytes:
    """Encode a trade, or the one that `make_trade` builds from the overrides."""
    return _encoded(make_trade(**overrides) if trade is None else {**trade, **overrides})


@dataclass(slots=True)
class FakeRecord:
    """A record as the Kafka client gives it; header values may be None there."""

    value: bytes | None
    key: bytes | None = b"BTCUSDT"
    topic: str = "signals"
    partition: int = 3
    offset: int = 42
    timestamp: int = START_MS
    headers: Sequence[tuple[str, Any]] = field(default_factory=list)
    received_s: float = 0.0


def _merged(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    unknown = overrides.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"no such field: {', '.join(sorted(unknown))}")
    return {k: v for k, v in {**defaults, **overrides}.items() if v is not OMIT}


def _encoded(message: Mapping[str, Any]) -> bytes:
    kept = {k: v for k, v in message.items() if v is not OMIT}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()
