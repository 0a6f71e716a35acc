"""What the old topics hold: how far it was worked off, and how far it was copied."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import RefusedError
from consumer.merging import Merged
from consumer.migrate.plan import Migration
from consumer.ports import Record
from consumer.rebuild import Logs, logs_of, merged
from consumer.settings import Settings
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.stream.ownership import final_offsets


@dataclass(slots=True)
class OldPartition:
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
    late: list[Record] = field(default_factory=list)
    """Input at or beyond `upto` that a decision has seen and the fold refuses."""

    def merged(self) -> AsyncIterator[Merged]:
        """Give its records as they were folded live."""
        return merged(self.reader, self.logs, start=self.start, end=self.end, upto=self.upto)


async def open_old(
    migration: Migration, stack: AsyncExitStack, ends: LogEnds
) -> list[OldPartition]:
    """Find out where each old partition begins and ends, and where the group goes on in it.

    Former owners are shut out by that.

    Args:
        migration: That begins.
        stack: Closes the partitions' readers.
        ends: Asked for the bounds of the logs.

    Raises:
        RefusedError: The group stands beyond the end of a log.
        TransientError: Kafka does not answer.
    """
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
        next_offsets = {
            log: _goes_on(old, log, committed.get(log), *found)
            for log, found in zip((*logs, signals_log), bounds, strict=True)
            if log is not None and log != logs.decisions
        }
        upto = [0 if log is None else next_offsets.get(log, 0) for log in logs]
        parts.append(
            OldPartition(
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
