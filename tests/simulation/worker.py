"""The worker's own code as a simulated process: only clients, clocks and chance are replaced."""

import asyncio
import contextlib
import gc
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from unittest import mock

from consumer import app, pool, serving
from consumer.connection import KafkaConnection, TopicNames
from consumer.decide import Decider
from consumer.domain.fold_settings import FoldSettings
from consumer.pipeline import Pipeline
from consumer.pool import Pooling
from consumer.serving import PartitionServing, Shared
from consumer.settings import Settings
from consumer.stream import (
    assignment,
    clients,
    log_reader,
    ownership,
    partition,
    session,
    transaction,
)
from consumer.stream.log_reader import LogEnds
from consumer.telemetry import logs
from consumer.telemetry.findings import Findings
from consumer.telemetry.health import Health
from consumer.telemetry.metrics import Metrics
from tests.simulation.clients import FakeAdmin
from tests.simulation.cluster import DEAD_LETTERS, DECISIONS, SIGNALS, TRADES, Cluster
from tests.simulation.consumer import FakeConsumer, FakeMember
from tests.simulation.loop import Process
from tests.simulation.producer import FakeProducer
from tests.simulation.view import SimulatedView, Store
from tests.support.builders import START_MS
from tests.support.windows import small_windows

_GROUP = "meta-strategy"
_REST_S = 2.0
_FIRST_HEARTBEAT_S = 1.0
"""Instead of 0.2 and 0.1 s: how often an idle worker looks; each look is a step to be computed."""
_SESSION_TIMEOUT_MS, _HEARTBEAT_MS, _REBALANCE_TIMEOUT_MS = 1_500, 450, 6_000
"""In the proportions of the real ones, so that a schedule is over sooner."""


@cache
def _settings(candles_topic: str) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        kafka_candles_topic=candles_topic,
        meta_strategy_policy="epsilon_greedy",  # which the oracle knows
    )


@cache
def _metrics() -> Metrics:
    return Metrics()


@cache
def _decider() -> Decider:
    return _settings("").decider


@cache
def _fold(candles_topic: str) -> FoldSettings:
    return _settings(candles_topic).fold


class _Clocks:
    """The module `time`, as the worker uses it."""

    def monotonic(self) -> float:
        return Cluster.current.loop.time()

    perf_counter = monotonic


class _Collector:
    """The module `gc`, as the worker uses it: the schedules collect when it suits them."""

    def collect(self) -> int:
        return 0


class _Chance:
    """The modules `random` and `uuid`, as the worker uses them."""

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * Cluster.current.random()

    def uuid4(self) -> Any:
        number = int(Cluster.current.random() * 2**48)
        return types.SimpleNamespace(hex=f"{number:032x}")


async def _no_eviction_problem(client: object) -> tuple[bool, str]:
    return True, ""


async def _no_reason(connection: object) -> str:
    return ""


@contextlib.contextmanager
def simulated_clients() -> Iterator[None]:
    """Put the fakes in the places of the clients; of the whole process while it lasts."""
    clocks, chance = _Clocks(), _Chance()
    places: list[tuple[Any, str, Any]] = [
        (session, "AIOKafkaConsumer", FakeConsumer),
        (session, "Member", FakeMember),
        (log_reader, "AIOKafkaConsumer", FakeConsumer),
        (transaction, "AIOKafkaProducer", FakeProducer),
        (transaction, "_MUCH", 2),
        (ownership, "AIOKafkaProducer", FakeProducer),
        (clients, "AIOKafkaAdminClient", FakeAdmin),
        (session, "_SESSION_TIMEOUT_MS", _SESSION_TIMEOUT_MS),
        (session, "_HEARTBEAT_MS", _HEARTBEAT_MS),
        (session, "_REBALANCE_TIMEOUT_MS", _REBALANCE_TIMEOUT_MS),
        (assignment, "_REST_S", _REST_S),
        (pool, "_LEAST_NEW", 1),  # a schedule has few trades
        (app, "_FIRST_HEARTBEAT_S", _FIRST_HEARTBEAT_S),
        (assignment, "time", clocks),
        (partition, "time", clocks),
        (serving, "time", clocks),
        (app, "time", clocks),
        (app, "random", chance),
        (app, "gc", _Collector()),
        (ownership, "uuid", chance),
        (app, "eviction_problem", _no_eviction_problem),
        (clients, "why_unreachable", _no_reason),
    ]
    with small_windows(), contextlib.ExitStack() as stack:
        for module, name, fake in places:
            stack.enter_context(mock.patch.object(module, name, fake))
        # each task enters itself in this set, and nobody looks at it
        name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
        tasks = getattr(asyncio.tasks, name)
        stack.enter_context(mock.patch.object(tasks, "add", _unheard))
        stack.enter_context(_broken_off())
        yield


def _unheard(_: object) -> None:
    """Take note of nothing: of a task, of a coroutine that could not end as it wanted."""


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """Let coroutines end in the middle without a word: that is what a kill is.

    What they leave behind is collected when the caller says so, and at the end.
    """
    gc.collect()
    gc.freeze()  # what is there already is not looked at again and again
    gc.disable()
    try:
        with (
            warnings.catch_warnings(),
            mock.patch.object(sys, "unraisablehook", _unheard),
        ):
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()


class _Logger:
    """Writes to the trace; says nothing when nobody listens."""

    def __init__(self, name: str, trace: Callable[[str], None] | None) -> None:
        self._name, self._trace = name, trace

    def is_enabled_for(self, level: int) -> bool:
        return level >= logging.WARNING

    def info(self, event: str, **fields: Any) -> None:
        if self._trace is not None:
            self._trace(f"{self._name}: {event} {fields or ''}".rstrip())

    warning = error = info


class _Clock:
    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._loop, self._process = cluster.loop, process

    def now_ms(self) -> int:
        return START_MS + round(1000 * (self._loop.time() + self._process.skew_s))

    def monotonic(self) -> float:
        return self._loop.time()


class SimulatedWorker(app.Worker):
    """A worker without endpoints: its sessions, and its heartbeat to the view.

    Args:
        cluster: Kafka.
        store: The view's server.
        name: Of its process.
        candles_topic: What signals are followed by; empty: they are not.
        pool_topic: Where partitions tell each other what they have learned; empty: nowhere.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        name: str,
        *,
        candles_topic: str = "",
        pool_topic: str = "",
    ) -> None:
        settings, trace = _settings(candles_topic), cluster.network.trace
        self.name = name
        self.process = cluster.process(name)
        self.stop = asyncio.Event()
        self._settings: Any = types.SimpleNamespace(
            connection=KafkaConnection(bootstrap_servers=name),
            kafka_signals_topic=SIGNALS,
            kafka_trade_closed_topic=TRADES,
            kafka_candles_topic=candles_topic,
            kafka_group_id=_GROUP,
            kafka_processing_guarantee="exactly_once",
            kafka_start="earliest",
        )
        self._logger: Any = _Logger(name, trace)
        self._metrics = _metrics()
        self._health = Health()
        self._throttle = logs.Throttle(10.0, cluster.loop.time)
        self._serving: dict[int, PartitionServing] = {}
        self._session = None
        self._findings = Findings(self._metrics, self._logger)
        self._commits = 0
        clock = _Clock(cluster, self.process)
        self._shared = Shared(
            connection=self._settings.connection,
            topics=TopicNames(
                signals=SIGNALS,
                trades=TRADES,
                decisions=DECISIONS,
                dead_letters=DEAD_LETTERS,
                candles=candles_topic,
                pool=pool_topic,
            ),
            fold=_fold(candles_topic),
            pipeline=Pipeline(_decider(), keep_every=0),
            ends=LogEnds(self._settings.connection),
            pooling=Pooling(self._settings.connection, pool_topic, "") if pool_topic else None,
            view=SimulatedView(store, self.process),
            clock=clock,
            metrics=self._metrics,
            logger=self._logger,
            record_log=logs.RecordLog(self._logger, "off"),
            throttle=self._throttle,
            max_staleness_s=settings.meta_strategy_max_staleness_s,
            snapshot=None,
            is_atomic=True,
        )
        self.main = cluster.loop.spawn(self.process, self._live())

    async def _live(self) -> None:
        view: Any = self._shared.view
        tables: Any = types.SimpleNamespace(client=None)
        beside = {asyncio.create_task(self._heartbeat(view, tables))}
        pooling = self._shared.pooling
        if pooling is not None:
            beside.add(asyncio.create_task(pooling.run()))
        try:
            await self._sessions(self._shared, self.stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside, timeout=0.3)
            await self._shared.ends.close(0.5)
            if pooling is not None:
                await pooling.close(0.5)

    async def _measure(self) -> None:
        """Measure nothing: the metrics are of all workers of all schedules."""

    async def _is_well(self) -> bool:
        """Feed no watchdog: there is none."""
        return False

    @property
    def failure(self) -> BaseException | None:
        """Why it ended, if it ended by itself; nothing that is injected may end it."""
        if not self.main.done() or self.main.cancelled():
            return None
        return self.main.exception()

    @property
    def is_ready(self) -> bool:
        """Whether it is a member and all its partitions are open."""
        session_ = self._session
        return (
            session_ is not None
            and session_.is_member
            and all(p.is_open for p in session_.partitions.values())
        )
