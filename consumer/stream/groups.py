"""What the consumer group has done, seen from outside."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    for_code,
)

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream.clients import KAFKA_ERRORS, admin_client, stop_within

_TIMEOUT_S = 30.0
_AGAIN_S = 0.1
_NOT_YET_S = 10.0
_NOT_YET = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


async def has_members(connection: KafkaConnection, group_id: str) -> bool:
    """Tell whether a worker of the group is running.

    Raises:
        TransientError: Kafka does not answer, or this user may not know.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _NOT_YET_S
    async with admin_client(connection) as admin, asyncio.timeout(_TIMEOUT_S):
        while True:
            try:
                return await _has_members(admin, group_id)
            except _NOT_YET:
                if loop.time() > until:
                    raise
            # brokers that have just started make the coordinators' topic when they are first asked
            await asyncio.sleep(_AGAIN_S)


async def _has_members(admin: AIOKafkaAdminClient, group_id: str) -> bool:
    for response in await admin.describe_consumer_groups([group_id]):
        for error_code, _, state, *_ in response.groups:
            if error_code:  # no answer must not look like no members
                raise for_code(error_code)
            if state not in {"Empty", "Dead", ""}:
                return True
    return False


async def commit_offsets(
    connection: KafkaConnection, group_id: str, offsets: Mapping[TopicPartition, int]
) -> None:
    """Let a group without members go on at these offsets.

    Raises:
        TransientError: Kafka does not answer, or the group has members.
    """
    consumer = AIOKafkaConsumer(**connection.options(), group_id=group_id, enable_auto_commit=False)
    consumer.assign(list(offsets))
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await consumer.start()
            await consumer.commit(dict(offsets))
    except KAFKA_ERRORS as error:
        raise TransientError(f"Kafka: {describe(error)}") from error
    finally:
        await stop_within(consumer, 2.0)
