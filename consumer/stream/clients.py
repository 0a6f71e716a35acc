"""Kafka clients that are started and stopped within a limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumer.connection import KafkaConnection
from consumer.errors import TransientError

_TIMEOUT_S = 30.0


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
