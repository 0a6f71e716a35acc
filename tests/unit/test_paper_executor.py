"""The demo's executor leaves no client behind, whenever it is ended."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING

import pytest

from consumer.local.paper_executor import PaperExecutor, Topics
from consumer.local.replay_tally import ReplayTally
from consumer.local.table_reader import TableReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def at_once(_: asyncio.Event) -> None:
    """Ctrl-C right after the worker was ready: the task has not made its first step."""


async def while_connecting(connected: asyncio.Event) -> None:
    """Ctrl-C while the broker does not answer."""
    await connected.wait()


@pytest.mark.parametrize("ended", [at_once, while_connecting])
async def test_an_executor_that_is_cancelled_leaves_no_client_open(
    ended: Callable[[asyncio.Event], Awaitable[None]],
) -> None:
    connected, closed = asyncio.Event(), asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        closed.set()

    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context["message"])
    )
    silent_broker = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = silent_broker.sockets[0].getsockname()[1]
    async with silent_broker, TableReader("redis://127.0.0.1:1", "test", "default") as table:
        executor = PaperExecutor(
            [],
            topics=Topics(),
            kafka={"bootstrap_servers": f"127.0.0.1:{port}"},
            table=table,
            tally=ReplayTally(0),
            run_id="test",
        )
        work = asyncio.create_task(executor.run())
        await ended(connected)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the loop is told as well
            del executor, work
            gc.collect()
        if connected.is_set():
            await closed.wait()

    assert reported == []
