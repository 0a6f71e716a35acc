"""One Kafka and one Redis for all processes of a test run: a broker costs ten seconds of a core."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from consumer.local.stack import Stack, StackError, running_stack
from tests.support.kafka_io import eventually

_POLL_S = 0.1
_START_S = 60.0


class CommonServers(threading.Thread):
    """Servers that start when the first process of the run asks for them, and end with the run.

    Args:
        place: Directory in which the processes ask and find.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(name="common servers", daemon=True)
        self._place = place
        self._is_over = threading.Event()

    def run(self) -> None:
        """Wait to be asked; then serve until it is over."""
        while not self._is_over.wait(_POLL_S):
            if (self._place / "wanted").exists():
                asyncio.run(self._serve())
                return

    async def _serve(self) -> None:
        try:
            async with running_stack() as stack:
                self._tell({"servers": [stack.bootstrap_servers, stack.redis_url]})
                while not self._is_over.is_set():
                    await asyncio.sleep(_POLL_S)
        except StackError as error:
            self._tell({"error": str(error)})

    def _tell(self, what: dict[str, str | list[str]]) -> None:
        draft = self._place / "draft"
        draft.write_text(json.dumps(what))
        draft.rename(self._place / "answer")

    def end(self) -> None:
        """End the servers, if they ever started."""
        self._is_over.set()
        self.join()


@asynccontextmanager
async def _common_stack(place: Path) -> AsyncIterator[Stack]:
    """Ask for the servers of the run, and use them."""
    (place / "wanted").touch()
    answer = place / "answer"
    await eventually(answer.exists, timeout_s=_START_S, what="the servers of the run")
    told = json.loads(answer.read_text())
    if "error" in told:
        raise StackError(told["error"])
    bootstrap_servers, redis_url = told["servers"]
    async with Stack(bootstrap_servers=bootstrap_servers, redis_url=redis_url) as stack:
        yield stack


class _Shared:
    """The stack of this process: the fixtures of its folders share it by counting its users."""

    context: AbstractAsyncContextManager[Stack]
    stack: Stack | None = None
    users = 0


@asynccontextmanager
async def session_stack(place: Path | None) -> AsyncIterator[Stack]:
    """Give the servers that the environment names; start the ones it does not name, once.

    Args:
        place: Where `CommonServers` are to be asked for; None: this is the only process.
    """
    if _Shared.stack is None:
        context = running_stack() if place is None else _common_stack(place)
        try:
            _Shared.stack = await context.__aenter__()
        except StackError as error:
            pytest.skip(f"no Kafka and Redis to test against: {error}")
        _Shared.context = context
    _Shared.users += 1
    try:
        yield _Shared.stack
    finally:
        _Shared.users -= 1
        if _Shared.users == 0:
            _Shared.stack = None
            await _Shared.context.__aexit__(None, None, None)
