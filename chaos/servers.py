"""The servers that are hurt: one broker or three, one Redis or a cluster of three, with proxies before them."""

import asyncio
import shutil
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Self

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from chaos.brokers import ChaosBroker
from chaos.proxy import Proxy
from chaos.redis_nodes import SECRET, ChaosRedis, form_cluster
from consumer.connection import KafkaConnection
from consumer.local.server import HOST, free_port
from consumer.stream.clients import admin_client

_COORDINATOR_TOPICS = ("__consumer_offsets", "__transaction_state")


class Servers:
    """All servers of a run, in one directory that is removed at the end.

    Args:
        brokers: 1 or 3.
        redis_nodes: 1, or 3 for a cluster.
        directory: Keeps everything; a temporary one by default.
    """

    def __init__(self, *, brokers: Literal[1, 3] = 1, redis_nodes: Literal[1, 3] = 1) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.logs = self.directory / "logs"
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # every port has to be known before the first server starts; two may not be alike
        ports = iter(_distinct_ports(4 * brokers + 3 * redis_nodes))
        voters = {number: next(ports) for number in range(1, brokers + 1)}
        self.brokers = [
            ChaosBroker(
                self.directory / f"kafka-{number}",
                self.logs / f"kafka-{number}.log",
                number=number,
                cluster_id=cluster_id,
                ports=(next(ports), voters[number], next(ports)),
                voters=voters,
                proxy_port=next(ports),
            )
            for number in voters
        ]
        self.redis_nodes = [
            ChaosRedis(
                self.directory / f"redis-{number}",
                self.logs / f"redis-{number}.log",
                is_node=redis_nodes > 1,
                proxy_port=next(ports),
            )
            for number in range(redis_nodes)
        ]
        self.kafka_proxies = [Proxy(b.proxied_port, b.proxy_port) for b in self.brokers]
        self.redis_proxies: list[Proxy] = []
        self._cleanup = AsyncExitStack()

    # What clients are told

    @property
    def is_redis_cluster(self) -> bool:
        """Whether Redis is a cluster."""
        return len(self.redis_nodes) > 1

    @property
    def bootstrap_servers(self) -> str:
        """For the harness, past the proxies."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def connection(self) -> KafkaConnection:
        """The same, as the product's own tools take it."""
        return KafkaConnection(bootstrap_servers=self.bootstrap_servers)

    @property
    def workers_bootstrap_servers(self) -> str:
        """For workers: each broker by its proxy."""
        return ",".join(f"{HOST}:{broker.proxy_port}" for broker in self.brokers)

    @property
    def workers_redis_url(self) -> str:
        """For workers: by the proxy, unless nodes of a cluster tell their own addresses."""
        first = self.redis_nodes[0]
        if self.is_redis_cluster:
            return first.url
        return f"redis://:{SECRET}@{HOST}:{first.proxy_port}/0"

    def redis(self, *, decode_responses: bool = True) -> Redis | RedisCluster:
        """Make a client for the harness; it tries again while servers come back."""
        retry = Retry(ConstantBackoff(0.1), 20)
        url = self.redis_nodes[0].url
        if self.is_redis_cluster:
            return RedisCluster.from_url(url, decode_responses=decode_responses, retry=retry)
        return Redis.from_url(url, decode_responses=decode_responses, retry=retry)

    @property
    def replication(self) -> int:
        """Copies of each record."""
        return len(self.brokers)

    # Their life

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(s.start() for s in (*self.brokers, *self.redis_nodes)))
            if self.is_redis_cluster:
                await form_cluster(self.redis_nodes, len(self.redis_nodes))
            else:
                (node,) = self.redis_nodes
                self.redis_proxies = [Proxy(node.port, node.proxy_port)]
            for proxy in (*self.kafka_proxies, *self.redis_proxies):
                await self._cleanup.enter_async_context(proxy)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleanup.aclose()
        self._end()

    def _end(self) -> None:
        for server in (*self.brokers, *self.redis_nodes):
            server.abandon()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def leaders(self) -> dict[str, int]:
        """Count the leaders of the coordinators' logs by broker: coordinators move with them."""
        async with admin_client(self.connection) as admin:
            found = await admin.describe_topics(list(_COORDINATOR_TOPICS))
        counts: dict[str, int] = {}
        for topic in found:
            for partition in topic["partitions"]:
                name = f"{topic['topic']} on {partition['leader']}"
                counts[name] = counts.get(name, 0) + 1
        return counts


def _distinct_ports(count: int) -> Sequence[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
