"""A deployment on servers to be hurt: topics, workers, traffic; and what is checked at its end."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Self

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.errors import KafkaError

from bench.broker import PARTITIONS
from chaos.feed import TIMEFRAME
from chaos.fleet import Fleet, Slot
from chaos.judge import judge, read_view
from chaos.messages import CANARY
from chaos.oracle import Findings
from chaos.redis_nodes import SECRET
from chaos.servers import Servers
from chaos.traffic import Traffic
from chaos.views import is_same, out_of_blocks
from consumer.connection import TopicNames
from consumer.settings import Settings
from consumer.stream.clients import admin_client
from consumer.stream.log_reader import LogReader
from consumer.stream.topics import create_topics
from consumer.table_commands import rebuild_table

WINDOW = 8_000
"""Ids, rewards and open decisions that a worker remembers: filled in a minute, so that forgetting is
tested, too."""
GROUP = "chaos-group"
PREFIX = "chaos"
POLICY = "epsilon_greedy"
"""The one whose rule the oracle knows."""
_TTL_DAYS = 60
"""Longer than any run: the market's time may run 300 times as fast as ours."""
_SETTLE_S = 300.0
_LOOK_S = 1.0
_STOP_LIMIT_S = 15.0
_NOTICE_S = 30.0


class UnsettledError(Exception):
    """Work was left over when the faults were over: I11."""


class Scene:
    """Topics, workers and traffic on running servers, from entering to leaving.

    Args:
        servers: Running.
        workers: How many.
        session_s: Session timeout of the workers [s].
        rate: Signals a second.
        total: Signals to send; None: until told.
        share: Of decisions that are closed by a trade [1].
        seed: Of all draws.
        poison: Whether bad messages stand between the good ones.
        candles: Whether signals are followed on paper.
        guarantee: Of the workers.
        contender: Whose processes run: `worker` or `plain`.
        on_arrival: See Traffic.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        workers: int,
        session_s: float,
        rate: float,
        total: int | None,
        share: float,
        seed: int,
        poison: bool = True,
        candles: bool = False,
        guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once",
        contender: str = "worker",
        on_arrival: Callable[[int, float, int], None] = lambda *_: None,
    ) -> None:
        self.servers = servers
        self.topics = TopicNames(
            signals="signals",
            trades="trade-closed",
            decisions="strategy-decisions",
            dead_letters="strategy-dead-letters",
            candles="candles" if candles else "",
            pool="strategy-pool",
        )
        self.traffic = Traffic(
            servers.bootstrap_servers,
            self.topics,
            rate=rate,
            total=total,
            share=share,
            seed=seed,
            poison=poison,
            on_arrival=on_arrival,
        )
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": servers.workers_bootstrap_servers,
            "REDIS_URL": servers.workers_redis_url,
            "REDIS_CLUSTER": str(servers.is_redis_cluster).lower(),
            "KAFKA_GROUP_ID": GROUP,
            "KAFKA_PROCESSING_GUARANTEE": guarantee,
            "META_STRATEGY_KEY_PREFIX": PREFIX,
            "META_STRATEGY_POLICY": POLICY,
            "META_STRATEGY_DEDUPE_WINDOW": str(WINDOW),
            "META_STRATEGY_OPEN_DECISIONS_MAX": str(WINDOW),
            "META_STRATEGY_DECISION_TTL_DAYS": str(_TTL_DAYS),
            "KAFKA_CANDLES_TOPIC": self.topics.candles,
            "META_STRATEGY_CANDLES_TIMEFRAME": TIMEFRAME,
            "KAFKA_POOL_TOPIC": self.topics.pool,
            "CHAOS_SESSION_MS": str(round(session_s * 1000)),
        }
        self.fleet = Fleet(
            [
                Slot(
                    f"{contender}-{n}",
                    servers.directory / "workers",
                    environment,
                    contender=contender,
                )
                for n in range(workers)
            ]
        )
        self.rng = random.Random(seed)
        self._is_worker = contender == "worker"
        self._cleanup = AsyncExitStack()

    @property
    def settings(self) -> Settings:
        """The workers' settings, past the proxies."""
        return Settings(
            kafka_bootstrap_servers=self.servers.bootstrap_servers,
            kafka_group_id=GROUP,
            redis_url=self.servers.redis_nodes[0].url,
            redis_cluster=self.servers.is_redis_cluster,
            meta_strategy_key_prefix=PREFIX,
            meta_strategy_policy=POLICY,
            meta_strategy_dedupe_window=WINDOW,
            meta_strategy_open_decisions_max=WINDOW,
            meta_strategy_decision_ttl_days=_TTL_DAYS,
            kafka_candles_topic=self.topics.candles,
            meta_strategy_candles_timeframe=TIMEFRAME,
            kafka_pool_topic=self.topics.pool,
        )

    async def __aenter__(self) -> Self:
        await create_topics(
            self.servers.connection,
            self.topics,
            partitions=PARTITIONS,
            replication=self.servers.replication,
        )
        for slot in self.fleet.slots:
            slot.start()
        if self._is_worker:
            await asyncio.gather(*(slot.wait_ready() for slot in self.fleet.slots))
        await self._cleanup.enter_async_context(self.traffic)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleanup.aclose()
        self.fleet.kill()

    # Is everything worked off?

    async def lag(self) -> dict[str, int]:
        """Count what the group has not worked off: signals, trades, candles."""
        found = {}
        async with admin_client(self.servers.connection) as admin:
            offsets = await admin.list_consumer_group_offsets(GROUP)
        for topic in filter(None, (self.topics.signals, self.topics.trades, self.topics.candles)):
            logs = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            ends = await self._ends(logs)
            done = {log: offsets[log].offset for log in logs if log in offsets}
            # the group's position may stand before the marker of a transaction, never before a record
            found[topic] = sum(max(0, end - done.get(log, 0)) for log, end in ends.items())
        return found

    async def _ends(self, logs: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Give the offset behind the last record of each log, committed or not."""
        async with LogReader(self.servers.connection, (), isolation="read_uncommitted") as reader:
            return await reader.ends(logs)

    async def settled(self, timeout_s: float = _SETTLE_S) -> float:
        """Wait until all is worked off and Redis stands at the logs' ends; give the time [s].

        Raises:
            UnsettledError: It is not, after this time.
        """
        started = time.monotonic()
        seen: Any = None
        while time.monotonic() - started < timeout_s:
            self.traffic.check()
            try:
                answered = self.traffic.tally.answered
                seen = await self.lag()
                if not any(seen.values()) and await self._is_view_there():
                    # the router may still have had trades in hand
                    await asyncio.sleep(1.0)
                    seen = await self.lag()
                    if not any(seen.values()) and answered == self.traffic.tally.answered:
                        return time.monotonic() - started
            except (KafkaError, OSError) as error:
                seen = repr(error)
            await asyncio.sleep(_LOOK_S)
        tails = "\n".join(f"{slot.name}:\n{slot.tail()}" for slot in self.fleet.slots)
        raise UnsettledError(f"after {timeout_s:g} s: {seen}\n{tails}")

    async def _is_view_there(self) -> bool:
        learned = {"trades": self.topics.trades, "candles": self.topics.candles}
        redis = self.servers.redis()
        try:
            for name, topic in learned.items():
                logs = [TopicPartition(topic, number) for number in range(PARTITIONS) if topic]
                for log, end in (await self._ends(logs)).items():
                    mark = await redis.hget(f"{PREFIX}:{{{log.partition}}}:watermark", name)
                    if mark is None or int(mark) < end:
                        return False
        finally:
            await redis.aclose()
        return True

    # The end of a run

    async def lose_redis_idle(self) -> dict[str, float]:
        """Wipe Redis with nothing going on; give when it was noticed, and when it was whole [s].

        A partition that changes hands meanwhile is written anew by its opening, which counts no loss:
        that it is whole says that it was noticed, too.
        """
        before = self.fleet.counted("meta_strategy_rewinds_total")
        for node in self.servers.redis_nodes:
            await node.lose_files()
        started = time.monotonic()
        noticed_s = whole_s = -1.0
        while time.monotonic() - started < _NOTICE_S and whole_s < 0:
            await asyncio.sleep(0.05)
            for slot in self.fleet.slots:
                await slot.metrics()
            is_counted = self.fleet.counted("meta_strategy_rewinds_total") > before
            is_whole = await self._is_view_there()
            if noticed_s < 0 and (is_counted or is_whole):
                noticed_s = time.monotonic() - started
            if is_whole:
                whole_s = time.monotonic() - started
        return {"noticed_s": noticed_s, "whole_s": whole_s}

    async def stop_workers(self) -> list[tuple[int | None, float]]:
        """Send SIGTERM to all; give exit codes and times."""
        return list(await asyncio.gather(*(slot.stop(_STOP_LIMIT_S) for slot in self.fleet.slots)))

    async def judge(self) -> tuple[Findings, dict[str, int]]:
        """Compare everything with the oracle, and every hash in Redis with a rebuild of it."""
        redis = self.servers.redis()
        try:
            view = await read_view(redis, PREFIX)
            found = await judge(
                self.servers.bootstrap_servers,
                self.topics,
                view,
                prefix=PREFIX,
                window=WINDOW,
                settings=self.settings,
            )
            await rebuild_table(self.settings, on_total=lambda _: None, on_progress=lambda _: None)
            again = await read_view(redis, PREFIX)
        finally:
            await redis.aclose()
        view, again = out_of_blocks(view), out_of_blocks(again)
        keys = view.keys() | again.keys()
        differing = [key for key in keys if not is_same(key, view.get(key), again.get(key))]
        for key in differing[:5]:
            found.note(f"{key}: {_apart(view.get(key), again.get(key))}")
        return found, {"hashes": len(keys), "hashes_differing": len(differing)}

    async def grow_signals(self) -> None:
        """Give the signals' topic a partition more than the others have."""
        async with admin_client(self.servers.connection) as admin:
            await admin.create_partitions({self.topics.signals: NewPartitions(PARTITIONS + 1)})

    def secrets_found(self) -> int:
        """Count where secrets or payloads stand in what workers said."""
        found = 0
        for slot in self.fleet.slots:
            for text in (slot.text(), *slot.scraped):
                found += text.count(SECRET) + text.count(CANARY)
        return found


def _apart(one: dict[str, str] | None, other: dict[str, str] | None) -> str:
    one, other = one or {}, other or {}
    names = [name for name in one | other if one.get(name) != other.get(name)]
    parts = [f"{name}: {one.get(name)} / {other.get(name)}" for name in names[:3]]
    return f"{len(names)} fields; {'; '.join(parts)}"
