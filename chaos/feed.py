"""The market: a clock that may run faster than ours, and a feed of candles that keeps to it."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from math import exp
from typing import Any

import orjson

from bench.broker import PARTITIONS
from chaos.clients import Out, Sender
from chaos.messages import POISON

TIMEFRAME = "5m"
_SPAN_MS = 300_000
_LOOK_S = 0.1
_RETURNS, _SPREAD, _WICK = 0.95, 0.016, 0.006
"""Share of its distance from the usual price that the next candle begins with; deviation of what it moves
by, and of what it reaches beyond [1]: ladders of narrow ranges end within seconds, others stay open."""
_REPEAT, _POISON = 0.01, 0.003
"""Shares of candles that are sent twice, and of bad messages between them [1]."""


class MarketClock:
    """What time it is on the market.

    Args:
        speed: Of its time by ours [1]: by 300, a candle of five minutes takes a second.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._since_ms = time.time() * 1000
        self._since_s = time.monotonic()

    def now_ms(self) -> int:
        """Give the time [ms since 1970]."""
        return round(self._since_ms + 1000 * self._speed * (time.monotonic() - self._since_s))


class Feed:
    """Sends a candle of each symbol whenever one has closed, while it runs.

    Args:
        bootstrap_servers: Of the brokers.
        topic: Where to.
        clock: Of the market.
        prices: About which each symbol moves.
        partition_of: Of a key.
        seed: Of all draws.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        clock: MarketClock,
        prices: Mapping[str, float],
        partition_of: Callable[[bytes], int],
        seed: int,
    ) -> None:
        self._sender = Sender(bootstrap_servers)
        self._topic = topic
        self._clock = clock
        self._prices = prices
        self._partition_of = partition_of
        self._rng = random.Random(seed)
        self._distance = dict.fromkeys(prices, 0.0)

    @property
    def resent(self) -> int:
        """Batches whose acknowledgement was missed and that were sent again."""
        return self._sender.resent

    async def run(self) -> None:
        """Send candles until cancelled."""
        span = self._clock.now_ms() // _SPAN_MS
        while True:
            await asyncio.sleep(_LOOK_S)
            records: list[Out] = []
            while span < self._clock.now_ms() // _SPAN_MS:
                for symbol in self._prices:
                    records += self._candle(symbol, span * _SPAN_MS)
                span += 1
            if records:
                await self._sender.send(self._topic, records)

    async def stop(self) -> None:
        """Close the connections."""
        await self._sender.stop()

    def _candle(self, symbol: str, open_ms: int) -> list[Out]:
        rng, usual = self._rng, self._prices[symbol]
        begins = self._distance[symbol]
        ends = _RETURNS * begins + rng.gauss(0.0, _SPREAD)
        self._distance[symbol] = ends
        first, last = usual * exp(begins), usual * exp(ends)
        candle: dict[str, Any] = {
            "schema_version": 1,
            "symbol": symbol,
            "timeframe": TIMEFRAME,
            "open_time": open_ms,
            "close_time": open_ms + _SPAN_MS,
            "open": first,
            "high": max(first, last) * exp(abs(rng.gauss(0.0, _WICK))),
            "low": min(first, last) * exp(-abs(rng.gauss(0.0, _WICK))),
            "close": last,
            "volume": 1.0,
        }
        key = symbol.encode()
        record = Out(self._partition_of(key), key, orjson.dumps(candle))
        draw = rng.random()
        if draw < _REPEAT:
            return [record, record]
        if draw > 1 - _POISON:
            return [record, Out(rng.randrange(PARTITIONS), *rng.choice(POISON))]
        return [record]
