"""Composition root: makes adapters, starts tasks, ends them."""

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import random
import time
from collections.abc import Callable
from typing import Any

from aiokafka import TopicPartition

from consumer import process
from consumer.decide import Decider
from consumer.errors import (
    FencedError,
    MetaStrategyError,
    RefusedError,
    SettingsError,
    TransientError,
)
from consumer.pipeline import Pipeline
from consumer.pool import Pooling
from consumer.serving import PartitionServing, Shared
from consumer.settings import Settings, directory_of, given_variables, unknown_variables
from consumer.store.eviction import eviction_problem
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView
from consumer.store.snapshot import Snapshot, load_snapshot
from consumer.store.table import TableReader
from consumer.store.view_sync import ViewSync
from consumer.stream.log_reader import LogEnds
from consumer.stream.partition import InputTopics
from consumer.stream.session import Session
from consumer.stream.topics import check_topics
from consumer.tables import WholeTable
from consumer.telemetry import logs
from consumer.telemetry.findings import Findings
from consumer.telemetry.health import Health
from consumer.telemetry.http import Server
from consumer.telemetry.metrics import Metrics
from consumer.view import make_view
from consumer.watchdog import LIMIT_S, Progress, Watchdog

_HEARTBEAT_S = 1.0
_FIRST_HEARTBEAT_S = 0.1  # until the first partition is open: readiness is told without delay
_GIVE_BACK_BEATS = 60
_KAFKA_PROBE_S = 2.0
_KAFKA_RETRY_S = 0.1  # a worker that just joined is ready at once
_FIRST_REJOIN_S = 0.2
_LAST_REJOIN_S = 5.0
_GRACE_S = 9.0
"""Time a stop may take; a stuck loop cannot outlast it, since a thread watches it."""
_GIVE_UP_S = 5.0  # for partitions in hand when this worker ends by an error of its own
_SNAPSHOT_S = 1.0
_OF_THE_PORT = frozenset({errno.EADDRINUSE, errno.EACCES})
"""What the system says of a port that is taken, or that this user may not have."""


class SystemClock:
    """The clocks of the machine."""

    def now_ms(self) -> int:
        """Give the Unix time [ms]."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Give a time that never goes back [s]."""
        return time.monotonic()


class Worker:
    """The whole worker: sessions in the group, heartbeat, endpoints.

    Args:
        settings: All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logger = logs.make_logger(settings.log_level, settings.log_format)
        self._metrics = Metrics()
        self._health = Health()
        self._clock = SystemClock()
        self._throttle = logs.Throttle(10.0, time.monotonic)
        self._serving: dict[int, PartitionServing] = {}
        self._session: Session | None = None
        self._pooling: Pooling | None = None
        self._partitions = 0
        self._commits = 0
        self._progress = Progress()
        self._findings = Findings(self._metrics, self._logger)
        self._watchdog = Watchdog(self._end_stuck)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set.

        Raises:
            RefusedError: The servers hold what does not fit.
        """
        settings, logger = self._settings, self._logger
        for warning in (*unknown_variables(given_variables()), *settings.unread()):
            logger.warning(warning)
        decider = settings.decider
        self._metrics.epsilon.set(decider.selector.policy.initial_epsilon)
        tables = WholeTable(settings)
        server = Server(
            settings.http_host,
            settings.http_port,
            look=self._look,
            metrics=self._metrics,
            tables=tables,
        )
        try:
            port = await server.start()
        except (OSError, UnicodeError) as error:  # a name that is none is a UnicodeError
            # all else is the host's: unknown, not of this machine, or no name at all
            is_port = isinstance(error, OSError) and error.errno in _OF_THE_PORT
            raise RefusedError(
                f"{'HTTP_PORT' if is_port else 'HTTP_HOST'}: cannot listen on "
                f"{_address(settings.http_host, settings.http_port)}: "
                f"{getattr(error, 'strerror', None) or error}"
            ) from error
        logs.started(
            logger,
            enabled=settings.meta_strategy_enabled,
            epsilon=settings.meta_strategy_epsilon,
            alpha=settings.meta_strategy_alpha,
            policy=settings.meta_strategy_policy,
            policy_version=decider.policy_version,
            guarantee=settings.kafka_processing_guarantee,
            compiled=process.is_compiled(),
            page=f"http://{_address(settings.http_host, port)}/",
        )
        try:
            await self._serve(decider, tables, stop)
        finally:
            self._health.is_stopping = True
            await server.stop()  # who still asks would open a connection again
            await tables.close()

    async def _serve(self, decider: Decider, tables: WholeTable, stop: asyncio.Event) -> None:
        settings = self._settings
        self._partitions = await self._await_topics(stop)
        if stop.is_set():
            return
        tables.reader = TableReader(
            tables.client, settings.meta_strategy_key_prefix, self._partitions
        )
        view = make_view(settings, self._partitions, self._metrics.redis_seconds.observe)
        ends = LogEnds(settings.connection, self._note_open_transaction)
        pooling = self._pooling = self._make_pooling(view.meta)
        record_log = logs.RecordLog(self._logger, settings.log_records)
        shared = Shared(
            connection=settings.connection,
            topics=settings.topics,
            fold=settings.fold,
            pipeline=Pipeline(decider, keep_every=record_log.every),
            ends=ends,
            pooling=pooling,
            view=view,
            clock=self._clock,
            metrics=self._metrics,
            logger=self._logger,
            record_log=record_log,
            throttle=self._throttle,
            max_staleness_s=settings.meta_strategy_max_staleness_s,
            snapshot=self._snapshot(view),
            is_atomic=settings.kafka_processing_guarantee == "exactly_once",
        )
        serving = asyncio.create_task(self._sessions(shared, stop))
        watching = {
            asyncio.create_task(self._heartbeat(view, tables)),
            asyncio.create_task(self._probe_kafka()),
        }
        if pooling is not None:
            watching.add(asyncio.create_task(pooling.run()))
        self._watchdog.start()
        is_clean = False
        try:
            # those that watch never end by themselves: what they raise is a bug, and ends the worker
            await asyncio.wait({serving, *watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in (*watching, serving):
                if task.done():
                    task.result()
            is_clean = True
        finally:
            self._watchdog.stop()
            self._health.is_stopping = True
            for task in (serving, *watching):
                task.cancel()
            await asyncio.wait({serving}, timeout=_GIVE_UP_S)
            await asyncio.wait(watching, timeout=0.3)
            if is_clean:  # what was refused is not ours to write over
                await self._keep_snapshot(view)
            await ends.close(0.5)
            if pooling is not None:
                await pooling.close(0.5)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await view.close()

    def _make_pooling(self, meta: Meta) -> Pooling | None:
        settings = self._settings
        if not settings.kafka_pool_topic:
            return None
        return Pooling(
            settings.connection,
            settings.kafka_pool_topic,
            meta.fields["fingerprint"],
            on_trouble=self._say_again,
        )

    # The group

    def _note_open_transaction(self, log: TopicPartition, offset: int) -> None:
        self._logger.warning(
            "a transaction is open: decisions behind it cannot be read yet",
            topic=log.topic,
            partition=log.partition,
            offset=offset,
        )

    async def _await_topics(self, stop: asyncio.Event) -> int:
        """Check the topics; a Kafka that is away is waited for."""
        backoff_s = _FIRST_REJOIN_S
        while not stop.is_set():
            checking = asyncio.ensure_future(
                check_topics(self._settings.connection, self._settings.topics)
            )
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not checking.done():
                checking.cancel()
                break
            try:
                return checking.result()
            except TransientError as error:
                self._health.kafka_error = str(error)
                self._say_again(error)
                backoff_s = await self._back_off(backoff_s, stop)
        return 0

    async def _sessions(self, shared: Shared, stop: asyncio.Event) -> None:
        backoff_s = _FIRST_REJOIN_S
        while not stop.is_set():
            started = time.monotonic()
            try:
                await self._one_session(shared, stop)
            except FencedError as error:
                self._metrics.fenced.inc()
                self._metrics.transactions("fenced").inc()
                self._say_again(error)
            except TransientError as error:
                self._metrics.transactions("failed").inc()
                self._say_again(error)
            finally:
                self._session = None
                self._look()
            if time.monotonic() - started > _LAST_REJOIN_S:
                backoff_s = _FIRST_REJOIN_S
            if not stop.is_set():
                # a session and its client hold each other, and the error what it passed through: all
                # that the partitions remembered would stay until the collector looks at what is old
                gc.collect()
                backoff_s = await self._back_off(backoff_s, stop)

    def _say_again(self, error: MetaStrategyError) -> None:
        if (held := self._throttle.admit(type(error))) is not None:
            self._logger.warning(f"trying again: {error}", **held)

    @staticmethod
    async def _back_off(backoff_s: float, stop: asyncio.Event) -> float:
        """Wait with jitter, so that workers do not come back all at once; give the next wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(backoff_s * random.uniform(0.5, 1.0)):
                await stop.wait()
        return min(2 * backoff_s, _LAST_REJOIN_S)

    async def _one_session(self, shared: Shared, stop: asyncio.Event) -> None:
        settings = self._settings

        def make_work(number: int) -> PartitionServing:
            self._serving[number] = PartitionServing(shared, number)
            return self._serving[number]

        self._session = Session(
            settings.connection,
            InputTopics(
                signals=settings.kafka_signals_topic,
                trades=settings.kafka_trade_closed_topic,
                candles=settings.kafka_candles_topic,
            ),
            group_id=settings.kafka_group_id,
            guarantee=settings.kafka_processing_guarantee,
            start=settings.kafka_start,
            make_work=make_work,
            on_skipped=self._note_skipped,
            on_committed=self._note_committed,
        )
        await self._session.run(stop)

    def _note_committed(self) -> None:
        self._commits += 1
        self._metrics.transactions("committed").inc()

    def _note_skipped(self, topic: str, count: int) -> None:
        self._metrics.skipped(topic).inc(count)
        self._logger.warning(
            "records were deleted by retention before they were read", topic=topic, count=count
        )

    # Watching

    def _look(self) -> Health:
        """Give the health with what is assigned and open now."""
        session, health = self._session, self._health
        partitions = {} if session is None else session.partitions
        for number in self._serving.keys() - partitions.keys():
            del self._serving[number]  # somebody else's now: what it remembers is much
        health.is_member = session is not None and session.is_member
        health.assigned = set(partitions)
        health.opened = {number for number, p in partitions.items() if p.is_open}
        self._metrics.assigned_partitions.set(len(partitions))
        return health

    def _syncs(self) -> dict[int, ViewSync[Any]]:
        owned = () if self._session is None else self._session.partitions
        found = {n: s.sync for n, s in self._serving.items() if n in owned}
        return {n: sync for n, sync in found.items() if sync is not None}

    async def _heartbeat(self, view: RedisView, tables: WholeTable) -> None:
        """Ask once a second where the view stands, so that a loss is seen without traffic."""
        is_checked = False
        for beat in itertools.count(1):
            self._look()
            syncs = self._syncs()
            expected = {number: sync.expected for number, sync in syncs.items()}
            try:
                # an unassigned worker asks, too: for its readiness
                positions = await view.positions(list(expected) or [0])
            except TransientError as error:
                self._health.redis_error = str(error)
                for sync in syncs.values():
                    sync.not_heard()
            else:
                self._health.redis_error = None
                if not is_checked:
                    is_checked = True
                    _, text = await eviction_problem(tables.client)
                    if text:
                        self._logger.warning(f"redis: {text}")
                for number, position in expected.items():
                    syncs[number].heard(positions[number], position)
            await self._measure()
            if await self._is_well():
                self._watchdog.feed()
            if beat % _GIVE_BACK_BEATS == 0:
                process.give_back()
            await asyncio.sleep(_HEARTBEAT_S if self._health.opened else _FIRST_HEARTBEAT_S)

    async def _measure(self) -> None:
        metrics, session = self._metrics, self._session
        syncs = self._syncs()
        metrics.degraded.set(any(sync.is_degraded for sync in syncs.values()))
        metrics.open_decisions.set(sum(len(self._serving[n].state.decisions.open) for n in syncs))
        following = [f for n in syncs if (f := self._serving[n].state.following) is not None]
        metrics.followed_signals.set(sum(f.open_count for f in following))
        if self._pooling is not None:
            metrics.pool_offset.set(self._pooling.pool.number)
        self._findings.look({n: self._serving[n].state for n in syncs})
        lags = {} if session is None else await session.lags()
        metrics.consumer_lag.clear()
        for partition, lag in lags.items():
            metrics.consumer_lag.labels(partition.topic, str(partition.partition)).set(lag)

    async def _is_well(self) -> bool:
        """Tell whether this worker got on since the last heartbeat, or has no reason to.

        A server that is away is a reason: a restart would not bring it back.
        """
        health, session = self._health, self._session
        served = [self._serving[number].state for number in health.assigned & set(self._serving)]
        # opening a partition folds its logs, which takes its time
        folded = sum(state.folded for state in served)
        if self._progress.is_made((self._commits, folded)):
            return True
        if health.kafka_error is not None or health.redis_error is not None or session is None:
            return True
        if not health.is_member or health.assigned != health.opened:
            return False
        works = [self._serving[number] for number in health.opened]
        if not all(work.accepts_signals and work.accepts_trades for work in works):
            return True  # records wait for the view
        return not await session.is_behind()

    def _end_stuck(self) -> None:
        """End the process; called by the watchdog's thread."""
        self._logger.error(
            f"no progress for {LIMIT_S:g} s while there is work: ended to start anew"
        )
        process.end(1)

    async def _probe_kafka(self) -> None:
        while True:
            if (session := self._session) is not None:
                self._health.kafka_error = await session.probe()
            is_well = self._health.kafka_error is None
            await asyncio.sleep(_KAFKA_PROBE_S if is_well else _KAFKA_RETRY_S)

    # The state file

    def _snapshot(self, view: RedisView) -> Snapshot | None:
        path = self._settings.meta_strategy_state_file
        if path is None or not path.exists():
            return None
        snapshot = load_snapshot(path, f"META_STRATEGY_STATE_FILE={path}")
        snapshot.check(view.meta)
        return snapshot

    async def _keep_snapshot(self, view: RedisView) -> None:
        path = self._settings.meta_strategy_state_file
        if path is None:
            return
        if self._health.redis_error is not None:
            self._logger.warning("the state file was not written: Redis does not answer")
            return
        try:
            async with asyncio.timeout(_SNAPSHOT_S):
                (await view.snapshot(self._partitions)).save(path)
        except (TransientError, TimeoutError, OSError) as error:
            self._logger.warning(
                f"the state file was not written: {str(error) or 'no answer in time'}"
            )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run_worker(settings: Settings, runner: Callable[[Any], None]) -> None:
    """Run a worker until SIGTERM or SIGINT; return after a clean stop.

    Args:
        settings: All settings.
        runner: Runs a coroutine to its end, such as uvloop.run.

    Raises:
        SettingsError: The state file cannot be written; only a clean stop would find out.
    """
    state_file = settings.meta_strategy_state_file
    if state_file is not None and not os.access(directory_of(state_file), os.W_OK | os.X_OK):
        raise SettingsError(
            f"META_STRATEGY_STATE_FILE: this user may not write in {directory_of(state_file)}: name a file "
            "in a directory where it may"
        )
    process.tune()

    async def main() -> None:
        stop = process.stop_event(_GRACE_S)
        await Worker(settings).run(stop)
        if stop.is_set():
            # all of ours is closed; what a client left behind must not hold the process
            process.end(0)

    runner(main())
