"""Logged decisions read from the topics, or from files."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import ValidationError

from consumer.domain.stored import Position
from consumer.errors import RefusedError
from consumer.merging import MergedCandle, MergedTrade
from consumer.rebuild import bounds_of, logs_of, merged, refuse_if_begun
from consumer.settings import Settings
from consumer.store.meta import Meta
from consumer.stream.log_reader import LogReader
from consumer.stream.topics import check_topics
from lab.history import PoolHistory
from lab.logged import Folder, Log, log_of
from lab.progress import Track
from schemas import Message, StrategyDecision, TradeClosed

M = TypeVar("M", bound=Message)


async def from_topics(
    settings: Settings, *, on_total: Callable[[int], None], on_progress: Callable[[int], None]
) -> Log:
    """Read the topics, in the order in which the worker folded them.

    Raises:
        RefusedError: The logs do not go back to their beginning, or the pool's is not named: what was
            learned is not known.
        TransientError: Kafka does not answer.
    """
    folders = []
    partitions = await check_topics(settings.connection, settings.topics)
    fingerprint = Meta(settings.fold, partitions, settings.topics).fields["fingerprint"]
    for number in range(partitions):
        folder = Folder(settings)
        folders.append(folder)
        logs = logs_of(settings.topics, number)
        async with (
            LogReader(settings.connection, logs.all) as reader,
            PoolHistory(settings, number, fingerprint) as pool,
        ):
            first, last = await bounds_of(reader, logs)
            refuse_if_begun(logs, first)
            on_total(last.decisions)
            async for one in merged(reader, logs, start=Position(), end=last, upto=last):
                record = one.record
                if isinstance(one, MergedTrade):
                    folder.learn(one.trade, record.offset, record.timestamp)
                elif isinstance(one, MergedCandle):
                    folder.follow(one.candle, record.offset)
                else:
                    on_progress(1)
                    decision = _read(StrategyDecision, record.value)
                    known_of = decision.pool_offset if decision and folder.leans_on_pool else None
                    folder.decide(decision, record.timestamp, await pool.at(known_of))
    return log_of(folders)


def from_files(settings: Settings, decisions: Path, trades: Path, *, track: Track) -> Log:
    """Read files of JSON lines: the messages of both topics, in any order, of any partitions.

    They are folded by their own times, as of one partition: a decision knows the trades that closed
    before it was made. Candles are in no file: nothing is seen on paper by them.

    Raises:
        RefusedError: A file cannot be read, or a decision knew what other partitions had learned.
    """
    made = [_read(StrategyDecision, line) for line in _lines(decisions)]
    ended = [_read(TradeClosed, line) for line in _lines(trades)]
    folder = Folder(settings)
    folder.unreadable = made.count(None) + ended.count(None)
    # at the same time the trade comes first, as in a batch of the worker
    events: list[tuple[int, int, StrategyDecision | TradeClosed]] = [
        *((trade.closed_at, 0, trade) for trade in ended if trade),
        *((decision.ts, 1, decision) for decision in made if decision),
    ]
    events.sort(key=lambda event: event[:2])
    for number, (time_ms, _, event) in enumerate(track(events, "decisions", len(events))):
        if isinstance(event, TradeClosed):
            folder.learn(event, number, time_ms)
        else:
            folder.decide(event, time_ms)
    return log_of([folder])


def _lines(path: Path) -> list[bytes]:
    try:
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read: {error.strerror}") from None


def _read(model: type[M], value: bytes | None) -> M | None:
    try:
        return model.model_validate(orjson.loads(value or b""))
    except (orjson.JSONDecodeError, ValidationError):
        return None
