"""The log in which partitions tell each other what they have learned: written, read, followed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Annotated, Any, Literal

import orjson
from aiokafka import TopicPartition
from pydantic import Field, ValidationError

from consumer.connection import KafkaConnection
from consumer.domain.arm_table import ArmTable
from consumer.domain.context import ParentKey
from consumer.domain.features import ALL_SUMS, CENTRE_SUMS
from consumer.domain.pooled import Parents, Pool
from consumer.domain.qtable import NO_ROW, ArmNumbers, ArmStats, Row
from consumer.errors import TransientError
from consumer.ports import Record
from consumer.stream.log_reader import LogReader
from consumer.wire import OutRecord
from schemas import MarketRegime, Message
from schemas.fields import Account, StrategyName

POOL_PARTITION = 0
"""All partitions write to one log, whose offsets number what was told."""
_READ_EVERY_S = 1.0
_MAX_BYTES = 900_000
"""Of a record: below what a broker takes, 1 MB."""
_MOST_REWARDS = 1 << 53
"""Of an arm: above it numbers are not exact any more."""
_LEAST_NEW, _MOST_NEW, _SHARE_NEW = 10, 1_000, 0.05
"""An account is told of when so many of its rewards are new, or so large a share of all."""


class _Told(Message):
    """A record's value."""

    schema_version: Literal[1]
    fingerprint: str
    partition: Annotated[int, Field(ge=0)]
    account: Account
    parents: list[tuple[MarketRegime | None, StrategyName, ArmNumbers]]


class PoolLog:
    """The records of the log, taken in order.

    Args:
        fingerprint: Of the fold and its logs; what was folded otherwise can not be added.
    """

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._pool = Pool()

    @property
    def pool(self) -> Pool:
        """What was told so far."""
        return self._pool

    def take(self, records: Iterable[Record]) -> None:
        """Take the next records; one of another fold, or that no worker wrote, says nothing."""
        number, all_told = self._pool.number, dict(self._pool.told)
        for record in records:
            number = record.offset + 1
            if (told := _decoded(record.value, self._fingerprint)) is not None:
                partition, account, parents = told
                all_told[account] = {**all_told.get(account, {}), partition: parents}
        self._pool = Pool(number, all_told)


def _decoded(value: bytes | None, fingerprint: str) -> tuple[int, str, Parents] | None:
    if value is None or len(value) > _MAX_BYTES:
        return None
    try:
        told = _Told.model_validate_json(value)
    except ValidationError:
        return None
    if told.fingerprint != fingerprint:
        return None
    parents: dict[ParentKey, dict[str, ArmStats]] = {}
    for regime, strategy, numbers in told.parents:
        stats = ArmStats(*numbers)
        if not _can_be_added(stats, ALL_SUMS if regime is None else CENTRE_SUMS):
            return None
        parents.setdefault(ParentKey(told.account, regime), {})[strategy] = stats
    return told.partition, told.account, parents


def _can_be_added(stats: ArmStats, sums: int) -> bool:
    *numbers, features, paper_features = stats.numbers
    counts = (stats.count, stats.win_count, stats.loss_count, stats.paper_count)
    return (
        all(0 <= count <= _MOST_REWARDS for count in counts)
        and {len(features), len(paper_features)} <= {0, sums}
        and all(map(isfinite, (*numbers, *features, *paper_features)))
    )


class Pooling:
    """Follows the log for all partitions of a worker.

    Args:
        connection: How to reach Kafka.
        topic: The log's.
        fingerprint: As in PoolLog.
        on_trouble: Told why the log can not be read; it is tried again.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        fingerprint: str,
        *,
        on_trouble: Callable[[TransientError], None] = lambda _: None,
    ) -> None:
        self.fingerprint = fingerprint
        self._log = TopicPartition(topic, POOL_PARTITION)
        self._reader = LogReader(connection, [self._log])
        self._taken = PoolLog(fingerprint)
        self._position = 0
        self._reading = asyncio.Lock()
        self._on_trouble = on_trouble

    @property
    def pool(self) -> Pool:
        """What was told, as far as it was read."""
        return self._taken.pool

    async def catch_up(self) -> None:
        """Read all that was told by now.

        Raises:
            TransientError: Kafka did not answer.
        """
        async with self._reading:
            end = (await self._reader.ends([self._log]))[self._log]
            # a broker that has just taken over may tell less for a moment
            if end <= self._position:
                return
            reading = self._reader.read(self._log, self._position, end)
            if records := [record async for record in reading]:
                self._taken.take(records)
            self._position = end

    async def run(self) -> None:
        """Read on until cancelled."""
        while True:
            try:
                await self.catch_up()
            except TransientError as error:
                self._on_trouble(error)
            await asyncio.sleep(_READ_EVERY_S)

    async def close(self, timeout_s: float) -> None:
        """Close the connections, within a time."""
        await self._reader.close(timeout_s)


class Teller:
    """Writes what one partition has learned, when enough of it is new.

    Args:
        partition: Which one.
        fingerprint: As in PoolLog.
        pool: What it told before, if anything.
    """

    def __init__(self, partition: int, fingerprint: str, pool: Pool) -> None:
        self._partition = partition
        self._fingerprint = fingerprint
        self._told = {
            account: _learned(told[partition].get(ParentKey(account, None), NO_ROW))
            for account, told in pool.told.items()
            if partition in told
        }
        """By account: rewards, and outcomes on paper, that were there when it was told of last."""

    def news(self, table: ArmTable, timestamp_ms: int) -> Sequence[OutRecord]:
        """Give what is to be told now; it counts as told.

        Args:
            table: What was learned; its list of accounts that have learned is emptied.
            timestamp_ms: Of the records [Unix ms].
        """
        records = []
        for account in sorted(table.learned):  # a set has another order in every process
            row = table.parents.get(ParentKey(account, None), NO_ROW)
            learned, told = _learned(row), self._told.get(account, 0)
            least = max(_LEAST_NEW, min(_MOST_NEW, _SHARE_NEW * learned))
            # fewer than were told: the logs were made anew
            if learned < told or learned - told >= least:
                self._told[account] = learned
                records.append(self._encoded(account, table, timestamp_ms))
        table.learned.clear()
        return records

    def _encoded(self, account: str, table: ArmTable, timestamp_ms: int) -> OutRecord:
        # what trades say of variants is not told: no decision looks at it
        keys = [ParentKey(account, regime) for regime in (None, *MarketRegime)]
        content: dict[str, Any] = {
            "schema_version": 1,
            "fingerprint": self._fingerprint,
            "partition": self._partition,
            "account": account,
            "parents": [
                (key.regime, strategy, stats.numbers)
                for key in keys
                for strategy, stats in table.parents.get(key, NO_ROW).items()
            ],
        }
        key = f"{self._partition}:{account}".encode()
        return OutRecord(key, orjson.dumps(content), [("schema_version", b"1")], timestamp_ms)


def _learned(row: Row) -> int:
    return sum(stats.count + stats.paper_count for stats in row.values())
