"""A connection that is closed while a task is about to write to it is an answer that does not come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection

from consumer.errors import TransientError
from consumer.store.client import asking, connect

if TYPE_CHECKING:
    from consumer.local.stack import Stack

Closing = Callable[[AbstractConnection], Awaitable[None]]


async def by_the_client(connection: AbstractConnection) -> None:
    """As the cluster's client does with all connections when it looks for a node that went."""
    await connection.disconnect(nowait=True)


async def by_the_server(connection: AbstractConnection) -> None:
    """As when the server is killed: the transport is gone, the client has not noticed."""
    writer: Any = connection._writer  # what it writes to next
    writer.transport.abort()


@pytest.mark.parametrize("close", [by_the_client, by_the_server])
def test_a_connection_that_is_closed_before_it_is_written_to(
    stack: Stack, close: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the worker's loop, whose closed transports say so in their own way."""

    async def ask_twice() -> str:
        client = connect(stack.redis_url, cluster=False)
        try:
            await client.ping()
            with monkeypatch.context() as patch:
                patch.setattr(AbstractConnection, "check_health", close)
                with pytest.raises(TransientError, match=r"^Redis does not answer: "), asking():
                    await client.ping()
            with asking():
                return str(await client.ping())
        finally:
            await client.aclose()

    assert uvloop.run(ask_twice()) == "True"


async def test_an_error_of_our_own_is_not_taken_for_one_of_the_connection() -> None:
    with pytest.raises(AttributeError), asking():
        None.writelines  # type: ignore[attr-defined]  # noqa: B018
