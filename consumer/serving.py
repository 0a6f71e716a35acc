"""What is done with the records of one partition: everything but Kafka's own part."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from consumer.connection import KafkaConnection, TopicNames
from consumer.counting import count_step
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.pooled import Elsewhere
from consumer.domain.stored import Position
from consumer.errors import TransientError
from consumer.folding import CatchUp
from consumer.pipeline import Pipeline, Step
from consumer.pool import POOL_PARTITION, Pooling, Teller
from consumer.ports import Clock, View
from consumer.rebuild import catch_up, first_undecided, logs_of
from consumer.store.snapshot import Snapshot
from consumer.store.view_sync import ViewSync
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.stream.partition import Offsets
from consumer.stream.read_record import ReadRecord
from consumer.stream.transaction import Batch
from consumer.telemetry.logs import Logger, RecordLog, Throttle
from consumer.telemetry.metrics import Metrics
from consumer.wire import encode_dead_letter

_VIEW_RETRY_S = 0.5
_SETTLE_S = 1.0
_PACK_EVERY = 10_000
"""Records of the logs, at an opening: where Redis lost its view these are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all partitions of a worker have in common."""

    connection: KafkaConnection
    topics: TopicNames
    fold: FoldSettings
    pipeline: Pipeline
    ends: LogEnds
    """Asked where logs begin and end."""
    pooling: Pooling | None
    """Follows what other partitions have learned; None where nothing is pooled."""
    view: View[Any]
    clock: Clock
    metrics: Metrics
    logger: Logger
    record_log: RecordLog
    throttle: Throttle
    max_staleness_s: float
    snapshot: Snapshot | None
    """Restored where the view is empty."""
    is_atomic: bool
    """Whether decisions and offsets are committed together."""


def _note_rewind(shared: Shared, number: int) -> None:
    shared.metrics.rewinds.inc()
    shared.logger.warning("Redis lost writes: the view is written anew", partition=number)


class PartitionServing:
    """State, view and pipeline of one partition; see stream.partition.PartitionWork.

    Args:
        shared: What all partitions have in common.
        number: Which partition.
    """

    def __init__(self, shared: Shared, number: int) -> None:
        self._shared = shared
        self._number = number
        self.state = PartitionState(shared.fold)
        self.sync: ViewSync[Any] | None = None
        self._steps: deque[Step] = deque()
        """In hand; the oldest is committed first."""
        self._unpacked = 0
        self._late: CatchUp = CatchUp()
        self._teller: Teller | None = None
        self._followed: Counter[str] = Counter()

    # Opening

    async def open(self, offsets: Offsets) -> Offsets:
        """Load the state and fold what the logs hold past it; see PartitionWork."""
        shared = self._shared
        since = await self._load()
        logs = logs_of(shared.topics, self._number)
        signals_log = TopicPartition(shared.topics.signals, self._number)
        async with LogReader(shared.connection, [signals_log, *logs.all]) as reader:
            found = await catch_up(
                self.state,
                reader,
                logs,
                signals_log=signals_log,
                upto=Position(trades=offsets.trades, candles=offsets.candles),
                is_atomic=shared.is_atomic,
                ends=shared.ends,
                on_progress=self._folded,
            )
            if shared.is_atomic:
                first = await self._first_undecided(reader, signals_log, offsets.signals)
                offsets = offsets._replace(signals=first)
        self._report(found)
        self._late = found
        if (pooling := shared.pooling) is not None:
            # so that a decision never names less than the one before it did
            await pooling.catch_up()
            self._teller = Teller(self._number, pooling.fingerprint, pooling.pool)
        self.sync = ViewSync(
            shared.view,
            self._number,
            self.state,
            since=since,
            clock=shared.clock,
            # not a method: a circle of objects this large would stay until the collector comes by
            on_rewind=partial(_note_rewind, shared, self._number),
        )
        if self.state.following is not None:
            self._followed = self.state.following.counts.copy()
        if found.refused or shared.is_atomic:
            # a decision, or the view, saw input behind the group's offset: it is folded now
            _, trades, candles = self.state.position
            return offsets._replace(
                trades=max(offsets.trades, trades), candles=max(offsets.candles, candles)
            )
        return offsets

    def _folded(self, count: int) -> None:
        self._unpacked += count
        if self._unpacked >= _PACK_EVERY:
            self.state.pack()
            self._unpacked = 0

    async def _first_undecided(
        self, reader: LogReader, signals_log: TopicPartition, committed: int
    ) -> int:
        found = await first_undecided(self.state, reader, signals_log, committed)
        if found > committed:
            self._shared.logger.warning(
                "the group's offset is behind the decisions: signals that have one are passed over",
                partition=self._number,
                group_offset=committed,
                first_undecided=found,
            )
        return found

    async def _load(self) -> Position | None:
        shared = self._shared
        while True:
            try:
                stored = await shared.view.load(self._number)
                break
            except TransientError as error:
                if (held := shared.throttle.admit("load")) is not None:
                    shared.logger.warning(
                        f"a partition waits to be opened: {error}", partition=self._number, **held
                    )
                await asyncio.sleep(_VIEW_RETRY_S)
        if stored is not None:
            self.state.restore(stored)
            return stored.position
        if shared.snapshot is not None and (kept := shared.snapshot.get(self._number)) is not None:
            self.state.restore(kept)
            shared.logger.info(
                "the view is empty: restored from the state file",
                partition=self._number,
                decisions_offset=kept.position.decisions,
                trades_offset=kept.position.trades,
            )
        return None

    def _report(self, found: CatchUp) -> None:
        shared = self._shared
        for topic, count in found.skipped.items():
            shared.metrics.skipped(topic).inc(count)
            shared.logger.warning(
                "records were deleted by retention before they were folded",
                topic=topic,
                partition=self._number,
                count=count,
            )
        shared.logger.info(
            f"partition {self._number} is open",
            partition=self._number,
            folded_decisions=found.decisions,
            folded_trades=found.trades,
            **({} if self.state.following is None else {"folded_candles": found.candles}),
            table_offset=self.state.position.trades,
        )

    # Serving

    @property
    def _opened(self) -> ViewSync[Any]:
        if self.sync is None:
            raise RuntimeError(f"partition {self._number} is not open")
        return self.sync

    @property
    def accepts_trades(self) -> bool:
        """Whether the view keeps up: while it does not, closed trades and candles wait."""
        return not self._opened.holds_trades

    @property
    def accepts_signals(self) -> bool:
        """Whether the table is fresh enough to decide from."""
        sync = self._opened
        return not sync.is_degraded or sync.age_s <= self._shared.max_staleness_s

    @property
    def may_run_ahead(self) -> bool:
        """Whether the view does not wait for a state that is committed as a whole."""
        return not self._opened.wants_rest

    def step(
        self,
        trades: Sequence[ReadRecord],
        signals: Sequence[ReadRecord],
        candles: Sequence[ReadRecord],
    ) -> Sequence[Batch]:
        """Work off a batch; see PartitionWork."""
        shared, sync = self._shared, self._opened
        sync.begin_step()
        now_ms = shared.clock.now_ms()
        self._look_elsewhere()
        step = shared.pipeline.step(
            self.state, trades, signals, candles, now_ms=now_ms, degraded=sync.is_degraded
        )
        for record, error in self._late.refused:
            step.refused.append((record, error))
            step.dead_letters.append(encode_dead_letter(record, error, now_ms))
        self._late = CatchUp()
        self._steps.append(step)
        decisions, step.decisions = step.decisions, []  # not kept until they are committed
        batches = [
            Batch(shared.topics.decisions, self._number, decisions),
            Batch(shared.topics.dead_letters, None, step.dead_letters),
        ]
        if self._teller is not None:
            news = self._teller.news(self.state.table, now_ms)
            batches.append(Batch(shared.topics.pool, POOL_PARTITION, news))
        return batches

    def _look_elsewhere(self) -> None:
        """Let the batch be decided by what other partitions have told by now."""
        pooling, state = self._shared.pooling, self.state
        if pooling is not None and state.elsewhere.pool is not pooling.pool:
            state.elsewhere = Elsewhere(pooling.pool, self._number, state.settings.decay)

    def committed(self, ends: Sequence[int | None]) -> None:
        """Count and log the oldest step, and let the view have it; see PartitionWork."""
        shared, step = self._shared, self._steps.popleft()
        shared.pipeline.advance(self.state, ends[0])
        self._opened.end_step()
        metrics = shared.metrics
        now_ms = shared.clock.now_ms()
        count_step(metrics, step.counts, now_s=time.perf_counter(), now_ms=now_ms)
        self._count_candles(step)
        for decision in step.decided:
            shared.record_log.decision(decision)
        for trade, result in step.learned:
            shared.record_log.reward(trade, result)
        for record in step.repeated:
            metrics.duplicates(record.topic).inc()
        for record, error in step.refused:
            metrics.dead_letters(record.topic, str(error.code)).inc()
            if (held := shared.throttle.admit((record.topic, error.code))) is not None:
                shared.logger.warning(
                    f"dead letter: {error.error}",
                    reason=str(error.code),
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    **held,
                )

    def _count_candles(self, step: Step) -> None:
        metrics, following = self._shared.metrics, self.state.following
        if following is None:
            return
        for outcome, count in step.candles.items():
            metrics.candles(outcome).inc(count)
        if following.counts != self._followed:
            for how, count in (following.counts - self._followed).items():
                metrics.followed(how).inc(count)
            self._followed = following.counts.copy()

    async def background(self) -> None:
        """Keep the view up to date until cancelled."""
        await self._opened.run()

    async def settle(self) -> None:
        """Let the view have the state it was opened with, if it answers.

        So the first decisions from a new table are no less confirmed than later ones.
        """
        await self.close(_SETTLE_S)

    async def close(self, timeout_s: float) -> None:
        """Give the view its last changes, if it answers in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._opened.written()

    def drop(self) -> None:
        """Let go of the state; see PartitionWork."""
        self.state.clear()
        self._steps.clear()
        self._shared.view.forget(self._number)
