"""Another partition count: the logs sent to new topics, by key, and the table folded from them."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.app import make_view
from consumer.domain.context import ContextKey
from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import FoldResult, PartitionState, Position
from consumer.domain.qtable import Row
from consumer.errors import BadMessageError, MetaStrategyError, RefusedError, TransientError
from consumer.learn import follow, learn
from consumer.pipeline import decoded_candle, decoded_trade
from consumer.rebuild import Logs, Merged, logs_of, merged
from consumer.settings import Settings
from consumer.store.client import BULK_TIMEOUT_S, REDIS_ERRORS, connect
from consumer.store.keys import PartitionKeys
from consumer.store.table import TableReader
from consumer.stream.clients import admin_client
from consumer.stream.dense_producer import DenseProducer, partition_of
from consumer.stream.groups import commit_offsets, has_members
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.stream.ownership import final_offsets
from consumer.stream.topics import (
    check_topics,
    create_topics,
    log_bounds,
    partition_counts,
)
from consumer.table_commands import rebuild_table
from consumer.wire import LoggedDecision, with_offsets
from schemas import Candle, TradeClosed

_CREATION_LIMIT_S = 10.0
"""Brokers hear of a new topic one after the other, within a second."""
_CREATION_POLL_S = 0.1
_ROUNDS = 3
"""Looks for input that came meanwhile; after as many, its producers were clearly not stopped."""


def moved(settings: Settings, suffix: str) -> Settings:
    """Give the settings with which everybody goes on afterwards: the topics bear a suffix."""
    names = ["kafka_signals_topic", "kafka_trade_closed_topic", "kafka_decisions_topic"]
    if settings.kafka_candles_topic:
        names.append("kafka_candles_topic")
    return settings.model_copy(update={name: getattr(settings, name) + suffix for name in names})


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration that may begin.

    Args:
        old: The settings that held so far.
        new: The same with the names of the new topics; see `moved`.
        partitions: Of each new topic.
        counts: Partitions of each old topic.
    """

    old: Settings
    new: Settings
    partitions: int
    counts: Mapping[str, int]

    @property
    def renamed(self) -> dict[str, str]:
        """The variables to change, with their new values."""
        old, new = self.old.model_dump(), self.new.model_dump()
        return {name.upper(): str(new[name]) for name in new if new[name] != old[name]}


async def plan_migration(settings: Settings, partitions: int, suffix: str) -> Migration:
    """Find out whether a migration may begin; nothing is changed.

    Raises:
        RefusedError: Workers run, old topics are missing, or new ones hold records.
        TransientError: Kafka or Redis does not answer.
    """
    new = moved(settings, suffix)
    await _refuse_while_served(settings)
    connection, old_names, new_names = settings.connection, settings.topics, new.topics
    async with admin_client(connection) as admin:
        found = await partition_counts(
            admin, [*old_names.co_partitioned, *new_names.co_partitioned]
        )
    counts = {name: found[name] or 0 for name in old_names.co_partitioned}
    if missing := [name for name, count in counts.items() if not count]:
        raise RefusedError(
            f"topic {', '.join(missing)} is missing: there is nothing to migrate; run "
            "`meta-strategy topics create`"
        )
    if taken := {*new_names.co_partitioned} & {*counts, old_names.dead_letters}:
        raise RefusedError(f"topic {min(taken)} is one of the old ones: choose another --suffix")
    logs = [log for name in new_names.co_partitioned for log in _logs(name, found[name] or 0)]
    for log, (_, last) in (await log_bounds(connection, logs)).items():
        if last:
            raise RefusedError(
                f"topic {log.topic} holds records already: of a migration that was broken off, or "
                "of somebody else; choose other names with --suffix, or delete it"
            )
    view = make_view(settings, partitions)
    try:
        await view.positions([0])  # it is written last: better to know now that it is away
    finally:
        await view.close()
    return Migration(settings, new, partitions, counts)


async def _refuse_while_served(settings: Settings) -> None:
    if await has_members(settings.connection, settings.kafka_group_id):
        raise RefusedError(
            f"the group {settings.kafka_group_id} has members: stop the workers first, what they "
            "decide meanwhile would be missing from the new topics"
        )


@dataclass(slots=True)
class _Counts:
    copied: Counter[str] = field(default_factory=Counter)
    """By old topic: what was worked off, and the decisions."""
    refused: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    """By old topic."""
    deleted: int = 0
    misplaced: int = 0

    def lines(self) -> Iterator[str]:
        yield (
            f"copied: {_listed(self.copied)}; {self.refused} records that are no messages left to the "
            "dead letters"
        )
        yield f"copied, waiting to be worked off: {_listed(self.waiting)}"
        if self.deleted:
            yield (
                f"warning: retention had deleted {self.deleted} records of the logs: what was "
                "learned from them is not in the new table"
            )
        if self.misplaced:
            yield (
                f"warning: {self.misplaced} records did not lie where Kafka's default partitioner "
                "puts their keys: set partitioner=murmur2_random in every producer before it "
                "writes to the new topics"
            )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {topic}" for topic, count in counts.items()) or "nothing"


@dataclass(slots=True)
class _OldPartition:
    """One partition of the old topics, and how far it was copied."""

    reader: LogReader
    logs: Logs
    state: PartitionState
    start: Position
    end: Position
    upto: Position
    """Where the group goes on."""
    next_offsets: dict[TopicPartition, int]
    """Of each input log: what was not copied yet."""
    late: list[ConsumerRecord] = field(default_factory=list)
    """Input at or beyond `upto` that a decision has seen and the fold refuses."""

    def merged(self) -> AsyncIterator[Merged]:
        return merged(self.reader, self.logs, start=self.start, end=self.end, upto=self.upto)


async def migrate(
    migration: Migration,
    *,
    on_total: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Create the new topics, send the logs to them, and fold the table from them.

    The old topics and the group's offsets in them stay as they are. The view in Redis is replaced
    as the last step; until then everything can be dropped, and done again under other names.

    Args:
        migration: As `plan_migration` gave it.
        on_total: Told how many more records there are.
        on_progress: Told how many were copied or folded.

    Returns:
        What was done, a line each.

    Raises:
        RefusedError: Somebody works on the old topics, or on the new ones.
        TransientError: Kafka or Redis does not answer.
    """
    old, new, connection = migration.old, migration.new, migration.old.connection
    lines = await create_topics(
        connection, new.topics, partitions=migration.partitions, replication=None
    )
    await _until_usable(migration)
    counts = _Counts()
    async with AsyncExitStack() as stack:
        # these read nothing: an answer to them waits behind no fetch
        ends = await stack.enter_async_context(LogEnds(connection))
        parts = await _open(migration, stack, ends, counts)
        producer = await stack.enter_async_context(DenseProducer(connection))
        copy = _Copy(migration, producer, ends, counts, on_total, on_progress)
        await copy.worked_off(parts)
        folded = {
            log: producer.next_offset(log)
            for name in new.topics.memory
            if name != new.kafka_decisions_topic
            for log in _logs(name, migration.partitions)
        }
        await copy.waiting(parts)
        await _refuse_while_served(old)
        for part in parts:
            log = part.logs.decisions
            if await copy.end(log) != part.end.decisions:
                raise RefusedError(
                    f"{log.topic}-{log.partition}: a worker decided meanwhile: stop the workers, and "
                    "start over with another --suffix"
                )
        signals = dict.fromkeys(_logs(new.kafka_signals_topic, migration.partitions), 0)
        await commit_offsets(connection, new.kafka_group_id, signals | folded)
        try:
            lines += await rebuild_table(new, on_total=on_total, on_progress=on_progress)
            lines += [*counts.lines(), await _clear_and_compare(migration, parts)]
        except MetaStrategyError as error:
            raise RefusedError(
                f"{error}. The new topics are complete, the table is not: run `meta-strategy "
                "qtable rebuild` with "
                + " ".join(f"{name}={value}" for name, value in migration.renamed.items())
            ) from error
        if grown := await copy.grown(parts):
            lines.append(
                f"warning: {grown} records came to the old input topics at the very end and are "
                "not in the new ones: their producers were to be stopped before"
            )
    return lines


async def _until_usable(migration: Migration) -> None:
    """Wait until the new topics are known everywhere, and check what they are."""
    give_up_at = time.monotonic() + _CREATION_LIMIT_S
    while True:
        try:
            found = await check_topics(migration.new.connection, migration.new.topics)
        except RefusedError:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_CREATION_POLL_S)
        else:
            break
    if found != migration.partitions:
        raise RefusedError(f"the new topics have {found} partitions, not {migration.partitions}")


def _logs(topic: str, partitions: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(partitions)]


async def _open(
    migration: Migration, stack: AsyncExitStack, ends: LogEnds, counts: _Counts
) -> list[_OldPartition]:
    old, there = migration.old, migration.counts

    def is_there(log: TopicPartition | None) -> bool:
        # the counts of the old topics may differ: it is one reason to come here
        return log is not None and log.partition < there[log.topic]

    numbers = range(max(there.values()))
    parts_logs = [logs_of(old.topics, number) for number in numbers]
    signals = [TopicPartition(old.kafka_signals_topic, number) for number in numbers]
    inputs = [log for logs in parts_logs for log in logs.all if log != logs.decisions]
    committed = await final_offsets(
        old.connection, old.kafka_group_id, [log for log in [*inputs, *signals] if is_there(log)]
    )
    parts = []
    for logs, signals_log in zip(parts_logs, signals, strict=True):
        memory = [log for log in logs.all if is_there(log)]
        reader = await stack.enter_async_context(LogReader(old.connection, memory))
        if is_there(logs.decisions):
            await ends.settled(logs.decisions)
        bounds = [
            await ends.bounds(log) if log is not None and is_there(log) else (0, 0)
            for log in (*logs, signals_log)
        ]
        *memory_bounds, _ = bounds
        start = Position(*(first for first, _ in memory_bounds))
        end = Position(*(last for _, last in memory_bounds))
        counts.deleted += sum(start)
        next_offsets = {
            log: _goes_on(old, log, committed.get(log), *found)
            for log, found in zip((*logs, signals_log), bounds, strict=True)
            if log is not None and log != logs.decisions
        }
        upto = [0 if log is None else next_offsets.get(log, 0) for log in logs]
        parts.append(
            _OldPartition(
                reader,
                logs,
                state=PartitionState(old.fold),
                start=start,
                end=end,
                upto=Position(*upto),
                next_offsets=next_offsets,
            )
        )
    return parts


def _goes_on(
    settings: Settings, log: TopicPartition, committed: int | None, first: int, last: int
) -> int:
    """Give the offset at which a worker would go on."""
    if committed is None:
        return first if settings.kafka_start == "earliest" else last
    if committed > last:
        raise RefusedError(
            f"{log.topic}-{log.partition}: the group stands at offset {committed}, the log ends at "
            f"{last}: was the topic made anew?"
        )
    return max(first, committed)


class _Copy:
    """Sends what the old partitions hold to the new ones."""

    def __init__(
        self,
        migration: Migration,
        producer: DenseProducer,
        ends: LogEnds,
        counts: _Counts,
        on_total: Callable[[int], None],
        on_progress: Callable[[int], None],
    ) -> None:
        self._new = migration.new
        old, new = migration.old.topics, migration.new.topics
        self._names = dict(zip(old.co_partitioned, new.co_partitioned, strict=True))
        self._partitions = migration.partitions
        self._old_counts = migration.counts
        self._are_counts_equal = len(set(migration.counts.values())) == 1
        self._producer = producer
        self._ends = ends
        self._counts = counts
        self._on_total = on_total
        self._on_progress = on_progress

    # What was worked off: both logs, as they were folded

    async def worked_off(self, parts: Sequence[_OldPartition]) -> None:
        """Copy the decisions, and the closed trades that the group or a decision has seen.

        Each old partition keeps its order. Among each other they go by the time of their
        decisions, so that what a partition remembers of the newest is the newest afterwards, too.
        """
        for part in parts:
            self._on_total(part.end.decisions - part.start.decisions)
            self._on_total(sum(part.upto) - sum(part.start[1:]))
        async for number, (record, log, decision) in _by_time([p.merged() for p in parts]):
            if log == "decision":
                await self._decision(parts[number], record, decision)
            else:
                await self._input(parts[number], record, log)
            self._on_progress(1)
        await self._producer.flush()

    async def _input(
        self, part: _OldPartition, record: ConsumerRecord, log: Literal["trade", "candle"]
    ) -> None:
        place = TopicPartition(record.topic, record.partition)
        is_late = record.offset >= (part.upto.trades if log == "trade" else part.upto.candles)
        part.next_offsets[place] = max(part.next_offsets[place], record.offset + 1)
        message: TradeClosed | Candle | BadMessageError
        result: FoldResult | CandleOutcome | BadMessageError
        if log == "trade":
            message = trade = decoded_trade(record)
            result = learn(part.state, trade, offset=record.offset, timestamp_ms=record.timestamp)
        else:
            message = candle = decoded_candle(record)
            result = follow(part.state, candle, offset=record.offset)
        if isinstance(result, BadMessageError) and is_late:
            part.late.append(record)  # it has no dead letter yet
        elif isinstance(message, BadMessageError):
            self._counts.refused += 1
        else:
            there = self._log(self._names[record.topic], record, message.symbol.encode())
            await self._producer.send(there, record, record.value)
            self._counts.copied[record.topic] += 1

    async def _decision(
        self, part: _OldPartition, record: ConsumerRecord, decision: LoggedDecision | None
    ) -> None:
        value, key = record.value, record.key
        if decision is not None:
            part.state.admit(
                decision.remembered, is_exploration=decision.is_exploration, entry=decision.entry
            )
            key = decision.remembered.symbol.encode()
            logs = logs_of(self._new.topics, partition_of(key, self._partitions))
            value = with_offsets(
                record.value,
                self._producer.next_offset(logs.trades),
                None if logs.candles is None else self._producer.next_offset(logs.candles),
            )
        await self._producer.send(self._log(self._names[record.topic], record, key), record, value)
        self._counts.copied[record.topic] += 1

    def _log(self, topic: str, record: ConsumerRecord, key: bytes | None) -> TopicPartition:
        if key is None:  # nobody's in particular
            return TopicPartition(topic, record.partition % self._partitions)
        if self._are_counts_equal:
            there = self._old_counts[record.topic]
            self._counts.misplaced += record.partition != partition_of(key, there)
        return TopicPartition(topic, partition_of(key, self._partitions))

    # What was not

    async def waiting(self, parts: Sequence[_OldPartition]) -> None:
        """Copy all other input as it is, bad messages included, until no more comes.

        Raises:
            RefusedError: It comes without end.
        """
        for part in parts:
            for record in part.late:
                await self._wait(record)
        for _ in range(_ROUNDS):
            if not await self.grown(parts):
                break
            for part in parts:
                for log, position in part.next_offsets.items():
                    part.next_offsets[log] = await self._rest(log, position)
            await self._producer.flush()
        else:
            if await self.grown(parts):
                raise RefusedError(
                    "records still come to the old input topics: stop their producers, and start "
                    "over with another --suffix"
                )
        await self._producer.flush()

    async def grown(self, parts: Sequence[_OldPartition]) -> int:
        """Count the offsets of the old input that were not copied yet."""
        found = 0
        for part in parts:
            for log, position in part.next_offsets.items():
                found += max(0, await self.end(log) - position)
        return found

    async def end(self, log: TopicPartition) -> int:
        """Give the offset behind the last record of an old log; 0 where there is none."""
        if log.partition >= self._old_counts[log.topic]:
            return 0
        return (await self._ends.ends([log]))[log]

    async def _rest(self, log: TopicPartition, start: int) -> int:
        end = await self.end(log)
        if start >= end:
            return start
        self._on_total(end - start)
        async with LogReader(self._new.connection, [log]) as reader:
            async for record in reader.read(log, start, end):
                await self._wait(record)
                self._on_progress(1)
        return end

    async def _wait(self, record: ConsumerRecord) -> None:
        there = self._log(self._names[record.topic], record, record.key)
        await self._producer.send(there, record, record.value)
        self._counts.waiting[record.topic] += 1


async def _by_time(
    streams: Sequence[AsyncIterator[Merged]],
) -> AsyncIterator[tuple[int, Merged]]:
    """Give the records of all streams, each with its stream's number.

    A decision has the time of its record, which a worker wrote; a closed trade follows what it
    stands behind, whatever time its producer gave it.
    """
    heads: list[tuple[int, int, Merged]] = []
    for number, stream in enumerate(streams):
        if (head := await anext(stream, None)) is not None:
            heads.append((head.record.timestamp if head.decision else 0, number, head))
    heapq.heapify(heads)
    while heads:
        at, number, head = heapq.heappop(heads)
        yield number, head
        if (following := await anext(streams[number], None)) is not None:
            at = following.record.timestamp if following.decision else at
            heapq.heappush(heads, (at, number, following))


async def _clear_and_compare(migration: Migration, parts: Sequence[_OldPartition]) -> str:
    """Delete what the view holds of partitions that are no more; compare the tables."""
    settings = migration.new
    client = connect(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        timeout_s=BULK_TIMEOUT_S,
    )
    try:
        for number in range(migration.partitions, max(migration.counts.values())):
            keys = PartitionKeys(settings.meta_strategy_key_prefix, number)
            rows = [keys.row_prefix + str(name) for name in await client.hkeys(keys.contexts)]
            await client.delete(keys.watermark)  # not whole from here on
            for row in rows:
                await client.delete(row)
            await client.delete(*keys.fixed)
        reader = TableReader(client, settings.meta_strategy_key_prefix, migration.partitions)
        table = (await reader.table()).rows
    except REDIS_ERRORS as error:
        raise TransientError(f"Redis does not answer: {error}") from error
    finally:
        await client.aclose()
    before: dict[ContextKey, Row] = {}
    for part in parts:
        before |= part.state.table.rows
    differing = [key for key in before.keys() | table.keys() if before.get(key) != table.get(key)]
    if differing:
        return (
            f"warning: {len(differing)} of {len(before)} contexts differ from the old fold, "
            f"{differing[0].symbol} among them: ids, or what a partition remembers at most, met "
            "otherwise than before"
        )
    return f"all {len(before)} contexts are equal to the old fold's"
