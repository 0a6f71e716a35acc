"""Outputs and offsets of a batch, made visible together."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata, RecordMetadata

from consumer.connection import KafkaConnection
from consumer.errors import FencedError, TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, stop_within
from consumer.stream.ownership import TRANSACTION_TIMEOUT_MS, new_owner

START_TIMEOUT_S = 30.0
"""Longest wait for a producer id: the client itself tries for ever."""
COMMIT_TIMEOUT_S = 10.0
"""Longest transaction: over it, its fate is unknown and everything is given up."""
SLOW_COMMIT_S = 1.0
"""From here a request of this commit may still be under way and decide a later transaction of the
same epoch (KAFKA-17754): a new epoch shuts it out."""
_STOP_TIMEOUT_S = 2.0
_RETRY_BACKOFF_MS = 2  # the default of 100 ms is longer than the whole transaction
_MAX_BATCH_BYTES = 900_000  # a broker's limit is 1 MiB, overhead included
_MUCH = 100  # records that are written before they are sent

# The first request of a transaction is refused until the broker has written the markers of the one
# before; the client then waits this long, a module constant without an option. The pinned version
# is tested for it (tests/unit/test_transaction.py).
sender.BACKOFF_OVERRIDE = 0.002

_FENCED = (
    ProducerFenced,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    IllegalOperation,  # the client has ended the transaction while batches were being handed to it
)


_Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]
"""Key, value, headers and time [ms]."""


class Batch(NamedTuple):
    """Records for one partition of one topic."""

    topic: str
    partition: int | None
    """None: chosen by key."""
    records: Sequence[_Record]


class _Built(NamedTuple):
    """A batch as the client sends it."""

    builder: BatchBuilder
    records: int


class Packed(NamedTuple):
    """Records for one partition of one topic, written already."""

    topic: str
    partition: int
    built: Sequence[_Built]


class Sink(Protocol):
    """Sends what the batches of a worker's partitions lead to; used by one task."""

    @property
    def owner(self) -> str:
        """The transactional id it commits with; empty when its transactions are none."""

    async def start(self) -> None:
        """Get ready.

        Raises:
            TransientError: Kafka did not answer in time.
        """

    def pack(self, batches: Sequence[Batch | Packed]) -> Sequence[Batch | Packed]:
        """Write what is much in the client's form: records in pieces take twice as much, and are cold when it is sent."""

    async def publish(
        self, batches: Sequence[Batch | Packed], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        """Send batches, and the group's offsets with them.

        Returns:
            For each batch the offset behind the last record that went to its partition; None for
            an empty one, or one that was spread over partitions.

        Raises:
            FencedError: Somebody else owns a partition now, or it took too long.
            TransientError: Kafka did not answer in time; it is unknown what is visible.
        """

    async def stop(self) -> None:
        """Close the connections, within three seconds; what was not committed is aborted."""


class ProducerSink:
    """What both guarantees share: one producer, ready-made record batches."""

    def __init__(self, connection: KafkaConnection, group_id: str) -> None:
        self._connection = connection
        self._group_id = group_id
        self.client_id = new_owner(group_id)
        self._producer: AIOKafkaProducer | None = None

    def _options(self) -> dict[str, Any]:
        return {
            **self._connection.options(),
            "client_id": self.client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "retry_backoff_ms": _RETRY_BACKOFF_MS,
            "max_batch_size": _MAX_BATCH_BYTES,
        }

    async def start(self) -> None:
        """See Sink."""
        self._producer = AIOKafkaProducer(**self._options())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._producer.start()
        except BaseException as error:
            await self.stop()
            if isinstance(error, KAFKA_ERRORS):
                raise TransientError(
                    f"no producer for {self.client_id}: {describe(error)}"
                ) from error
            raise

    async def stop(self) -> None:
        """See Sink."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_within(producer, _STOP_TIMEOUT_S)

    @property
    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise TransientError(f"{self.client_id}: its producer is stopped")
        return self._producer

    def pack(self, batches: Sequence[Batch | Packed]) -> Sequence[Batch | Packed]:
        """See Sink."""
        return [
            batch
            if isinstance(batch, Packed) or batch.partition is None or len(batch.records) < _MUCH
            else Packed(batch.topic, batch.partition, self._built(batch.records))
            for batch in batches
        ]

    async def send(self, batches: Sequence[Batch | Packed]) -> list[int | None]:
        """Send batches and wait for their acknowledgement."""
        producer = self._started
        spread: list[asyncio.Future[RecordMetadata]] = []
        logs: dict[tuple[str, int], list[Sequence[_Record]]] = {}
        built: dict[tuple[str, int], list[_Built]] = {}
        for batch in batches:
            if isinstance(batch, Packed):
                built.setdefault((batch.topic, batch.partition), []).extend(batch.built)
            elif batch.partition is not None:
                if batch.records:
                    logs.setdefault((batch.topic, batch.partition), []).append(batch.records)
            else:
                for key, value, headers, timestamp_ms in batch.records:
                    spread.append(
                        await producer.send(
                            batch.topic, value, key=key, headers=headers, timestamp_ms=timestamp_ms
                        )
                    )
        # what goes to one log goes together, and the first batches of all logs go before any second one:
        # the client takes a second batch for a log only when the first has gone out
        for log, parts in logs.items():
            built.setdefault(log, []).extend(self._built(chain(*parts)))
        sent: dict[tuple[str, int], list[asyncio.Future[RecordMetadata]]] = {
            log: [] for log in built
        }
        for nth in zip_longest(*built.values()):
            for (topic, partition), one in zip(built, nth, strict=True):
                if one is not None:
                    future = await producer.send_batch(one.builder, topic, partition=partition)
                    sent[topic, partition].append(future)
        # awaited before offsets are added: the broker refuses records of a transaction whose
        # offsets are being added at that moment, and the client would wait and send them again
        await asyncio.gather(*spread, *chain(*sent.values()))
        ends = {
            log: futures[-1].result().offset + built[log][-1].records
            for log, futures in sent.items()
        }
        return [
            None
            if batch.partition is None or (isinstance(batch, Batch) and not batch.records)
            else ends[batch.topic, batch.partition]
            for batch in batches
        ]

    def _built(self, records: Iterable[_Record]) -> list[_Built]:
        """Write the batches of the client for one log; at least one record."""
        producer = self._started
        built: list[_Built] = []
        builder, count = producer.create_batch(), 0
        for key, value, headers, timestamp_ms in records:
            appended = builder.append(key=key, value=value, timestamp=timestamp_ms, headers=headers)
            if appended is None:  # full: begin the next one with this record
                built.append(_Built(builder, count))
                builder, count = producer.create_batch(), 0
                builder.append(key=key, value=value, timestamp=timestamp_ms, headers=headers)
            count += 1
        builder.close()
        built.append(_Built(builder, count))
        return built


class TransactionalSink(ProducerSink):
    """Exactly once: outputs and offsets of all batches in one transaction.

    This client sends no generation of the group with its offsets. What shuts a former owner out is
    its id, which it leaves beside each offset: see `ownership`.
    """

    @property
    def owner(self) -> str:
        """See Sink."""
        return self.client_id

    def _options(self) -> dict[str, Any]:
        return {
            **super()._options(),
            "transactional_id": self.client_id,
            "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
        }

    async def publish(
        self, batches: Sequence[Batch | Packed], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        """Send batches and offsets in one transaction; see Sink."""
        producer = self._started
        named = {p: OffsetAndMetadata(offset, self.client_id) for p, offset in offsets.items()}
        with kafka_errors_translated(self.client_id):
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await producer.begin_transaction()
                ends = await self.send(batches)
                await producer.send_offsets_to_transaction(named, self._group_id)
                await producer.commit_transaction()
        return ends


@contextlib.contextmanager
def kafka_errors_translated(name: str) -> Any:
    """Raise what a client raises as errors of our own, in the name of an owner."""
    try:
        yield
    except _FENCED as error:
        raise FencedError(f"{name}: {type(error).__name__}") from error
    except TimeoutError as error:
        raise TransientError(f"{name}: no commit within {COMMIT_TIMEOUT_S:g} s") from error
    except KAFKA_ERRORS as error:
        raise TransientError(f"{name}: {describe(error)}") from error
