"""A check of decisions that shares no code with the worker.

What a decision must say is written down here a second time, from the contract: an error in the worker
cannot hide behind the same error in its check.
"""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from bench.traffic import SUITABLE, BenchSignal, expected_regime

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
