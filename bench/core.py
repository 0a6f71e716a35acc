"""What the core costs without Kafka and Redis: a decision, a closed trade, a candle, in the first hour and after years.

    make bench ARGS="--core"

CPU time of one process, of the shipped default; the median of some rounds, and the lowest and highest. Each
round begins with an empty table. The beginning of a round does not count: caches are cold then.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

import orjson

from bench.traffic import make_backlog, symbol
from consumer import process
from consumer.decide import Decider
from consumer.domain.partition_state import PartitionState
from consumer.errors import BadMessageError
from consumer.learn import follow, learn
from consumer.pipeline import Pipeline, decoded_candle, decoded_signal, decoded_trade
from consumer.settings import Settings
from consumer.stream.read_record import ReadRecord
from schemas import Candle, Signal, TradeClosed

_ROUNDS = 9
_SIGNALS = 6_000
_WARM = 1_000
_BATCH = 250
_SYMBOLS = 200
_FOLLOWED = 5
"""Signals that are followed at a time, of each symbol."""
_REMEMBERED = 100_000
"""Decisions and trades of an old state: as many as by default may be."""
_MINUTES = 10
_TS = "2026-03-01T12:00:00.000Z"
_START_MS = 1_772_366_400_000


class Cost(NamedTuple):
    """What one thing costs [us], by round."""

    name: str
    rounds: Sequence[float]
    limit: float | None
    """What is wanted at most [us]."""

    def __str__(self) -> str:
        middle = median(self.rounds)
        text = f"{self.name:48} {middle:7.1f} us ({min(self.rounds):.1f} .. {max(self.rounds):.1f})"
        if self.limit is None:
            return text
        return f"{text}  wanted: below {self.limit:g}: {'yes' if middle < self.limit else 'NO'}"


def _record(topic: str, offset: int, key: bytes, value: bytes) -> ReadRecord:
    return ReadRecord(topic, 0, offset, _START_MS, key, value, ())


def _signals_and_trades() -> tuple[list[ReadRecord], list[ReadRecord]]:
    backlog = make_backlog(_SIGNALS, ts=_TS, symbols=_SYMBOLS)
    signals = [_record("signals", n, s.key, s.value) for n, s in enumerate(backlog.signals)]
    trades = [_record("trade-closed", n, *one) for n, one in enumerate(backlog.trades)]
    return signals, trades


def _decoded(records: Sequence[ReadRecord]) -> list[Signal]:
    return [one for one in map(decoded_signal, records) if not isinstance(one, BadMessageError)]


def _each_us(run: Callable[[int, int], None]) -> float:
    """Run a part that does not count, then the rest; give the time of one [us]."""
    run(0, _WARM)
    started = time.process_time()
    run(_WARM, _SIGNALS)
    return 1e6 * (time.process_time() - started) / (_SIGNALS - _WARM)


def _decision_us(
    settings: Settings,
    messages: Sequence[Signal],
    records: Sequence[ReadRecord],
    *,
    is_news: bool,
) -> float:
    """Measure decisions from a table that has learned, half of the messages' trades.

    Args:
        settings: Of a worker.
        messages: Signals.
        records: Their closed trades.
        is_news: Whether the trades of the batch before are learned between two batches, which is not
            measured: rows are others then; else they stay as they were.
    """
    state, decider = PartitionState(settings.fold), settings.decider
    trades, took_s = [decoded_trade(record) for record in records], 0.0
    for first in range(0, _SIGNALS, _BATCH):
        if first and (is_news or first <= _SIGNALS // 2):
            for offset in range(first - _BATCH, first):
                learn(state, trades[offset], offset=offset, timestamp_ms=_START_MS)
        started = time.process_time()
        for signal in messages[first : first + _BATCH]:
            decider.decide(signal, state, now_ms=_START_MS, degraded=False)
        if first > _SIGNALS // 2:
            took_s += time.process_time() - started
    return 1e6 * took_s / (_SIGNALS // 2 - _BATCH)


def _step_us(settings: Settings, records: Sequence[ReadRecord]) -> float:
    state, pipeline = PartitionState(settings.fold), Pipeline(settings.decider)

    def run(start: int, end: int) -> None:
        for first in range(start, end, 500):
            part = records[first : first + 500]
            pipeline.step(state, (), part, now_ms=_START_MS, degraded=False)

    return _each_us(run)


def _trade_us(settings: Settings, records: Sequence[ReadRecord]) -> float:
    state = PartitionState(settings.fold)

    def run(start: int, end: int) -> None:
        for record in records[start:end]:
            trade = decoded_trade(record)
            learn(state, trade, offset=record.offset, timestamp_ms=record.timestamp)

    return _each_us(run)


def _pair_us(state: PartitionState, settings: Settings, messages: Sequence[Signal]) -> float:
    """Measure decisions with a closed trade each, going on from a state."""
    decider, position = settings.decider, state.position.trades

    def run(start: int, end: int) -> None:
        for number, signal in enumerate(messages[start:end], start):
            _decide_and_learn(decider, state, signal, position + number)

    return _each_us(run)


def _decide_and_learn(decider: Decider, state: PartitionState, signal: Signal, offset: int) -> None:
    named = signal.model_copy(update={"signal_id": f"pair-{offset}"})
    decision = decider.decide(named, state, now_ms=_START_MS, degraded=False)
    if decision is None:
        raise RuntimeError("a signal is told to be a repeat")
    trade = TradeClosed(
        schema_version=1,
        trade_id=f"pair-{offset}",
        symbol=signal.symbol,
        side=signal.side,
        closed_at=_START_MS,
        decision_id=decision.decision_id,
        entry_price=signal.market.current_price,
        exit_price=signal.market.current_price,
    )
    learn(state, trade, offset=offset, timestamp_ms=_START_MS)


def _old_state(settings: Settings, messages: Sequence[Signal]) -> PartitionState:
    """Give a state that remembers as much as it may: whatever comes lets something go."""
    state = PartitionState(settings.fold)
    for offset in range(_REMEMBERED):
        _decide_and_learn(settings.decider, state, messages[offset % len(messages)], offset)
    return state


def _candles(messages: Sequence[Signal]) -> Iterator[ReadRecord]:
    """Make quiet minutes of each symbol that is followed: no ladder ends, all stay open."""
    prices = {signal.symbol: signal.market for signal in messages}
    offset = 0
    for minute in range(1, _MINUTES + 1):
        for name, market in prices.items():
            price, close_ms = market.current_price, _START_MS + 60_000 * minute
            candle = Candle(
                schema_version=1,
                symbol=name,
                timeframe="1m",
                open_time=close_ms - 60_000,
                close_time=close_ms,
                open=price,
                high=price,
                low=price,
                close=price,
                volume=1.0,
            )
            yield _record("candles", offset, name.encode(), candle.model_dump_json().encode())
            offset += 1


def _candle_us(followed: Settings, messages: Sequence[Signal]) -> float:
    state, decider = PartitionState(followed.fold), followed.decider
    markets = {signal.symbol: signal for signal in messages}
    for number in range(_FOLLOWED):
        for name in map(symbol, range(_SYMBOLS)):
            signal = markets[name].model_copy(
                update={"signal_id": f"{name}-{number}", "timeframe": "1m", "ts": _START_MS}
            )
            decider.decide(signal, state, now_ms=_START_MS, degraded=False)
    records = list(_candles(list(markets.values())))
    started = time.process_time()
    for record in records:
        follow(state, decoded_candle(record), offset=record.offset)
    took_s = time.process_time() - started
    following = state.following
    if following is None or following.open_count != _FOLLOWED * _SYMBOLS:
        raise RuntimeError("not all signals are followed to the end")
    return 1e6 * took_s / len(records)


def measure_core() -> list[Cost]:
    """Measure all costs, in turns."""
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    followed = settings.model_copy(update={"kafka_candles_topic": "candles"})
    signals, trades = _signals_and_trades()
    messages = _decoded(signals)
    models = [Signal.model_validate(orjson.loads(record.value)) for record in signals]
    old_settings = settings.model_copy(update={"meta_strategy_dedupe_window": _REMEMBERED})
    old = _old_state(old_settings, models)
    measures: dict[str, tuple[Callable[[], float], float | None]] = {
        "a decision, of a message that was read": (
            lambda: _decision_us(settings, messages, trades, is_news=False),
            20.0,
        ),
        "the same, with rewards since the batch before": (
            lambda: _decision_us(settings, messages, trades, is_news=True),
            20.0,
        ),
        "a decision, from message to message": (lambda: _step_us(settings, signals), None),
        "a closed trade, from its message": (lambda: _trade_us(settings, trades), None),
        "both, nothing remembered yet": (
            lambda: _pair_us(PartitionState(settings.fold), settings, models),
            None,
        ),
        "both, and the oldest of each forgotten": (lambda: _pair_us(old, settings, models), None),
        # 2 % of a core for 200 candles a minute
        f"a candle, from its message, {_FOLLOWED} signals followed": (
            lambda: _candle_us(followed, models),
            0.02 * 60e6 / _SYMBOLS,
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(_ROUNDS):
        for name, (measure, _) in measures.items():
            found[name].append(measure())
    return [Cost(name, found[name], limit) for name, (_, limit) in measures.items()]


if __name__ == "__main__":
    process.tune()  # collector and allocator as the worker has them
    print(*measure_core(), sep="\n")
