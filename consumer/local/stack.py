"""Kafka and Redis for demo and tests: started here, or the ones the environment names."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from consumer.local.errors import StackError
from consumer.local.kafka import KafkaBroker, default_cache
from consumer.local.locks import try_lock
from consumer.local.process import POLL_S
from consumer.local.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType
    from typing import Self

    from consumer.local.server import LocalServer

__all__ = ["Stack", "StackError", "running_stack"]

# The servers of a stack that was killed hold its directory until they are gone, too: 0.1 s [s].
_LOCK_LIMIT_S = 2.0
_WATCH_S = 0.2


class Stack:
    """A broker and a Redis-protocol server on loopback, with all they write in one directory.

    They end with this process, however it ends (see `guard.py`). Use it as `async with Stack() as
    stack`. A server whose address is given is used as it is and never started, stopped or emptied.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        cache: Path | None = None,
        kafka_port: int = 0,
        redis_port: int = 0,
        bootstrap_servers: str = "",
        redis_url: str = "",
        is_long_lived: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe the stack; nothing is started.

        Args:
            directory: Keeps data and logs from run to run; by default a temporary one, removed at the
                stop.
            cache: Where the broker's jars are kept; by default in the user's cache directory.
            kafka_port: The broker's port; 0 for any free one.
            redis_port: The Redis server's port; 0 for any free one.
            bootstrap_servers: A Kafka to use instead of starting one.
            redis_url: A Redis to use instead of starting one.
            is_long_lived: Whether the broker is set up for throughput rather than for a quick start.
            report: Is told, in one line, what takes long.
        """
        self._wanted_directory = directory
        self._cache = (cache or default_cache()).resolve()
        self._kafka_port = kafka_port
        self._redis_port = redis_port
        self._bootstrap_servers = bootstrap_servers
        self._redis_url = redis_url
        self._is_long_lived = is_long_lived
        self._report = report
        self._directory: Path | None = None
        self._lock: IO[bytes] | None = None
        self._kafka: KafkaBroker | None = None
        self._redis: RedisServer | None = None

    @classmethod
    def from_environment(
        cls,
        directory: Path | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        cache: Path | None = None,
        is_long_lived: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Describe a stack that uses the servers `KAFKA_BOOTSTRAP_SERVERS` and `REDIS_URL` name.

        What is not named, or empty, is started.
        """
        return cls(
            directory,
            cache=cache,
            bootstrap_servers=environ.get("KAFKA_BOOTSTRAP_SERVERS", ""),
            redis_url=environ.get("REDIS_URL", ""),
            is_long_lived=is_long_lived,
            report=report,
        )

    @property
    def is_external(self) -> bool:
        """Whether both servers are somebody else's, and none is started."""
        return bool(self._bootstrap_servers and self._redis_url)

    @property
    def bootstrap_servers(self) -> str:
        """What `KAFKA_BOOTSTRAP_SERVERS` takes."""
        return self._bootstrap_servers or self.kafka.address

    @property
    def redis_url(self) -> str:
        """What `REDIS_URL` takes."""
        return self._redis_url or self.redis.url

    @property
    def directory(self) -> Path:
        """Where the running stack keeps everything."""
        if self._directory is None:
            raise StackError("the stack does not run")
        return self._directory

    @property
    def logs(self) -> Path:
        """Directory of the servers' logs."""
        return self.directory / "logs"

    @property
    def kafka(self) -> KafkaBroker:
        """The broker, to be paused, killed and restarted.

        Raises:
            StackError: This stack did not start one.
        """
        if self._kafka is None:
            raise StackError("this stack started no Kafka broker")
        return self._kafka

    @property
    def redis(self) -> RedisServer:
        """The Redis server, to be paused, killed, restarted and emptied.

        Raises:
            StackError: This stack did not start one.
        """
        if self._redis is None:
            raise StackError("this stack started no Redis server")
        return self._redis

    async def start(self) -> None:
        """Start both servers at the same time and wait until both serve; once per stack.

        Raises:
            StackError: One cannot be started; then none is left running.
        """
        if self._directory is not None:
            raise StackError("the stack runs already")
        try:
            await self._open_directory()
            holds = [self._lock.fileno()] if self._lock is not None else []
            if not self._bootstrap_servers:
                self._kafka = KafkaBroker(
                    self.directory / "kafka",
                    self.logs / "kafka.log",
                    cache=self._cache,
                    port=self._kafka_port,
                    holds=holds,
                    is_long_lived=self._is_long_lived,
                    report=self._report,
                )
            if not self._redis_url:
                self._redis = RedisServer(
                    self.directory / "redis",
                    self.logs / "redis.log",
                    port=self._redis_port,
                    holds=holds,
                )
            await self._start_servers()
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """Stop both servers in order, within 10 s; a temporary directory is removed."""
        try:
            await asyncio.gather(*(server.stop() for server in self._servers))
        finally:
            self.kill()

    def kill(self) -> None:
        """End everything at once, without an event loop; what is not on disk is lost."""
        for server in self._servers:
            server.abandon()
        self._kafka = self._redis = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._directory is not None and self._wanted_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    async def watch(self) -> None:
        """Wait for a server to end by itself; returns by cancellation or exception only.

        Raises:
            StackError: One ended.
        """
        while True:
            for server in self._servers:
                if not server.is_running:
                    raise StackError(f"{server.name} ended unasked; see {server.log}")
            await asyncio.sleep(_WATCH_S)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def _servers(self) -> list[LocalServer]:
        return [server for server in (self._kafka, self._redis) if server is not None]

    async def _open_directory(self) -> None:
        wanted = self._wanted_directory
        try:
            directory = (
                Path(tempfile.mkdtemp(prefix="meta-strategy-"))
                if wanted is None
                else wanted.resolve()
            )
            self._directory = directory
            deadline = time.monotonic() + _LOCK_LIMIT_S
            while (lock := try_lock(directory / "lock")) is None:
                if time.monotonic() > deadline:
                    raise StackError(f"another stack runs in {directory}")
                await asyncio.sleep(POLL_S)
        except OSError as error:
            raise StackError(
                f"cannot keep the stack in {error.filename}: {error.strerror}"
            ) from error
        self._lock = lock

    async def _start_servers(self) -> None:
        failures: list[StackError] = []

        async def start(server: LocalServer) -> None:
            try:
                await server.start()
            except StackError as error:
                failures.append(error)
                raise
            except OSError as error:
                failures.append(StackError(f"cannot start {server.name}: {error}"))
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(start(server))
        except* (StackError, OSError):
            pass
        if failures:
            raise failures[0]


@asynccontextmanager
async def running_stack(
    directory: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    cache: Path | None = None,
    is_long_lived: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Stack]:
    """Give the servers the environment names, and start the ones it does not name.

    Args:
        directory: Keeps data and logs from run to run; by default a temporary one.
        environ: Where `KAFKA_BOOTSTRAP_SERVERS` and `REDIS_URL` are looked up.
        cache: Where the broker's jars are kept; by default in the user's cache directory.
        is_long_lived: Whether the broker is set up for throughput rather than for a quick start.
        report: Is told, in one line, what takes long.

    Raises:
        StackError: A server cannot be started.
    """
    stack = Stack.from_environment(
        directory, environ=environ, cache=cache, is_long_lived=is_long_lived, report=report
    )
    async with stack:
        yield stack
