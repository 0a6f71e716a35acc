"""What is decided and learned, as an ordinary user writes it: plain functions, a signal at a time.

The visible work of the contract, for every peer alike: all fields of a decision, and the reward of a
closed trade. Keys, batches and Redis are in `ordinary_job.py`.
"""

import random
import time
from typing import NamedTuple, Protocol

import orjson

from bench.environment import EPSILON
from schemas import MarketContext, Side, Signal, TradeClosed, format_time_ms

# id: name, stop and targets [ATR]
PROFILES = {
    "defensive": ("Defensive", 1.0, 1.5, 2.5, 4.0),
    "moderate": ("Moderate", 1.0, 2.0, 3.5, 5.5),
    "moderate_aggressive": ("Moderate Aggressive", 1.0, 2.5, 4.0, 6.0),
    "balanced_aggressive": ("Balanced Aggressive", 1.5, 4.0, 6.0, 10.0),
    "ultra_aggressive": ("Ultra Aggressive", 1.0, 3.0, 5.0, 8.0),
    "scalp": ("Scalp", 0.8, 1.2, 1.8, 2.5),
    "trend_rider": ("Trend Rider", 2.0, 5.0, 8.0, 12.0),
}
TRENDING = (
    "moderate",
    "moderate_aggressive",
    "balanced_aggressive",
    "ultra_aggressive",
    "trend_rider",
)
CANDIDATES = {
    "trend_up": TRENDING,
    "trend_down": TRENDING,
    "range_low_vol": ("defensive", "moderate", "ultra_aggressive", "scalp"),
    "range_high_vol": ("defensive", "moderate", "ultra_aggressive"),
    "high_volatility": ("defensive", *TRENDING),
    "illiquid": ("defensive", "scalp"),
    "unknown": tuple(PROFILES),
}
Row = dict[str, tuple[int, float]]
"""Count and Q-value [R] of each arm."""

Regime = tuple[str, float, str]
"""Name, confidence, reason."""


class Record(Protocol):
    """A Kafka record, of whichever client."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...


class Made(NamedTuple):
    """A decision, and what is kept until its trade closes."""

    value: bytes
    headers: list[tuple[str, bytes]]
    kept: str


def detect(market: MarketContext) -> Regime:
    """Give regime, confidence and reason."""
    volume, depth, spread = market.volume_24h, market.depth_5bps, market.spread_bps
    if (
        (volume is not None and volume < 2e6)
        or (depth is not None and depth < 5e4)
        or (spread is not None and spread > 10)
    ):
        worst = max(
            2e6 / volume if volume else 0.0,
            5e4 / depth if depth else 0.0,
            spread / 10 if spread else 0.0,
        )
        reason = f"Illiquid: volume={volume}, depth={depth}, spread={spread}bps"
        return "illiquid", min(worst / 2, 1.0), reason
    atr_pct = market.atr_pct if market.atr_pct is not None else market.atr / market.current_price
    if atr_pct > 0.06:
        return "high_volatility", min(atr_pct / 0.12, 1.0), f"Extreme volatility: ATR={atr_pct:.2%}"
    adx, strength = market.adx, market.trend_strength
    if adx is None or strength is None:
        return "unknown", 0.0, "Unknown: adx or trend_strength missing"
    evidence = f"ADX={adx:.1f}, trend_strength={strength:.2f}, ATR={atr_pct:.2%}"
    if adx > 25 and abs(strength) > 0.3:
        confidence = 0.5 * min(adx / 50, 1.0) + 0.5 * min(abs(strength) / 0.6, 1.0)
        if strength > 0:
            return "trend_up", confidence, f"Trending UP: {evidence}"
        return "trend_down", confidence, f"Trending DOWN: {evidence}"
    if adx <= 25 and abs(strength) <= 0.3:
        confidence = 1 - 0.25 * adx / 25 - 0.25 * abs(strength) / 0.3
        if atr_pct > 0.04:
            return "range_high_vol", confidence, f"Ranging, high volatility: {evidence}"
        if atr_pct >= 0.015:
            confidence -= 0.2
        return "range_low_vol", confidence, f"Ranging, low volatility: {evidence}"
    return "unknown", 0.0, f"Mixed evidence: {evidence}"


def cold_start(regime: str, confidence: float) -> str:
    """Give the strategy of a context with too few rewards."""
    if regime.startswith("trend"):
        return "trend_rider" if confidence >= 0.9 else "ultra_aggressive"
    return {
        "range_low_vol": "scalp",
        "range_high_vol": "moderate",
        "high_volatility": "defensive",
        "illiquid": "defensive",
    }.get(regime, "ultra_aggressive")


def choose(row: Row, regime: str, confidence: float) -> tuple[str, str, str, str]:
    """Give strategy, mode, reason and the greedy strategy."""
    candidates = CANDIDATES[regime]
    best = max(candidates, key=lambda arm: row[arm][1])
    count, q_value = row[best]
    if sum(n for n, _ in row.values()) < 5 or 1 - 2 ** (-count / 4) < 0.5:
        greedy, mode, reason = cold_start(regime, confidence), "heuristic", f"Cold start: {regime}"
    else:
        greedy, mode, reason = best, "exploit", f"Exploitation: highest Q-value={q_value:.3f}"
    if random.random() < EPSILON:
        arm = candidates[random.randrange(len(candidates))]
        return arm, "explore", f"Exploration: epsilon={EPSILON:.2f}", greedy
    return greedy, mode, reason, greedy


def decide(
    record: Record,
    request: Signal,
    decision_id: str,
    detected: Regime,
    row: Row,
    table_offset: int,
) -> Made:
    """Decide a signal."""
    market = request.market
    regime, confidence, why = detected
    arm, mode, reason, greedy = choose(row, regime, confidence)
    name, stop, *targets = PROFILES[arm]
    candidates = CANDIDATES[regime]
    propensities = dict.fromkeys(candidates, EPSILON / len(candidates))
    propensities[greedy] += 1 - EPSILON
    entry = market.current_price
    step = market.atr if request.side is Side.LONG else -market.atr
    value = orjson.dumps(
        {
            "schema_version": 1,
            "decision_id": decision_id,
            "signal_id": request.signal_id,
            "account": request.account or "default",
            "symbol": request.symbol,
            "side": request.side,
            "timeframe": request.timeframe,
            "signal_ts": format_time_ms(request.ts),
            "ts": format_time_ms(int(time.time() * 1000)),
            "regime": regime,
            "regime_confidence": confidence,
            "regime_reasoning": why,
            "strategy": arm,
            "strategy_name": name,
            "is_exploration": mode == "explore",
            "confidence": 1 - 2 ** (-row[arm][0] / 4),
            "reasoning": reason,
            "mode": mode,
            "policy": "epsilon_greedy",
            "policy_version": "plain",
            "propensity": propensities[arm],
            "propensities": propensities,
            "source": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
            },
            "table_offset": table_offset,
            "candles_offset": None,
            "pool_offset": None,
            "features": None,
            "degraded": False,
            "experiment": None,
            "variant": None,
            "tpsl": {
                "atr_mult_sl": stop,
                "atr_mult_tp1": targets[0],
                "atr_mult_tp2": targets[1],
                "atr_mult_tp3": targets[2],
                "partial_close_tp1": 0.4,
                "partial_close_tp2": 0.3,
                "partial_close_tp3": 0.3,
                "stop_loss": entry - step * stop,
                "take_profit_1": entry + step * targets[0],
                "take_profit_2": entry + step * targets[1],
                "take_profit_3": entry + step * targets[2],
                "atr": market.atr,
                "entry_reference": entry,
            },
            "metadata": request.metadata,
        }
    )
    headers = [
        ("decision_id", decision_id.encode()),
        ("strategy", arm.encode()),
        ("regime", regime.encode()),
        ("schema_version", b"1"),
    ]
    return Made(value, headers, f"{record.offset}|{arm}|{regime}|{market.atr!r}")


def reward_of(trade: TradeClosed, atr: float) -> float:
    """Give the net profit of a trade [R]."""
    if trade.realized_r is not None:
        return trade.realized_r
    gain = (trade.exit_price or 0.0) - trade.entry_price
    if trade.side is Side.SHORT:
        gain = -gain
    return gain / atr - (trade.fees or 0.0) / atr
