"""Kafka clients that are started and stopped within a limit, and let on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer import fetcher
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from consumer.connection import KafkaConnection
from consumer.errors import TransientError, describe
from consumer.stream.header_names import KeptRecords, TolerantRecords
from consumer.stream.reachability import why_unreachable

KAFKA_ERRORS = (KafkaError, AssertionError, OSError)
"""What a client raises while Kafka does not answer, or not as it should; a TimeoutError is an OSError.

It states what it relies on as assertions. One fails while a broker that has just started names no brokers at
all; and after any of them, nothing of the client can be trusted.
"""
_TIMEOUT_S = 30.0
_CUT_OFF_S = 0.5
_TURNS = 20
"""Of the loop: with one, drains with the next transaction prepared meanwhile were no quicker."""
_CONNECTIONS = ("_client", "client")
_PARTS = ("_coordinator", "_fetcher", "_sender", "_message_accumulator", *_CONNECTIONS)
"""Of a consumer and of a producer: no public name of theirs ends their tasks one by one. The pinned
version is tested for these (tests/e2e/test_stops.py)."""
_NOT_ALLOWED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

# there is no option for it: the pinned version is tested for these (tests/unit/test_header_names.py)
fetcher.MemoryRecords, fetcher.PartitionRecords = KeptRecords, TolerantRecords


@contextlib.asynccontextmanager
async def admin_client(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect an admin client.

    Raises:
        TransientError: Kafka does not answer.
    """
    client = AIOKafkaAdminClient(**connection.options())
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await client.start()
        yield client
    except KafkaConnectionError as error:
        why = await why_unreachable(connection)
        raise TransientError(why or f"Kafka: {error}") from error
    except _NOT_ALLOWED as error:
        user = connection.sasl_username
        raise TransientError(
            f"Kafka: KAFKA_SASL_USERNAME={user} is not allowed: {error}"
        ) from error
    except KAFKA_ERRORS as error:
        raise TransientError(f"Kafka: {describe(error)}") from error
    finally:
        await client.close()


async def stop_within(client: Any, timeout_s: float) -> None:
    """Stop a consumer or producer that may be stuck; when the time is over it is cut off."""
    stopping = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({stopping}, timeout=timeout_s)
    if not done:
        await _cut_off(client, stopping)
    elif not stopping.cancelled():
        # a client that was fenced reports it again when it is stopped
        with contextlib.suppress(*KAFKA_ERRORS):
            stopping.result()


async def _cut_off(client: Any, stopping: asyncio.Future[None]) -> None:
    """End what a stop that was given up leaves running.

    The client ends its tasks one after the other, each in order. What it has not come to would go
    on for good: a heartbeat keeps a member in the group that never joins again, so that every
    rebalance waits for it, and a fetcher keeps what it has read.
    """
    parts = [id(part) for name in _PARTS if (part := getattr(client, name, None)) is not None]
    running = {task for task in asyncio.all_tasks() if id(_of_whom(task)) in parts}
    for task in (stopping, *running):
        task.cancel()
    await _settled(stopping, *running)
    for name in _CONNECTIONS:
        if (connections := getattr(client, name, None)) is not None:
            await _settled(connections.close())


async def _settled(*ends: Awaitable[Any]) -> None:
    """Wait for what is being ended, but not for ever; how it ends no longer matters."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CUT_OFF_S):
            await asyncio.gather(*ends, return_exceptions=True)


def _of_whom(task: asyncio.Task[Any]) -> object:
    """Give the object whose method a task runs."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return None if frame is None else frame.f_locals.get("self")


async def let_clients_on() -> None:
    """Let clients use what they were answered: they take several turns of the loop to their next request."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
