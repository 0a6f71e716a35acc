"""The old logs sent to new topics, by key."""

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from consumer.decision_log import LoggedDecision, with_offsets
from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import FoldResult
from consumer.errors import BadMessageError, RefusedError
from consumer.learn import follow, learn
from consumer.merging import Merged, MergedCandle, MergedDecision, MergedTrade
from consumer.migrate.old import OldPartition
from consumer.migrate.plan import Migration
from consumer.ports import Record
from consumer.rebuild import logs_of
from consumer.stream.dense_producer import DenseProducer, partition_of
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.words import plural
from schemas import Candle, TradeClosed

_ROUNDS = 3
"""Looks for input that came meanwhile; after as many, its producers were clearly not stopped."""


@dataclass(slots=True)
class Counts:
    """What was sent, and what was not."""

    copied: Counter[str] = field(default_factory=Counter)
    """By old topic: what was worked off, and the decisions."""
    refused: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    """By old topic."""
    deleted: int = 0
    misplaced: int = 0

    def lines(self) -> Iterator[str]:
        """Say it to people, a line each."""
        yield (
            f"copied: {_listed(self.copied)}; {self.refused} "
            f"{plural(self.refused, 'record that is no message', 'records that are no messages')} "
            "left to the dead letters"
        )
        yield f"copied, waiting to be worked off: {_listed(self.waiting)}"
        if self.deleted:
            yield (
                f"warning: retention had deleted {self.deleted} {plural(self.deleted, 'record')} of "
                f"the logs: what was learned from {plural(self.deleted, 'it', 'them')} is not in the "
                "new table"
            )
        if self.misplaced:
            yield (
                f"warning: {self.misplaced} {plural(self.misplaced, 'record')} did not lie where "
                f"Kafka's default partitioner puts {plural(self.misplaced, 'its key', 'their keys')}: "
                "set partitioner=murmur2_random in every producer before it writes to the new topics"
            )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {topic}" for topic, count in counts.items()) or "nothing"


class Copy:
    """Sends what the old partitions hold to the new ones."""

    def __init__(
        self,
        migration: Migration,
        producer: DenseProducer,
        ends: LogEnds,
        counts: Counts,
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

    async def worked_off(self, parts: Sequence[OldPartition]) -> None:
        """Copy the decisions, and the closed trades that the group or a decision has seen.

        Each old partition keeps its order. Among each other they go by the time of their
        decisions, so that what a partition remembers of the newest is the newest afterwards, too.
        """
        for part in parts:
            self._on_total(part.end.decisions - part.start.decisions)
            self._on_total(sum(part.upto) - sum(part.start[1:]))
        async for number, one in by_time([p.merged() for p in parts]):
            if isinstance(one, MergedDecision):
                await self._decision(parts[number], one.record, one.decision)
            else:
                await self._input(parts[number], one)
            self._on_progress(1)
        await self._producer.flush()

    async def _input(self, part: OldPartition, one: MergedTrade | MergedCandle) -> None:
        record = one.record
        place = TopicPartition(record.topic, record.partition)
        part.next_offsets[place] = max(part.next_offsets[place], record.offset + 1)
        message: TradeClosed | Candle | BadMessageError
        result: FoldResult | CandleOutcome | BadMessageError
        if isinstance(one, MergedTrade):
            message, upto = one.trade, part.upto.trades
            result = learn(
                part.state, one.trade, offset=record.offset, timestamp_ms=record.timestamp
            )
        else:
            message, upto = one.candle, part.upto.candles
            result = follow(part.state, one.candle, offset=record.offset)
        if isinstance(result, BadMessageError) and record.offset >= upto:
            part.late.append(record)  # it has no dead letter yet
        elif isinstance(message, BadMessageError):
            self._counts.refused += 1
        else:
            there = self._log(self._names[record.topic], record, message.symbol.encode())
            await self._producer.send(there, record, record.value)
            self._counts.copied[record.topic] += 1

    async def _decision(
        self, part: OldPartition, record: Record, decision: LoggedDecision | None
    ) -> None:
        value, key = record.value, record.key
        if decision is not None and value is not None:
            part.state.admit(
                decision.remembered, is_exploration=decision.is_exploration, entry=decision.entry
            )
            key = decision.remembered.symbol.encode()
            logs = logs_of(self._new.topics, partition_of(key, self._partitions))
            value = with_offsets(
                value,
                self._producer.next_offset(logs.trades),
                None if logs.candles is None else self._producer.next_offset(logs.candles),
            )
        await self._producer.send(self._log(self._names[record.topic], record, key), record, value)
        self._counts.copied[record.topic] += 1

    def _log(self, topic: str, record: Record, key: bytes | None) -> TopicPartition:
        if key is None:  # nobody's in particular
            return TopicPartition(topic, record.partition % self._partitions)
        if self._are_counts_equal:
            there = self._old_counts[record.topic]
            self._counts.misplaced += record.partition != partition_of(key, there)
        return TopicPartition(topic, partition_of(key, self._partitions))

    # What was not

    async def waiting(self, parts: Sequence[OldPartition]) -> None:
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

    async def grown(self, parts: Sequence[OldPartition]) -> int:
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

    async def _wait(self, record: Record) -> None:
        there = self._log(self._names[record.topic], record, record.key)
        await self._producer.send(there, record, record.value)
        self._counts.waiting[record.topic] += 1


def _decided_ms(one: Merged) -> int | None:
    """Give the time of a decision; None for anything else."""
    if isinstance(one, MergedDecision) and one.decision is not None:
        return int(one.record.timestamp)
    return None


async def by_time(
    streams: Sequence[AsyncIterator[Merged]],
) -> AsyncIterator[tuple[int, Merged]]:
    """Give the records of all streams, each with its stream's number.

    A decision has the time of its record, which a worker wrote; a closed trade follows what it
    stands behind, whatever time its producer gave it.
    """
    heads: list[tuple[int, int, Merged]] = []
    for number, stream in enumerate(streams):
        if (head := await anext(stream, None)) is not None:
            heads.append((_decided_ms(head) or 0, number, head))
    heapq.heapify(heads)
    while heads:
        at, number, head = heapq.heappop(heads)
        yield number, head
        if (following := await anext(streams[number], None)) is not None:
            heapq.heappush(heads, (_decided_ms(following) or at, number, following))
