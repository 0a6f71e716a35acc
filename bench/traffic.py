"""Signals, closed trades, and a check of decisions that shares no code with the worker.

What a decision must say is written down here a second time, from the contract: an error in the worker
cannot hide behind the same error in its check.
"""

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
CANDIDATES = {regime: frozenset(names.split()) for regime, names in SUITABLE.items()}
"""Eligible strategies by regime (contract, section 3)."""

LADDERS = {
    "defensive": (1.0, 1.5, 2.5, 4.0),
    "moderate": (1.0, 2.0, 3.5, 5.5),
    "moderate_aggressive": (1.0, 2.5, 4.0, 6.0),
    "balanced_aggressive": (1.5, 4.0, 6.0, 10.0),
    "ultra_aggressive": (1.0, 3.0, 5.0, 8.0),
    "scalp": (0.8, 1.2, 1.8, 2.5),
    "trend_rider": (2.0, 5.0, 8.0, 12.0),
}
"""Stop and targets of each strategy [ATR] (contract, section 3)."""

FIELDS = frozenset(
    [
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
        "tpsl",
    ]
)
_ATR_PCTS = (0.004, 0.012, 0.03, 0.045, 0.07)  # each regime of volatility is there


class BenchSignal(NamedTuple):
    """One signal, ready to be sent."""

    signal_id: str
    key: bytes
    value: bytes


def symbol(number: int) -> str:
    """Name a symbol."""
    return f"S{number:05d}USDT"


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


def make_trade(decision: dict[str, Any], rng: random.Random, *, ts: str) -> tuple[bytes, bytes]:
    """Make the closed trade of a decision: key and value.

    Prices are given and nothing is echoed but the id: who learns from it has to know the decision.
    """
    tpsl = decision["tpsl"]
    entry, atr = tpsl["entry_reference"], tpsl["atr"]
    sign = 1 if decision["side"] == "LONG" else -1
    content = {
        "schema_version": 1,
        "trade_id": f"t-{decision['decision_id']}",
        "symbol": decision["symbol"],
        "side": decision["side"],
        "closed_at": ts,
        "account": decision["account"],
        "decision_id": decision["decision_id"],
        "entry_price": entry,
        "exit_price": max(entry + sign * atr * rng.uniform(-1.0, 3.0), entry * 0.01),
        "fees": atr * 0.01,
        "close_reason": "take_profit",
    }
    return decision["symbol"].encode(), orjson.dumps(content)


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


def fault_of(decision: bytes, signal: bytes) -> str | None:
    """Say what is wrong with a decision; None when it is what the contract wants for the signal."""
    try:
        return _fault_of(orjson.loads(decision), orjson.loads(signal))
    except (KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _fault_of(made: dict[str, Any], signal: dict[str, Any]) -> str | None:
    if missing := FIELDS - made.keys():
        return f"{', '.join(sorted(missing))} missing"
    for name in ("signal_id", "symbol", "side", "timeframe"):
        if made[name] != signal[name]:
            return f"{name} is {made[name]}, the signal's is {signal[name]}"
    wanted_id = uuid.uuid5(uuid.NAMESPACE_URL, f"meta-strategy:default:{signal['signal_id']}")
    if made["decision_id"] != str(wanted_id):
        return f"decision_id is {made['decision_id']}, must be {wanted_id}"
    regime = expected_regime(signal["market"])
    if made["regime"] != regime:
        return f"regime is {made['regime']}, must be {regime}"
    if made["mode"] not in {"explore", "exploit", "heuristic"}:
        return f"mode is {made['mode']}"
    return _propensity_fault(made, regime) or _level_fault(made, signal)


def _propensity_fault(made: dict[str, Any], regime: str) -> str | None:
    propensities = made["propensities"]
    if propensities.keys() != CANDIDATES[regime]:
        return f"candidates are {', '.join(propensities)}"
    if abs(sum(propensities.values()) - 1.0) > 1e-9:
        return "propensities do not sum to 1"
    if abs(propensities[made["strategy"]] - made["propensity"]) > 1e-12:
        return "propensity is not the strategy's"
    return None


def _level_fault(made: dict[str, Any], signal: dict[str, Any]) -> str | None:
    tpsl, market = made["tpsl"], signal["market"]
    entry, atr = market["current_price"], market["atr"]
    step = atr if signal["side"] == "LONG" else -atr
    stop, *targets = LADDERS[made["strategy"]]
    wanted = {
        "atr": atr,
        "entry_reference": entry,
        "atr_mult_sl": stop,
        "stop_loss": entry - step * stop,
    }
    for number, target in enumerate(targets, 1):
        wanted[f"atr_mult_tp{number}"] = target
        wanted[f"take_profit_{number}"] = entry + step * target
    for name, value in wanted.items():
        if abs(tpsl[name] - value) > 1e-9 * max(entry, abs(value)):
            return f"tpsl.{name} is {tpsl[name]}, must be {value}"
    if abs(sum(tpsl[f"partial_close_tp{n}"] for n in (1, 2, 3)) - 1.0) > 1e-9:
        return "partial closes do not sum to 1"
    return None


class Verdict(NamedTuple):
    """What became of a run's signals."""

    missing: int
    doubled: int
    foreign: int
    faulty: int
    first_fault: str

    @property
    def is_clean(self) -> bool:
        """Whether each signal has exactly one decision, and none has a fault."""
        return not (self.missing or self.doubled or self.foreign or self.faulty)


def judge(signals: Sequence[BenchSignal], decisions: Sequence[bytes]) -> Verdict:
    """Check that each signal got exactly one decision, and the right one."""
    left = {signal.signal_id: signal.value for signal in signals}
    known = set(left)
    doubled = foreign = faulty = 0
    first_fault = ""
    for decision in decisions:
        signal_id = orjson.loads(decision).get("signal_id")
        signal = left.pop(signal_id, None)
        if signal is None:
            doubled += signal_id in known
            foreign += signal_id not in known
        elif fault := fault_of(decision, signal):
            faulty += 1
            first_fault = first_fault or f"{signal_id}: {fault}"
    return Verdict(len(left), doubled, foreign, faulty, first_fault)
