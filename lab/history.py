"""What a log had told by the time of a decision."""

from typing import Self

from aiokafka import TopicPartition

from consumer.domain.pooled import NOWHERE, Elsewhere
from consumer.errors import RefusedError
from consumer.pool import POOL_PARTITION, PoolLog
from consumer.settings import Settings
from consumer.stream.log_reader import LogReader
from consumer.stream.read_record import ReadRecord


class LogHistory:
    """The records of a log, given out in order.

    Args:
        reader: Of the log.
        log: Which one.
        first: Where to begin.
        last: Where it ends.
    """

    def __init__(self, reader: LogReader, log: TopicPartition, first: int, last: int) -> None:
        self.topic, self.first = log.topic, first
        self._records = reader.read(log, first, last)
        self._ahead: ReadRecord | None = None

    async def up_to(self, offset: int) -> list[ReadRecord]:
        """Give the next records up to and with an offset."""
        found: list[ReadRecord] = []
        while True:
            record = self._ahead or await anext(self._records, None)
            self._ahead = None
            if record is None:
                return found
            if record.offset > offset:
                self._ahead = record
                return found
            found.append(record)


class PoolHistory:
    """What a partition could know of all others, at each number that a decision names.

    Args:
        settings: Of the worker, the pool's topic among them.
        partition: Which one.
        fingerprint: Of the fold and its logs; what was folded otherwise says nothing.
    """

    def __init__(self, settings: Settings, partition: int, fingerprint: str) -> None:
        self._topic = settings.kafka_pool_topic
        self._partition = partition
        self._decay = settings.fold.decay
        self._fingerprint = fingerprint
        self._log = TopicPartition(self._topic, POOL_PARTITION)
        self._reader = LogReader(settings.connection, [self._log])
        self._records: LogHistory | None = None
        self._taken = PoolLog(fingerprint)
        self._elsewhere = NOWHERE

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._reader.close(2.0)

    async def at(self, number: int | None) -> Elsewhere:
        """Give what was known at a number; None: nothing was pooled.

        Raises:
            RefusedError: The log does not go back to its beginning.
            TransientError: Kafka does not answer.
        """
        if number is None or not self._topic:
            return NOWHERE
        if self._records is None or number < self._taken.pool.number:
            first, last = await self._reader.bounds(self._log)
            if first:
                raise RefusedError(
                    f"{self._topic} begins at offset {first}: what partitions told each other before "
                    "cannot be known"
                )
            self._records = LogHistory(self._reader, self._log, first, last)
            self._taken = PoolLog(self._fingerprint)
        if records := await self._records.up_to(number - 1):
            self._taken.take(records)
        if self._elsewhere.pool is not self._taken.pool:
            self._elsewhere = Elsewhere(self._taken.pool, self._partition, self._decay)
        return self._elsewhere
