"""Refused records: read, and sent again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition

from consumer.connection import KafkaConnection
from consumer.errors import RefusedError, TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, admin_client, stop_within
from consumer.stream.log_reader import LogReader
from consumer.stream.read_record import ReadRecord
from consumer.stream.topics import partition_counts

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record, by what its headers tell; a stranger may have written them."""

    topic: str
    """Empty when it tells none."""
    partition: int | None
    offset: int | None
    reason: str
    error: str
    ts: str
    record: ReadRecord

    @property
    def original_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers it came with."""
        return [(k, v) for k, v in self.record.headers if not k.startswith("dlq.")]


def _parse(record: ReadRecord) -> DeadLetter:
    headers = {k: (v or b"").decode(errors="replace") for k, v in record.headers}
    return DeadLetter(
        headers.get("dlq.topic", ""),
        _number(headers.get("dlq.partition", "")),
        _number(headers.get("dlq.offset", "")),
        headers.get("dlq.reason", ""),
        headers.get("dlq.error", ""),
        headers.get("dlq.ts", ""),
        record,
    )


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


async def read_dead_letters(connection: KafkaConnection, topic: str) -> AsyncIterator[DeadLetter]:
    """Read all dead letters that are there now, partition by partition, oldest first.

    Raises:
        RefusedError: The topic is missing.
        TransientError: Kafka does not answer.
    """
    async with admin_client(connection) as admin:
        count = (await partition_counts(admin, [topic]))[topic]
    if count is None:
        raise RefusedError(f"topic {topic} is missing: run `meta-strategy topics create`")
    partitions = [TopicPartition(topic, number) for number in range(count)]
    async with LogReader(connection, partitions) as reader:
        # where it can read to: a worker at work has a transaction open
        begins, ends = await reader.begins(partitions), await reader.ends(partitions)
        for partition in partitions:
            async for record in reader.read(partition, begins[partition], ends[partition]):
                yield _parse(record)


async def resend(connection: KafkaConnection, letters: list[DeadLetter]) -> int:
    """Send dead letters to the topics they came from, to the partitions of their keys.

    The worker counts nothing twice: what it refused is not among what it has seen, and what was
    answered meanwhile is a repeat.

    Raises:
        TransientError: Kafka does not answer; some may have been sent.
    """
    producer = AIOKafkaProducer(**connection.options(), enable_idempotence=True)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await producer.start()
        futures = [
            await producer.send(
                letter.topic,
                letter.record.value,
                key=letter.record.key,
                headers=letter.original_headers,
            )
            for letter in letters
        ]
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(*futures)
    except KAFKA_ERRORS as error:
        raise TransientError(f"Kafka: {describe(error)}") from error
    finally:
        await stop_within(producer, 5.0)
    return len(letters)
