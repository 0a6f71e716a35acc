"""Kafka clients that are started and stopped within a limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
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
from consumer.errors import TransientError
from consumer.stream.header_names import KeptRecords, TolerantRecords
from consumer.stream.reachability import why_unreachable

_TIMEOUT_S = 30.0
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
    except (KafkaError, TimeoutError, OSError) as error:
        raise TransientError(f"Kafka: {error or type(error).__name__}") from error
    finally:
        await client.close()


async def stop_within(client: Any, timeout_s: float) -> None:
    """Stop a client that may be stuck; when the time is over it is left to the end of the loop."""
    stopping = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({stopping}, timeout=timeout_s)
    if not done:
        stopping.cancel()
    elif not stopping.cancelled():
        # a client that was fenced reports it again when it is stopped
        with contextlib.suppress(KafkaError, AssertionError, OSError):
            stopping.result()
