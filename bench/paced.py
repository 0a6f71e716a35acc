"""Signals at a steady rate, with the closed trades of their decisions: latency."""

import asyncio
import gc
import heapq
import os
import random
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.broker import PARTITIONS, Broker
from bench.contender import ContenderError, Run
from bench.judge import judge
from bench.traffic import BenchSignal, make_signals, make_trade
from schemas import format_time_ms

_TICK_S = 0.001
_READ_WAIT_MS = 10  # see Broker.reader: what the reader itself may add
_START_LIMIT_S = 60.0
_ANSWER_LIMIT_S = 30.0
_TRADE_AFTER_S = (0.5, 1.0)


def now_text() -> str:
    """Give the present time as messages write it."""
    return format_time_ms(time.time_ns() // 1_000_000)


def one_signal_a_partition(broker: Broker, topic: str) -> list[BenchSignal]:
    """Give signals that reach every partition."""
    found: dict[int, BenchSignal] = {}
    for signal in make_signals(1_000, ts=now_text(), tag="start", symbols=1_000, seed=1):
        found.setdefault(broker.partition_of(topic, signal.key), signal)
    return [found[number] for number in range(PARTITIONS)]


class PacedTraffic:
    """Sends signals on time and trades some time after their decisions; keeps when each was read.

    Args:
        run: Who is measured.
        broker: The Kafka.
        signals: What to send.
        rate: Signals a second.
    """

    def __init__(self, run: Run, broker: Broker, signals: Sequence[BenchSignal], rate: int) -> None:
        self._run = run
        self._broker = broker
        self._signals = signals
        self._rate = rate
        self._rng = random.Random(5)
        self._trades: list[tuple[float, int, bytes, bytes]] = []
        self._numbers = count()
        self._answered = asyncio.Event()
        self._ready = asyncio.Event()
        self._starters: set[str] = set()
        self.started_after: list[float] = []
        self.sent_at: list[float] = []
        self.read_at: dict[str, float] = {}
        self.values: list[bytes] = []
        self.trades_sent = 0
        self.late_s: list[float] = []

    async def cold_start(self, producer: AIOKafkaProducer) -> None:
        """Let the contender start on waiting signals, one in each partition."""
        waiting = one_signal_a_partition(self._broker, self._run.topics.signals)
        self._starters = {signal.signal_id for signal in waiting}
        for signal in waiting:
            await self._send(producer, self._run.topics.signals, signal.key, signal.value)
        await producer.flush()
        self._began = self._run.start()
        await self._wait(self._ready, _START_LIMIT_S, "its first decisions")

    async def send_all(self, producer: AIOKafkaProducer) -> None:
        """Send the signals at the rate, and the trades that fall due."""
        topic = self._run.topics.signals
        began = time.perf_counter()
        while len(self.sent_at) < len(self._signals):
            now = time.perf_counter()
            due = min(int((now - began) * self._rate), len(self._signals))
            while (number := len(self.sent_at)) < due:
                signal = self._signals[number]
                self.sent_at.append(time.perf_counter())
                self.late_s.append(self.sent_at[-1] - began - (number + 1) / self._rate)
                await self._send(producer, topic, signal.key, signal.value)
            await self._send_trades(producer, now)
            await asyncio.sleep(_TICK_S)
        await self._wait(self._answered, _ANSWER_LIMIT_S, "all decisions")
        while self._trades:
            await self._send_trades(producer, time.perf_counter())
            await asyncio.sleep(_TICK_S)
        await producer.flush()

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Note when each decision is read, and plan its trade; until cancelled."""
        while True:
            found = await consumer.getmany(timeout_ms=200)
            now = time.perf_counter()
            for records in found.values():
                for record in records:
                    self._note(record.value, now)

    def _note(self, value: bytes, now: float) -> None:
        decision = orjson.loads(value)
        signal_id = decision["signal_id"]
        if signal_id in self._starters:
            self.started_after.append(now - self._began)
            if len(self.started_after) >= PARTITIONS:
                self._ready.set()
            return
        self.values.append(value)
        self.read_at.setdefault(signal_id, now)
        key, trade = make_trade(decision, self._rng, ts=now_text())
        due = now + self._rng.uniform(*_TRADE_AFTER_S)
        heapq.heappush(self._trades, (due, next(self._numbers), key, trade))
        if len(self.read_at) >= len(self._signals):
            self._answered.set()

    async def _send(self, producer: AIOKafkaProducer, topic: str, key: bytes, value: bytes) -> None:
        await producer.send(topic, value, key=key, partition=self._broker.partition_of(topic, key))

    async def _send_trades(self, producer: AIOKafkaProducer, now: float) -> None:
        while self._trades and self._trades[0][0] <= now:
            _, _, key, value = heapq.heappop(self._trades)
            self.trades_sent += 1
            await self._send(producer, self._run.topics.trades, key, value)

    async def _wait(self, event: asyncio.Event, limit_s: float, what: str) -> None:
        deadline = time.monotonic() + limit_s
        while not event.is_set():
            self._run.check()
            if time.monotonic() > deadline:
                raise ContenderError(f"{self._run.name}: no {what} within {limit_s:.0f} s")
            await asyncio.sleep(0.02)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest value that `share` of the values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


async def measure_paced(
    run: Run, broker: Broker, *, rate: int, seconds: float, warm_s: float
) -> dict[str, Any]:
    """Let a contender answer signals at a rate, and learn from the trades they lead to.

    Latency runs from the producer being handed a signal until a read_committed consumer has handed
    out its decision; the first `warm_s` seconds do not count.
    """
    signals = make_signals(round(rate * (warm_s + seconds)), ts=now_text(), tag="paced", seed=11)
    traffic = PacedTraffic(run, broker, signals, rate)
    load = os.getloadavg()[0]
    producer = AIOKafkaProducer(**broker.connection.options(), acks="all")
    await producer.start()
    try:
        async with broker.reader(run.topics.decisions, wait_ms=_READ_WAIT_MS) as consumer:
            reading = asyncio.create_task(traffic.read(consumer))
            try:
                await traffic.cold_start(producer)
                gc.collect()
                gc.disable()  # a pause of the harness would be taken for one of the contender
                cpu_before, broker_before = run.cpu_s(), run.broker_cpu_s()
                began = time.perf_counter()
                await traffic.send_all(producer)
                took_s = time.perf_counter() - began
                cpu_s = run.cpu_s() - cpu_before
                broker_cpu_s = run.broker_cpu_s() - broker_before
            finally:
                gc.enable()
                reading.cancel()
                await asyncio.wait({reading})
        rewards = await run.rewards(traffic.trades_sent)
        peak_rss_mib = run.peak_rss_mib()
    finally:
        await producer.stop()
    verdict = judge(signals, traffic.values)
    first = round(rate * warm_s)
    latencies_ms = sorted(
        1_000 * (traffic.read_at[signal.signal_id] - sent)
        for signal, sent in zip(signals[first:], traffic.sent_at[first:], strict=True)
    )
    return {
        "rate": rate,
        "signals": len(latencies_ms),
        "p50_ms": quantile(latencies_ms, 0.5),
        "p99_ms": quantile(latencies_ms, 0.99),
        "p999_ms": quantile(latencies_ms, 0.999),
        "max_ms": latencies_ms[-1],
        "cores": cpu_s / took_s,
        "broker_cores": broker_cpu_s / took_s,
        "first_decision_s": traffic.started_after[0],
        "all_partitions_s": traffic.started_after[PARTITIONS - 1],
        "harness_late_p99_ms": 1_000 * quantile(sorted(traffic.late_s[first:]), 0.99),
        "trades": traffic.trades_sent,
        "rewards": rewards,
        "peak_rss_mib": peak_rss_mib,
        "load": load,
        "verdict": verdict._asdict(),
        "is_clean": verdict.is_clean and rewards == traffic.trades_sent,
    }
