"""Policies on market bars: decided and learned by the worker's own pipeline, without servers.

The records are those of Kafka, to the byte: `Pipeline.step` decodes signals, closed trades and, where
KAFKA_CANDLES_TOPIC is set, candles; it decides, learns, follows and encodes as it does for a partition. All
symbols share one partition.
"""

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from consumer.domain.ladder import Outcome
from consumer.domain.partition_state import PartitionState
from consumer.domain.regime import Held, RegimeDetector, noted
from consumer.local.market_bars import BarSeries
from consumer.pipeline import Pipeline
from consumer.settings import Settings
from lab.measures import Ints
from lab.outcomes import Outcomes
from lab.progress import Track
from schemas import Candle, MarketRegime, Signal


@dataclass(frozen=True, slots=True)
class Run:
    """What one policy did with all signals."""

    name: str
    """What people call it."""
    arms: Ints
    """Column of the strategy chosen for each signal."""
    is_reachable: bool = True
    """False where it knows what nobody could: which strategy was the best."""
    state: PartitionState | None = None
    """What was learned; None where nothing is."""
    learned: Ints | None = None
    """Closed trades that were learned before each decision."""
    explored: int = 0
    """Decisions drawn at random."""
    refused: int = 0
    """Closed trades that the worker sends to the dead letters."""


@dataclass(slots=True)
class _Record:
    """A record as the Kafka client gives it."""

    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    partition: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()
    received_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of a study as the worker reads them."""

    records: Sequence[_Record]
    regimes: Sequence[MarketRegime]


def encode_signals(outcomes: Outcomes, detector: RegimeDetector, *, track: Track) -> Signals:
    """Write all signals, once for all policies, and tell their regimes, which no policy changes."""
    records, regimes = [], []
    markets: dict[tuple[str, str], Held] = {}
    for number, entry in enumerate(track(outcomes.entries, "markets", len(outcomes))):
        signal = entry.to_signal(str(number), entry.close_ms)
        market, key = signal.market, (signal.symbol, signal.timeframe)
        held = markets.get(key)
        found = detector.regime_of(market, signal.higher_timeframes, held, signal.ts)
        markets[key] = noted(held, found.regime, signal.ts, market.atr / market.current_price)
        regimes.append(found.regime)
        records.append(
            _Record("signals", number, signal.ts, signal.symbol.encode(), _signal_bytes(signal))
        )
    return Signals(records, regimes)


def _signal_bytes(signal: Signal) -> bytes:
    # the demo notes its rule there, which a signal of the user's does not follow
    return orjson.dumps(signal.model_dump(mode="json", exclude_none=True, exclude={"metadata"}))


def run(
    settings: Settings, name: str, outcomes: Outcomes, signals: Signals, *, track: Track
) -> Run:
    """Let a policy decide all signals, and learn from each trade when it has closed.

    At each moment the trades that have closed by then are learned first, then candles that have closed
    are taken in, then its signals are decided. A trade that is still open at the end of the bars is
    never learned.

    Args:
        settings: Of the worker: policy, profiles, limits and seed.
        name: What people call it.
        outcomes: What every strategy earns.
        signals: The same signals, encoded.
        track: Shows how many signals are done.

    Raises:
        BadMessageError: The worker refuses a signal.
    """
    pipeline = Pipeline(settings.decider)
    state = PartitionState(settings.fold)
    columns = {arm: column for column, arm in enumerate(outcomes.arms)}
    arms = np.full(len(outcomes), -1, dtype=np.int64)
    learned = np.zeros(len(outcomes), dtype=np.int64)
    running: list[tuple[int, int]] = []
    offset = explored = refused = 0
    candles = None if state.following is None else Ahead(candles_of(outcomes))

    def ended(until_ms: int) -> Iterator[tuple[int, int]]:
        while running and running[0][0] <= until_ms:
            yield heapq.heappop(running)

    def step(now_ms: int, batch: Sequence[_Record]) -> None:
        nonlocal offset, explored, refused
        trades = []
        for closed_ms, number in ended(now_ms):
            value = _trade_bytes(outcomes, signals, decision_ids, number, int(arms[number]))
            key = signals.records[number].key
            trades.append(_Record("trade-closed", offset, closed_ms, key, value))
            offset += 1
        closed = () if candles is None else list(candles.until(now_ms))
        learning = pipeline.step(state, trades, (), closed, now_ms=now_ms, degraded=False)
        refused += len(learning.refused)
        done = pipeline.step(state, (), batch, now_ms=now_ms, degraded=False)
        for _, error in done.refused:
            raise error
        for decision in done.decided:
            number, arm = int(decision.signal.signal_id), columns[decision.choice.arm]
            arms[number], learned[number] = arm, decision.table_offset
            decision_ids[number] = decision.decision_id
            explored += decision.is_exploration
            if not outcomes.is_open[number, arm]:
                heapq.heappush(running, (int(outcomes.closed_ms[number, arm]), number))
        state.take_changes()  # no view asks for them

    decision_ids: dict[int, str] = {}
    records = track(signals.records, name, len(signals.records))
    for now_ms, batch in groupby(records, key=lambda record: record.timestamp):
        step(now_ms, list(batch))
    if running or candles is not None:
        step(max(one.bars[-1].open_ms + one.step_ms for one in _series_of(outcomes)), ())
    return Run(name, arms, state=state, learned=learned, explored=explored, refused=refused)


def _series_of(outcomes: Outcomes) -> Collection[BarSeries]:
    return {id(entry.series): entry.series for entry in outcomes.entries}.values()


def candles_of(outcomes: Outcomes) -> Iterator[_Record]:
    """Write the bars of all symbols as a feed would, in the order in which they close."""
    feeds = [
        [(bar.open_ms + one.step_ms, one, bar) for bar in one.bars] for one in _series_of(outcomes)
    ]
    merged = heapq.merge(*feeds, key=itemgetter(0))
    for offset, (close_ms, one, bar) in enumerate(merged):
        candle = Candle(
            schema_version=1,
            symbol=one.symbol,
            timeframe=one.timeframe,
            open_time=bar.open_ms,
            close_time=close_ms,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume or 0.0,
        )
        value = candle.model_dump_json().encode()
        yield _Record("candles", offset, close_ms, one.symbol.encode(), value)


class Ahead:
    """Records given out as far as is asked."""

    def __init__(self, records: Iterator[_Record]) -> None:
        self._records = records
        self._next = next(records, None)

    def until(self, time_ms: int) -> Iterator[_Record]:
        """Give the next records up to a time [Unix ms]."""
        while self._next is not None and self._next.timestamp <= time_ms:
            yield self._next
            self._next = next(self._records, None)


def _trade_bytes(
    outcomes: Outcomes, signals: Signals, decision_ids: Mapping[int, str], number: int, arm: int
) -> bytes:
    entry, outcome = outcomes.entries[number], outcomes.walked[number][arm]
    content: dict[str, Any] = {
        "schema_version": 1,
        "trade_id": f"{number}-1",
        "symbol": entry.series.symbol,
        "closed_at": int(outcomes.closed_ms[number, arm]),
        "account": "paper",
        "decision_id": decision_ids[number],
        "strategy": outcomes.arms[arm],
        "regime": signals.regimes[number],
        "close_reason": outcome.close_reason,
        **outcomes.prices(number, arm),
    }
    return orjson.dumps(content | _extremes(outcome))


def _extremes(outcome: Outcome) -> dict[str, float]:
    return {"mfe_r": min(outcome.mfe_r, 1000.0), "mae_r": min(outcome.mae_r, 1000.0)}


def baselines(outcomes: Outcomes, signals: Signals, default_strategy: str) -> list[Run]:
    """Give what needs no learning, and what nobody can reach: the best in hindsight.

    Hindsight knows no candidates: every strategy may be the best.
    """
    rows = len(outcomes)
    default = outcomes.arms.index(default_strategy)
    best = int(outcomes.net_r.mean(axis=0).argmax())
    by_context = np.zeros(rows, dtype=np.int64)
    contexts = [
        f"{entry.series.symbol}:{regime}"
        for entry, regime in zip(outcomes.entries, signals.regimes, strict=True)
    ]
    for context in set(contexts):
        chosen = np.array([one == context for one in contexts])
        by_context[chosen] = outcomes.net_r[chosen].mean(axis=0).argmax()
    return [
        Run(f"always {default_strategy}", np.full(rows, default, dtype=np.int64)),
        Run(
            f"best single in hindsight: {outcomes.arms[best]}",
            np.full(rows, best, dtype=np.int64),
            is_reachable=False,
        ),
        Run("best per context in hindsight", by_context, is_reachable=False),
    ]
