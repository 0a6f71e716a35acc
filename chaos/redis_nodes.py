"""A Redis, alone or as a node of a cluster, whose files can be lost and put back."""

import asyncio
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from consumer.local.redis_server import RedisServer
from consumer.local.server import HOST, free_port

SECRET = f"canary-{secrets.token_hex(8)}"
"""Redis' password: found in no output (I13)."""
SLOTS = 16_384
_NODE_TIMEOUT_MS = 2_000


class ChaosRedis(RedisServer):
    """A Redis with a password, alone or as a node of a cluster, whose files can be put back.

    Args:
        directory: Where it keeps everything.
        log: File its output is appended to.
        is_node: Whether it is one of a cluster.
        proxy_port: What workers are told.
    """

    def __init__(self, directory: Path, log: Path, *, is_node: bool, proxy_port: int) -> None:
        super().__init__(directory, log, port=free_port())
        self.proxy_port = proxy_port
        self._is_node = is_node
        self._bus_port = free_port()

    @property
    def url(self) -> str:
        """What a client with the password connects to."""
        return f"redis://:{SECRET}@{self.address}"

    def _command(self) -> list[str]:
        options = ["--requirepass", SECRET]
        if self._is_node:
            options += [
                *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
                *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
                *("--cluster-require-full-coverage", "no"),
                *("--cluster-port", str(self._bus_port)),
            ]
        return [*super()._command(), *options]

    @property
    def bus_port(self) -> int:
        """Where other nodes meet it."""
        return self._bus_port

    def keep_files(self) -> None:
        """Copy its files as they are, to be put back later."""
        shutil.rmtree(self._kept, ignore_errors=True)
        # the server writes meanwhile: the copy is what a disk snapshot would be
        shutil.copytree(self._data, self._kept)

    async def roll_back(self) -> None:
        """Kill it, and start it with the files that were kept."""
        self.kill()
        self._replace(self._kept if self._kept.exists() else None)
        await self.start()

    async def lose_files(self) -> None:
        """Kill it, and start it empty; a node still knows its cluster."""
        self.kill()
        self._replace(None)
        await self.start()

    def _replace(self, source: Path | None) -> None:
        nodes = self._data / "nodes.conf"
        known = nodes.read_bytes() if nodes.exists() else None
        shutil.rmtree(self._data)
        if source is None:
            self._data.mkdir()
        else:
            shutil.copytree(source, self._data)
        if known is not None:
            nodes.write_bytes(known)

    @property
    def _kept(self) -> Path:
        return self.directory / "kept"


async def form_cluster(nodes: Sequence[ChaosRedis], holders: int) -> None:
    """Let nodes meet, and share all slots among the first ones.

    Args:
        nodes: As they started.
        holders: How many hold slots, at least one.
    """
    share = SLOTS // holders
    for number, node in enumerate(nodes):
        if number < holders:
            end = SLOTS - 1 if number == holders - 1 else (number + 1) * share - 1
            await ask(node, "CLUSTER ADDSLOTSRANGE", number * share, end)
        await ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        await ask(nodes[0], "CLUSTER MEET", HOST, node.port, node.bus_port)
    for node in nodes:
        while True:
            info: dict[str, str] = await ask(node, "CLUSTER INFO")
            known = int(info["cluster_known_nodes"])
            if info["cluster_state"] == "ok" and known == len(nodes):
                break
            await asyncio.sleep(0.1)


async def ask(node: ChaosRedis, *words: str | int) -> Any:
    """Send a command to one node."""
    async with Redis.from_url(node.url, decode_responses=True) as client:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's
