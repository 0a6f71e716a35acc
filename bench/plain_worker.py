"""The same job as an ordinary user writes it: the worker's yardstick.

Plain aiokafka, exactly once: one producer, one transaction for each `getmany` batch, one Redis
pipeline to read and one to write, a script call for each closed trade. It does the visible work of the
contract (all fields of a decision, repeats by signal id, open decisions kept, rewards folded once) with
the same message models, so that a ratio compares designs and not amounts of work. It leaves out what
nobody sees in a good hour: dead letters, zombie fencing, healing a Redis that lost data, metrics, HTTP.
"""

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord
from redis.asyncio import Redis

from schemas import MarketContext, Side, Signal, TradeClosed, format_time_ms

BOOTSTRAP_SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
GROUP_ID = os.environ.get("KAFKA_GROUP_ID", "meta-strategy")
SIGNALS = os.environ.get("KAFKA_SIGNALS_TOPIC", "signals")
TRADES = os.environ.get("KAFKA_TRADE_CLOSED_TOPIC", "trade-closed")
DECISIONS = os.environ.get("KAFKA_DECISIONS_TOPIC", "strategy-decisions")
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
PREFIX = os.environ.get("META_STRATEGY_KEY_PREFIX", "ms")
EPSILON = float(os.environ.get("META_STRATEGY_EPSILON", "0.10"))
ALPHA = float(os.environ.get("META_STRATEGY_ALPHA", "0.20"))

BATCH = 1_000
TTL_S = 30 * 86_400

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
ROW_FIELDS = [f"{arm}:{name}" for arm in PROFILES for name in ("count", "ema_reward")]

# KEYS: the context's row, the mark of the trade. ARGV: strategy, reward, alpha, lifetime of the mark
FOLD = """
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[4]) then return 0 end
local row, arm, reward, alpha = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('HMGET', row, arm..':count', arm..':ema_reward', arm..':total_r',
  arm..':win_count', arm..':loss_count')
local count, ema = tonumber(old[1] or 0) + 1, reward
if count > 1 then ema = (1 - alpha) * tonumber(old[2]) + alpha * reward end
local total, wins, losses = tonumber(old[3] or 0) + reward, tonumber(old[4] or 0), tonumber(old[5] or 0)
if reward > 0 then wins = wins + 1 elseif reward < 0 then losses = losses + 1 end
redis.call('HSET', row, arm..':count', count, arm..':ema_reward', string.format('%.17g', ema),
  arm..':total_r', string.format('%.17g', total),
  arm..':avg_reward', string.format('%.17g', total / count),
  arm..':win_count', wins, arm..':loss_count', losses)
return 1
"""

Row = dict[str, tuple[int, float]]


def detect(market: MarketContext) -> tuple[str, float, str]:
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


@dataclass(slots=True)
class Job:
    """A signal on its way through a batch."""

    record: ConsumerRecord
    signal: Signal
    decision_id: str
    regime: tuple[str, float, str]
    decision_key: str
    row_key: str


def row_key(partition: int, account: str, symbol: str, regime: str) -> str:
    """Name the row of a context."""
    return f"{PREFIX}:{{{partition}}}:q:{account}:{symbol}:{regime}"


def decision_key(partition: int, decision_id: str) -> str:
    """Name the record of a decision."""
    return f"{PREFIX}:{{{partition}}}:decision:{decision_id}"


def make_job(record: ConsumerRecord) -> Job:
    """Read a signal and find out what is needed to decide it."""
    request = Signal.model_validate(orjson.loads(record.value))
    account = request.account or "default"
    name = f"meta-strategy:{account}:{request.signal_id}"
    decision_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    regime = detect(request.market)
    return Job(
        record,
        request,
        decision_id,
        regime,
        decision_key(record.partition, decision_id),
        row_key(record.partition, account, request.symbol, regime[0]),
    )


def decide(job: Job, row: Row, table_offset: int) -> tuple[bytes, list[tuple[str, bytes]], str]:
    """Give value and headers of the decision, and what is kept until its trade closes."""
    request, record, market = job.signal, job.record, job.signal.market
    regime, confidence, why = job.regime
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
            "decision_id": job.decision_id,
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
        ("decision_id", job.decision_id.encode()),
        ("strategy", arm.encode()),
        ("regime", regime.encode()),
        ("schema_version", b"1"),
    ]
    return value, headers, f"{record.offset}|{arm}|{regime}|{market.atr!r}"


def parse_row(values: Sequence[bytes | None]) -> Row:
    """Read count and Q-value of each arm."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return {
        arm: (int(count or 0), float(q_value or 0))
        for arm, (count, q_value) in zip(PROFILES, pairs, strict=True)
    }


def reward_of(trade: TradeClosed, atr: float) -> float:
    """Give the net profit of a trade [R]."""
    if trade.realized_r is not None:
        return trade.realized_r
    gain = (trade.exit_price or 0.0) - trade.entry_price
    if trade.side is Side.SHORT:
        gain = -gain
    return (gain - (trade.fees or 0.0)) / atr


class PlainWorker:
    """Decides and learns, batch by batch."""

    def __init__(self, redis: Redis, fold: str) -> None:
        self._redis = redis
        self._fold = fold
        self._table_offsets: dict[int, int] = {}

    async def work_off(
        self, signals: Sequence[ConsumerRecord], trades: Sequence[ConsumerRecord]
    ) -> list[tuple[ConsumerRecord, bytes, list[tuple[str, bytes]]]]:
        """Give source, value and headers of each new decision."""
        jobs = [make_job(record) for record in signals]
        closed = [TradeClosed.model_validate(orjson.loads(record.value)) for record in trades]
        row_keys = list(dict.fromkeys(job.row_key for job in jobs))
        reading = self._redis.pipeline(transaction=False)
        if jobs:
            reading.mget([job.decision_key for job in jobs])
        for key in row_keys:
            reading.hmget(key, ROW_FIELDS)
        if closed:
            reading.mget(
                [
                    decision_key(record.partition, trade.decision_id or "")
                    for record, trade in zip(trades, closed, strict=True)
                ]
            )
        answers = iter(await reading.execute())
        known = next(answers) if jobs else []
        rows = {key: parse_row(next(answers)) for key in row_keys}
        remembered = next(answers) if closed else []

        writing = self._redis.pipeline(transaction=False)
        made = self._decide(jobs, known, rows, writing)
        self._learn(trades, closed, remembered, writing)
        if len(writing):
            await writing.execute()
        return made

    def _decide(
        self, jobs: Sequence[Job], known: Sequence[bytes | None], rows: dict[str, Row], writing: Any
    ) -> list[tuple[ConsumerRecord, bytes, list[tuple[str, bytes]]]]:
        made = []
        seen: set[str] = set()
        for job, old in zip(jobs, known, strict=True):
            is_repeat = old is not None and int(old.split(b"|", 1)[0]) != job.record.offset
            if is_repeat or job.decision_id in seen:
                continue
            seen.add(job.decision_id)
            table_offset = self._table_offsets.get(job.record.partition, 0)
            value, headers, kept = decide(job, rows[job.row_key], table_offset)
            writing.set(job.decision_key, kept, ex=TTL_S)
            made.append((job.record, value, headers))
        return made

    def _learn(
        self,
        trades: Sequence[ConsumerRecord],
        closed: Sequence[TradeClosed],
        remembered: Sequence[bytes | None],
        writing: Any,
    ) -> None:
        for record, trade, kept in zip(trades, closed, remembered, strict=True):
            partition = record.partition
            self._table_offsets[partition] = record.offset + 1
            if kept is None:
                continue
            _, arm, regime, atr = kept.decode().split("|")
            writing.evalsha(
                self._fold,
                2,
                row_key(partition, trade.account or "default", trade.symbol, regime),
                f"{PREFIX}:{{{partition}}}:seen:{trade.trade_id}",
                arm,
                reward_of(trade, trade.atr or float(atr)),
                ALPHA,
                TTL_S,
            )
        for partition in {record.partition for record in trades}:
            writing.hset(
                f"{PREFIX}:{{{partition}}}:watermark", "trades", self._table_offsets[partition]
            )


async def main() -> None:
    """Work until SIGTERM."""
    redis = Redis.from_url(REDIS_URL)
    worker = PlainWorker(redis, await redis.script_load(FOLD))
    consumer = AIOKafkaConsumer(
        SIGNALS,
        TRADES,
        bootstrap_servers=BOOTSTRAP_SERVERS,
        group_id=GROUP_ID,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP_SERVERS,
        transactional_id=f"{GROUP_ID}-plain",
        linger_ms=0,
        max_batch_size=1 << 18,
        transaction_timeout_ms=10_000,
    )
    await consumer.start()
    await producer.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        found = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        if not found:
            continue
        signals = [r for tp, records in found.items() if tp.topic == SIGNALS for r in records]
        trades = [r for tp, records in found.items() if tp.topic == TRADES for r in records]
        async with producer.transaction():
            for source, value, headers in await worker.work_off(signals, trades):
                await producer.send(
                    DECISIONS,
                    value,
                    key=source.key,
                    partition=source.partition,
                    headers=headers,
                )
            await producer.send_offsets_to_transaction(
                {tp: records[-1].offset + 1 for tp, records in found.items()}, GROUP_ID
            )
    await consumer.stop()
    await producer.stop()
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
