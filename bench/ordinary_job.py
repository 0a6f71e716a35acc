"""The ordinary job over a batch of records: one Redis round trip to read, one to write.

It is written once for the asynchronous and the synchronous client: their pipelines take the same calls,
and only sending them differs. It keeps open decisions, skips a signal id that was answered, and folds
each trade once, by a script call a trade. It leaves out what nobody sees in a good hour: dead letters,
zombie fencing, healing a Redis that lost data, metrics, HTTP.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import redis
import redis.asyncio

from bench.environment import ALPHA, PREFIX, SIGNALS
from bench.ordinary_rules import (
    PROFILES,
    Made,
    Record,
    Regime,
    Row,
    decide,
    detect,
    reward_of,
)
from schemas import Signal, TradeClosed

TTL_S = 30 * 86_400
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


class Incoming(NamedTuple):
    """A record, for clients whose own has methods instead of attributes."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


class Outgoing(NamedTuple):
    """The decision of a record."""

    source: Record
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(slots=True)
class _Request:
    record: Record
    signal: Signal
    decision_id: str
    regime: Regime
    decision_key: str
    row_key: str


@dataclass(slots=True)
class _Batch:
    requests: list[_Request]
    row_keys: list[str]
    trades: list[tuple[Record, TradeClosed]]


def row_key(partition: int, account: str, symbol: str, regime: str) -> str:
    """Name the row of a context."""
    return f"{PREFIX}:{{{partition}}}:q:{account}:{symbol}:{regime}"


def decision_key(partition: int, decision_id: str) -> str:
    """Name the record of a decision."""
    return f"{PREFIX}:{{{partition}}}:decision:{decision_id}"


def _read_signal(record: Record) -> _Request:
    request = Signal.model_validate(orjson.loads(record.value))
    account = request.account or "default"
    name = f"meta-strategy:{account}:{request.signal_id}"
    decision_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    regime = detect(request.market)
    return _Request(
        record,
        request,
        decision_id,
        regime,
        decision_key(record.partition, decision_id),
        row_key(record.partition, account, request.symbol, regime[0]),
    )


def parse_row(values: Sequence[bytes | None]) -> Row:
    """Read count and Q-value of each arm."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return {
        arm: (int(count or 0), float(q_value or 0))
        for arm, (count, q_value) in zip(PROFILES, pairs, strict=True)
    }


class OrdinaryJob:
    """Decides and learns, batch by batch.

    Args:
        fold: SHA of the loaded script `FOLD`.
    """

    def __init__(self, fold: str) -> None:
        self._fold = fold
        self._table_offsets: dict[int, int] = {}

    async def work_off(
        self, client: redis.asyncio.Redis, records: Sequence[Record]
    ) -> list[Outgoing]:
        """Give the new decisions of a batch of signals and trades."""
        reading = client.pipeline(transaction=False)
        batch = self._prepare(records, reading)
        answers = await reading.execute() if len(reading) else []
        writing = client.pipeline(transaction=False)
        made = self._finish(batch, answers, writing)
        if len(writing):
            await writing.execute()
        return made

    def work_off_blocking(self, client: redis.Redis, records: Sequence[Record]) -> list[Outgoing]:
        """Do the same with the synchronous client."""
        reading = client.pipeline(transaction=False)
        batch = self._prepare(records, reading)
        answers = reading.execute() if len(reading) else []
        writing = client.pipeline(transaction=False)
        made = self._finish(batch, answers, writing)
        if len(writing):
            writing.execute()
        return made

    @staticmethod
    def _prepare(records: Sequence[Record], reading: Any) -> _Batch:
        requests = [_read_signal(record) for record in records if record.topic == SIGNALS]
        trades = [
            (record, TradeClosed.model_validate(orjson.loads(record.value)))
            for record in records
            if record.topic != SIGNALS
        ]
        row_keys = list(dict.fromkeys(request.row_key for request in requests))
        if requests:
            reading.mget([request.decision_key for request in requests])
        for key in row_keys:
            reading.hmget(key, ROW_FIELDS)
        if trades:
            reading.mget(
                [
                    decision_key(record.partition, trade.decision_id or "")
                    for record, trade in trades
                ]
            )
        return _Batch(requests, row_keys, trades)

    def _finish(self, batch: _Batch, answers: Sequence[Any], writing: Any) -> list[Outgoing]:
        replies: Iterator[Any] = iter(answers)
        known = next(replies) if batch.requests else []
        rows = {key: parse_row(next(replies)) for key in batch.row_keys}
        made = self._decide(batch.requests, known, rows, writing)
        if batch.trades:
            self._learn(batch.trades, next(replies), writing)
        return made

    def _decide(
        self,
        requests: Sequence[_Request],
        known: Sequence[bytes | None],
        rows: dict[str, Row],
        writing: Any,
    ) -> list[Outgoing]:
        found = []
        seen: set[str] = set()
        for request, old in zip(requests, known, strict=True):
            record = request.record
            is_repeat = old is not None and int(old.split(b"|", 1)[0]) != record.offset
            if is_repeat or request.decision_id in seen:
                continue
            seen.add(request.decision_id)
            made: Made = decide(
                record,
                request.signal,
                request.decision_id,
                request.regime,
                rows[request.row_key],
                self._table_offsets.get(record.partition, 0),
            )
            writing.set(request.decision_key, made.kept, ex=TTL_S)
            found.append(Outgoing(record, made.value, made.headers))
        return found

    def _learn(
        self,
        trades: Sequence[tuple[Record, TradeClosed]],
        remembered: Sequence[bytes | None],
        writing: Any,
    ) -> None:
        touched = set()
        for (record, trade), kept in zip(trades, remembered, strict=True):
            partition = record.partition
            self._table_offsets[partition] = record.offset + 1
            touched.add(partition)
            # what the trade echoes is for a decision that is not remembered
            arm: str | None = trade.strategy
            regime: str | None = trade.regime
            atr = trade.atr
            if kept is not None:
                _, arm, regime, text = kept.decode().split("|")
                atr = atr or float(text)
            if arm is None or regime is None or atr is None:
                continue
            writing.evalsha(
                self._fold,
                2,
                row_key(partition, trade.account or "default", trade.symbol, regime),
                f"{PREFIX}:{{{partition}}}:seen:{trade.trade_id}",
                arm,
                reward_of(trade, atr),
                ALPHA,
                TTL_S,
            )
        for partition in touched:
            key, offset = watermark_key(partition), self._table_offsets[partition]
            writing.hset(key, "trades", offset)


def watermark_key(partition: int, prefix: str = PREFIX) -> str:
    """Name the record of how far a partition's trades are folded: the next offset, in `trades`."""
    return f"{prefix}:{{{partition}}}:watermark"
