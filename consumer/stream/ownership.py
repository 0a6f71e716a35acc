"""Who may commit for a partition: the owner named beside its offset in the group.

An owner is a transactional id that one worker uses for one assignment and nobody uses again. It is
kept in the metadata of the offsets: first by a claim, which the group takes only from a member of
its present generation, then by every transaction. So whoever takes a partition over reads there the
one id that could still commit for it, and shuts it out before it claims the partition itself.
"""

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, admin_client, stop_within
from consumer.words import plural

_ASK_TIMEOUT_S = 10.0
_SHUT_OUT_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 2.0
TRANSACTION_TIMEOUT_MS = 20_000
"""Above the longest commit, so that no fate is decided behind a worker's back [ms]."""


class _Committed(NamedTuple):
    """What the group keeps of a partition."""

    offset: int | None
    """None: nothing was committed yet."""
    owner: str
    """Who committed it; empty when it was no worker."""


def new_owner(group_id: str) -> str:
    """Name an owner that never was; all names of a group begin alike, for access rules."""
    return f"{_prefix(group_id)}{uuid.uuid4().hex}"


def _prefix(group_id: str) -> str:
    return f"{group_id}-worker-"


async def _committed(
    admin: AIOKafkaAdminClient, group_id: str, asked: list[TopicPartition]
) -> dict[TopicPartition, _Committed]:
    found = await admin.list_consumer_group_offsets(group_id, partitions=asked)
    if missing := [p for p in asked if p not in found]:
        # the client passes over an error of the whole answer: it must not look like a new group
        raise TransientError(
            f"group {group_id}: no answer about {len(missing)} {plural(len(missing), 'offset')}"
        )
    prefix = _prefix(group_id)
    return {
        partition: _Committed(
            entry.offset if entry.offset >= 0 else None,
            entry.metadata if entry.metadata and entry.metadata.startswith(prefix) else "",
        )
        for partition, entry in found.items()
    }


async def final_offsets(
    connection: KafkaConnection, group_id: str, partitions: Iterable[TopicPartition]
) -> Mapping[TopicPartition, int | None]:
    """Shut all former owners out, and end what they left open; then read the offsets.

    Only a member that the group has given the partitions may ask, or somebody who knows that the
    group has no members: then no new owner can come up meanwhile.

    Returns:
        The group's offset of each partition; None where nothing was committed yet.

    Raises:
        TransientError: Kafka does not answer.
    """
    asked = list(partitions)
    shut_out: set[str] = set()
    async with admin_client(connection) as admin:
        while True:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                found = await _committed(admin, group_id, asked)
            owners = {entry.owner for entry in found.values()} - shut_out - {""}
            if not owners:
                return {partition: entry.offset for partition, entry in found.items()}
            await asyncio.gather(*(_shut_out(connection, owner) for owner in sorted(owners)))
            shut_out |= owners  # what they had begun to commit is there now: read again


async def _shut_out(connection: KafkaConnection, owner: str) -> None:
    """Take over a transactional id: its transaction ends, and its producer is refused for ever."""
    producer = AIOKafkaProducer(
        **connection.options(),
        client_id=owner,
        transactional_id=owner,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        retry_backoff_ms=20,
    )
    try:
        async with asyncio.timeout(_SHUT_OUT_TIMEOUT_S):
            await producer.start()
    except KAFKA_ERRORS as error:
        raise TransientError(f"{owner} is not shut out: {describe(error)}") from error
    finally:
        await stop_within(producer, _STOP_TIMEOUT_S)
