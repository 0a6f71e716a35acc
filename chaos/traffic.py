"""Executor and router: signals at a steady pace, closed trades in answer to decisions."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from bench.broker import PARTITIONS, Partitioning
from chaos.clients import Out, Sender, log_reader
from chaos.feed import Feed, MarketClock
from chaos.messages import FRAGMENTS, POISON, close, fragments, usual_prices
from consumer.connection import TopicNames

_TICK_S = 0.05
_BATCH = 500
_RECENT = 400
_REPEAT, _POISON = 0.01, 0.003
"""Shares of signals that are sent twice, and of bad messages between them [1]."""
_RETRY_S = 0.5
_GOOD = b'{"schema_version":1,"signal_id":"s'


@dataclass(slots=True)
class Tally:
    """What was sent and seen so far."""

    signals: int = 0
    repeats: int = 0
    poison_signals: int = 0
    poison_trades: int = 0
    trades: int = 0
    """First closings, further ones, repeats and corrections."""
    answered: int = 0
    seen_again: int = 0
    """Decisions whose id the router had seen: each is one too many."""
    arrivals: dict[int, float] = field(default_factory=dict)
    """When the last decision of each partition was read [s, monotonic]."""


_SPEED = 300.0
"""Of the market's time where there are candles [1]: a candle takes a second."""


class Traffic:
    """Sends signals at a pace and answers decisions, while it runs as `async with`.

    Where the topics name one for candles, they are sent, too, and the market's time runs faster.

    Args:
        bootstrap_servers: Of the brokers.
        topics: Where to.
        rate: Signals a second.
        total: Signals to send; None: until it is left.
        share: Of decisions that are closed by a trade [1].
        seed: Of all draws.
        poison: Whether bad messages stand between the good ones.
        on_arrival: Told partition and moment of each answer read [s, monotonic].
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: TopicNames,
        *,
        rate: float,
        total: int | None,
        share: float,
        seed: int,
        poison: bool = True,
        backlog: int = 30_000,
        on_arrival: Callable[[int, float, int], None] = lambda *_: None,
    ) -> None:
        self.tally = Tally()
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._rate = rate
        self._total = total
        self._share = share
        self._rng = random.Random(seed)
        self._mark = f"{seed}-{random.SystemRandom().getrandbits(32):08x}"
        self._has_poison = poison
        self._backlog = backlog
        self._on_arrival = on_arrival
        self._partition_of = Partitioning()
        prices = usual_prices(self._rng)
        self._fragments = list(fragments(self._rng, self._partition_of, prices))
        self._clock = MarketClock(_SPEED if topics.candles else 1.0)
        self._feed: Feed | None = None
        if topics.candles:
            self._feed = Feed(
                bootstrap_servers,
                topics.candles,
                clock=self._clock,
                prices=prices,
                partition_of=self._partition_of,
                seed=seed,
            )
        self._signals = Sender(bootstrap_servers)
        self._trades = Sender(bootstrap_servers)
        self._recent: list[Out] = []
        self._answered: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_sent = asyncio.Event()
        """Set when all signals are acknowledged."""

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._send(), name="executor"),
            asyncio.create_task(self._answer(), name="router"),
        ]
        if self._feed is not None:
            self._tasks.append(asyncio.create_task(self._market(self._feed), name="feed"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._signals.stop()
        await self._trades.stop()
        if self._feed is not None:
            await self._feed.stop()

    def check(self) -> None:
        """Raise what ended executor or router; return when both are well."""
        for task in self._tasks:
            if task.done() and (not task.cancelled()) and (error := task.exception()):
                raise error

    @property
    def resent(self) -> int:
        """Batches whose acknowledgement was missed and that were sent again."""
        fed = self._feed.resent if self._feed is not None else 0
        return self._signals.resent + self._trades.resent + fed

    async def stop_sending(self) -> None:
        """Send no more signals; decisions are still answered."""
        self._total = self.tally.signals
        await self.is_sent.wait()

    @property
    def progress(self) -> float:
        """Share of the signals that were answered [1]."""
        return self.tally.answered / self._total if self._total else 0.0

    # Signals

    def _next_signals(self, count: int) -> list[Out]:
        rng, tally, found = self._rng, self.tally, []
        now_ms = str(self._clock.now_ms()).encode()
        for number in range(tally.signals, tally.signals + count):
            partition, key, rest = self._fragments[rng.randrange(FRAGMENTS)]
            head = f'{{"schema_version":1,"signal_id":"s{self._mark}-{number}","ts":'.encode()
            found.append(Out(partition, key, head + now_ms + b"," + rest))
            draw = rng.random()
            if draw < _REPEAT and self._recent:
                found.append(rng.choice(self._recent))
                tally.repeats += 1
            elif self._has_poison and draw > 1 - _POISON:
                found.append(Out(rng.randrange(PARTITIONS), *rng.choice(POISON)))
                tally.poison_signals += 1
        tally.signals += count
        self._recent = [*self._recent, *found][-_RECENT:]
        self._recent = [out for out in self._recent if out.value.startswith(_GOOD)]
        return found

    async def _send(self) -> None:
        due, last = 0.0, time.monotonic()
        while self._total is None or self.tally.signals < self._total:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            due, last = min(due + (now - last) * self._rate, 4.0 * self._rate), now
            if self.tally.signals - self.tally.answered > self._backlog:
                continue  # an executor that nobody answers waits, too
            room = _BATCH if self._total is None else self._total - self.tally.signals
            count = min(int(due), room, _BATCH)
            if count > 0:
                due -= count
                await self._signals.send(self._topics.signals, self._next_signals(count))
        self.is_sent.set()

    async def _market(self, feed: Feed) -> None:
        """Let candles come until the last signal is sent."""
        feeding = asyncio.create_task(feed.run())
        try:
            sent = asyncio.create_task(self.is_sent.wait())
            await asyncio.wait({feeding, sent}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
        finally:
            feeding.cancel()
            sent.cancel()
            await asyncio.wait({feeding, sent})

    # Answers

    async def _answer(self) -> None:
        logs = [TopicPartition(self._topics.decisions, n) for n in range(PARTITIONS)]
        async with log_reader(self._bootstrap_servers, logs) as consumer:
            while True:
                try:
                    found = await consumer.getmany(timeout_ms=200)
                except KafkaError:
                    await asyncio.sleep(_RETRY_S)
                    continue
                trades: list[Out] = []
                now = time.monotonic()
                for log, records in found.items():
                    self.tally.arrivals[log.partition] = now
                    self._on_arrival(log.partition, now, len(records))
                    for record in records:
                        trades += self._trades_of(orjson.loads(record.value), log.partition)
                if trades:
                    self.tally.trades += len(trades)
                    await self._trades.send(self._topics.trades, trades)

    def _trades_of(self, decision: dict[str, Any], partition: int) -> list[Out]:
        decision_id = decision["decision_id"]
        if decision_id in self._answered:
            self.tally.seen_again += 1
            return []
        self._answered.add(decision_id)
        self.tally.answered += 1
        rng = random.Random(decision_id) if self._share < 1 else self._rng
        if rng.random() >= self._share:
            return []
        trade = close(decision, rng)
        messages = [trade]
        draw = rng.random()
        if draw < 0.02:
            messages.append(trade)
        elif draw < 0.04:
            entry, atr = trade["entry_price"], decision["tpsl"]["atr"]
            exit_price = max(entry + atr * rng.uniform(-1.0, 1.0), entry * 0.01)
            corrected = {**trade, "revision": 1, "exit_price": exit_price}
            corrected.pop("realized_r", None)
            corrected.pop("exits", None)
            messages.append(corrected)
        elif draw < 0.06:
            messages.append({**trade, "trade_id": trade["trade_id"] + "-2"})
        key = decision["symbol"].encode()
        found = [Out(partition, key, orjson.dumps(message)) for message in messages]
        if self._has_poison and draw > 1 - _POISON:
            found.append(Out(partition, *rng.choice(POISON)))
            self.tally.poison_trades += 1
        return found
