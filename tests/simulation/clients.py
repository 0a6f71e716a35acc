"""What all simulated clients share, and the one for administrators."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from tests.simulation.cluster import Cluster
from tests.simulation.loop import Process

_RETRY_S = 0.1


def nothing() -> None:
    """Do nothing, and take the time of it."""


class Client:
    """A connection of a process to the cluster.

    Args:
        bootstrap_servers: Name of the process.
    """

    def __init__(self, *, bootstrap_servers: str, **options: Any) -> None:
        self.cluster = Cluster.current
        self.process: Process = self.cluster.processes[bootstrap_servers]
        self._options = options
        self._is_stopped = False

    def ask(
        self, what: str, request: Callable[[], Any], *, ends: bool = False, is_read: bool = False
    ) -> "asyncio.Future[Any]":
        """Ask until there is an answer, as the client does."""
        return self.cluster.network.call(
            self.process, what, request, retries=True, ends=ends, is_read=is_read
        )

    async def bootstrap(self) -> None:
        if self.cluster.network.is_away:
            await asyncio.sleep(_RETRY_S)
            raise KafkaConnectionError("unable to bootstrap")


class FakeAdmin(Client):
    """AIOKafkaAdminClient."""

    async def start(self) -> None:
        """Connect."""
        await self.bootstrap()
        await self.cluster.network.call(self.process, "metadata", nothing, is_read=True)

    async def close(self) -> None:
        """Go."""

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Give the group's offsets; -1 where there is none."""
        offsets = self.cluster.broker.offsets
        found: dict[TopicPartition, OffsetAndMetadata] = await self.cluster.network.call(
            self.process,
            "offsets?",
            lambda: {
                p: OffsetAndMetadata(offsets[p].offset, offsets[p].metadata)
                if p in offsets
                else OffsetAndMetadata(-1, "")
                for p in partitions
            },
        )
        return found
