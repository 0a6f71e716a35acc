"""The executor of the tests: signals of every regime, and closed trades in answer to decisions."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Self

from tests.support.builders import START_MS, make_signal, make_trade
from tests.support.kafka_io import KafkaIo, Out, Tail, content, keyed

SYMBOLS = (
    "BTCUSDT",
    "ETHUSDT",
    "EURUSD",
    "SOL/USDT",
    "BINANCE:XRPUSDT",
    "ADA-PERP",
    "doge_usdt.p",
    "GBPJPY",
    "XAUUSD",
    "NASDAQ:AAPL",
)
LIQUID = {"volume_24h": 5e7, "depth_5bps": 5e5, "spread_bps": 1.0}
MARKETS: Mapping[str, Mapping[str, float]] = {
    "trend_up": LIQUID | {"adx": 35.0, "trend_strength": 0.6, "atr_pct": 0.005},
    "strong trend_up": LIQUID | {"adx": 60.0, "trend_strength": 0.9, "atr_pct": 0.01},
    "trend_down": LIQUID | {"adx": 31.7, "trend_strength": -0.43, "atr_pct": 0.02},
    "range_low_vol": LIQUID | {"adx": 12.5, "trend_strength": 0.11, "atr_pct": 0.004},
    "unsure range_low_vol": LIQUID | {"adx": 18.0, "trend_strength": -0.2, "atr_pct": 0.03},
    "range_high_vol": LIQUID | {"adx": 20.0, "trend_strength": 0.05, "atr_pct": 0.05},
    "high_volatility": LIQUID | {"adx": 50.0, "trend_strength": 0.9, "atr_pct": 0.07},
    "illiquid": {"adx": 35.0, "trend_strength": 0.6, "atr_pct": 0.005, "volume_24h": 1.5e6},
    "mixed": LIQUID | {"adx": 35.0, "trend_strength": 0.1, "atr_pct": 0.005},
    "nothing known": {},
}


def market_of(kind: str, price: float = 50_000.0) -> dict[str, float]:
    """Give a market of one kind; its ATR fits its `atr_pct`."""
    market = dict(MARKETS[kind])
    return market | {"current_price": price, "atr": price * market.get("atr_pct", 0.005)}


def signals(
    count: int,
    *,
    seed: int,
    symbols: Sequence[str] = SYMBOLS,
    accounts: Sequence[str | None] = (None, "paper"),
    kinds: Sequence[str] = tuple(MARKETS),
) -> Iterator[dict[str, Any]]:
    """Make signals of random symbols, accounts, sides and markets."""
    rng = Random(seed)
    for number in range(count):
        yield make_signal(
            signal_id=f"s{seed}-{number:05d}",
            ts=START_MS + number,
            symbol=rng.choice(symbols),
            account=rng.choice(accounts),
            side=rng.choice(("LONG", "SHORT")),
            market=market_of(rng.choice(kinds), price=rng.uniform(0.5, 90_000.0)),
            metadata={"number": number},
        )


def trade_for(decision: Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
    """Close a decision's position at a random price, the same one each time."""
    rng = Random(decision["decision_id"])
    tpsl = decision["tpsl"]
    entry = tpsl["entry_reference"] * rng.uniform(0.999, 1.001)
    sign = 1 if decision["side"] == "LONG" else -1
    parts = {
        "trade_id": f"t-{decision['signal_id']}",
        "symbol": decision["symbol"],
        "account": decision["account"],
        "side": decision["side"],
        "decision_id": decision["decision_id"],
        "entry_price": entry,
        "exit_price": entry + sign * tpsl["atr"] * rng.uniform(-1.2, 2.0),
        "atr": None,
    }
    return make_trade(**parts | overrides)


def path_for(trade: Mapping[str, Any], atr: float, *, candles: int = 4) -> list[list[float]]:
    """Give a price path from a trade's entry to its exit, the same one each time."""
    rng = Random(f"path {trade['trade_id']}")
    price, path = trade["entry_price"], []
    for number in range(candles):
        is_last = number == candles - 1
        end = trade["exit_price"] if is_last else price + atr * rng.uniform(-0.9, 1.4)
        high = max(price, end) + atr * rng.uniform(0.0, 0.8)
        low = min(price, end) - atr * rng.uniform(0.0, 0.5)
        path.append([START_MS + 60_000 * number, high, low, end])
        price = end
    return path


class Executor:
    """Answers each decision with a closed trade, while it runs as `async with`.

    Some trades are sent twice, some are corrected later, some decisions are never answered.

    Args:
        kafka: Where to read and send.
        decisions: The topic to follow.
        trades: The topic to send to.
        share: Of decisions that are answered [1].
    """

    def __init__(self, kafka: KafkaIo, decisions: str, trades: str, *, share: float = 0.9) -> None:
        self._kafka = kafka
        self._decisions = decisions
        self._trades = trades
        self._share = share
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.answered: dict[str, int] = {}
        """Trades sent, by decision id."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        async with self._kafka.tail(self._decisions) as tail:
            while not self._stop.is_set():
                await self._answer(tail)

    async def _answer(self, tail: Tail) -> None:
        found: list[Out] = []
        for record in await tail.poll():
            decision = content(record)
            if decision["decision_id"] in self.answered:
                continue
            trades = list(self._trades_of(decision))
            self.answered[decision["decision_id"]] = len(trades)
            found += map(keyed, trades)
        await self._kafka.send(self._trades, found)

    def _trades_of(self, decision: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        rng = Random(f"fate {decision['decision_id']}")
        if rng.random() >= self._share:
            return
        trade = trade_for(decision)
        yield trade
        if rng.random() < 0.05:
            yield trade
        if rng.random() < 0.05:
            yield trade_for(decision, revision=1, exit_price=trade["entry_price"])
        if rng.random() < 0.05:
            yield trade_for(decision, trade_id=trade["trade_id"] + "-2")
