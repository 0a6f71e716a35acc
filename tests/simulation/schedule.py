"""One schedule: workers, records and faults drawn from a seed, then a quiet end."""

import functools
import gc
from collections.abc import Callable
from random import Random
from typing import Any
from unittest import mock

from aiokafka import TopicPartition

from consumer.stream import assignment
from tests.simulation.cluster import (
    CANDLES,
    DEAD_LETTERS,
    DECISIONS,
    POOL,
    SIGNALS,
    TRADES,
    Cluster,
)
from tests.simulation.faults import GRACE_S, Faults
from tests.simulation.oracle import ViolationError, Watch, check_outputs, check_pool
from tests.simulation.view import Store
from tests.simulation.worker import SimulatedWorker
from tests.simulation.workload import Sent, make_workload

_LOOK_S = 0.5
"""How often it is looked whether everything has settled."""
_LEAST_QUIET_S = 0.7
"""A worker that wakes up may still write the view as it was; its owner's next heartbeat sees it."""
_PATIENCE_S = 90.0
"""Longest time after the last fault until it has: some transactions' and sessions' timeouts."""
_STOPS_SHARE = 0.3
"""Of the schedules: all workers are told to stop at the end, which takes a tenth of the whole."""
_FOLLOWS_EVERY = 3
"""One schedule of so many has candles."""
_POOLS_EVERY = 5
"""One of so many lets partitions tell each other what they have learned."""
_SMALL_EVERY = 2
"""One of so many has transactions of some records: partitions take turns, the next ones are prepared meanwhile."""
_COLLECT_EVERY = 15
"""Schedules between two collections of what they left behind."""


class FoundError(Exception):
    """A schedule in which something went wrong; the message names its seed."""


class World:
    """All there is in one schedule.

    Args:
        seed: Decides everything.
        trace: Told each step.
    """

    def __init__(self, seed: int, trace: Callable[[float, str], None] | None = None) -> None:
        self.rng = Random(seed)
        self.cluster = Cluster(
            Random(~seed),
            None if trace is None else lambda text: trace(self.cluster.loop.time(), text),
        )
        self.loop = self.cluster.loop
        # mostly short ones: more of them find more in the same time than long ones do
        self.size = self.rng.random() ** 2
        self.partitions = 2 + (self.rng.random() < 0.15) + (self.rng.random() < 0.05)
        self.inputs = [SIGNALS, TRADES]
        if seed % _FOLLOWS_EVERY == 0:
            self.inputs.append(CANDLES)
        for topic in (*self.inputs, DECISIONS):
            self.cluster.broker.create_topic(topic, self.partitions)
        self.cluster.broker.create_topic(DEAD_LETTERS, 1)
        self.pools = seed % _POOLS_EVERY == 0
        if self.pools:
            self.cluster.broker.create_topic(POOL, 1)
        self.watch = Watch(self.cluster.broker, self._end)
        self.store = Store(self.cluster, self.watch)
        self.workers: list[SimulatedWorker] = []
        """Those that live."""
        self.faults = Faults(self, until_s=1.1 + 1.4 * self.size)
        self.problem: str | None = None
        self._starts = 0
        self._stopping = False

    def say(self, text: str) -> None:
        """Add to the trace."""
        if self.cluster.network.trace is not None:
            self.cluster.network.trace(text)

    def start_worker(self) -> SimulatedWorker:
        """Start one more worker."""
        self._starts += 1
        worker = SimulatedWorker(
            self.cluster,
            self.store,
            f"worker-{self._starts}",
            candles_topic=CANDLES if CANDLES in self.inputs else "",
            pool_topic=POOL if self.pools else "",
        )
        self.workers.append(worker)
        worker.main.add_done_callback(functools.partial(self._ended, worker))
        return worker

    def _ended(self, worker: SimulatedWorker, _: Any) -> None:
        if worker.failure is not None:
            self._end(f"{worker.name} ended by itself: {worker.failure!r}")
        if worker in self.workers:
            self.workers.remove(worker)
            # sessions of its that were not left in time run out
            self.loop.outside(0.0, self._gone, worker)

    def _gone(self, worker: SimulatedWorker) -> None:
        worker.process.is_dead = True
        self.cluster.suspect(worker.process)
        if self._stopping and not self.workers:
            self._end(None)

    def kill(self, worker: SimulatedWorker) -> None:
        """End a worker between two of its steps."""
        if worker in self.workers:
            self.say(f"{worker.name} is killed")
            self.workers.remove(worker)
            self._gone(worker)

    def _send(self, sent: Sent) -> None:
        self.cluster.broker.logs[TopicPartition(sent.topic, sent.partition)].append(
            [sent.record], None
        )

    def run(self) -> None:
        """Run it to its end.

        Raises:
            ViolationError: Something that must never be was seen, or nothing settled.
        """
        for _ in range(2 + (self.rng.random() < 0.25)):
            self.loop.outside(self.rng.random() * 0.3, self.start_worker)
        workload = make_workload(
            self.rng,
            self.partitions,
            count=5 + int(16 * self.size),
            until_s=0.8 + 1.4 * self.size,
            has_candles=CANDLES in self.inputs,
        )
        for sent in workload:
            self.loop.outside(sent.at_s, self._send, sent)
        self.faults.plan()
        self.loop.outside(workload[-1].at_s, self._look)
        try:
            self.loop.run()
        finally:
            self.loop.close()
        if self.problem is not None:
            raise ViolationError(self.problem)
        check_outputs(self.cluster.broker, self.store.view, self.partitions, self.inputs)
        if self.pools:
            check_pool(self.cluster.broker, self.partitions, self.inputs)

    def fall_apart(self) -> None:
        """Let go of all that holds each other, so that little of it is left to the collector."""
        broker = self.cluster.broker
        held = [*broker.logs.values(), broker, self.cluster, self.faults, self.store, self.watch]
        for thing in (*held, self):
            vars(thing).clear()

    # The quiet end

    def _look(self) -> None:
        quiet_for_s = self.loop.time() - self.faults.quiet_s - _LEAST_QUIET_S
        if quiet_for_s < 0.0:
            self.loop.outside(_LOOK_S, self._look)
        elif (missing := self._missing()) is None:
            self._stop()
        elif quiet_for_s > _PATIENCE_S:
            self._end(f"not settled {_PATIENCE_S:g} s after the last fault: {missing}")
        else:
            self.loop.outside(_LOOK_S, self._look)

    def _missing(self) -> str | None:
        """Say what has not settled yet."""
        if not self.workers:
            return "no worker lives"
        for worker in self.workers:
            if not worker.is_ready:
                return f"{worker.name} is not ready"
        broker = self.cluster.broker
        for log in broker.logs.values():
            if log.undecided:
                return f"{log.name} has an open transaction"
        for number in range(self.partitions):
            for topic in self.inputs:
                log = TopicPartition(topic, number)
                held = broker.offsets.get(log)
                if held is None or held.offset != broker.logs[log].end:
                    return f"{topic}-{number} has lag: {held}, ends at {broker.logs[log].end}"
            decisions = broker.logs[TopicPartition(DECISIONS, number)]
            stored = self.store.view.partitions.get(number)
            last = max((r.offset + 1 for r in decisions.read(0)[0]), default=0)
            trades = broker.logs[TopicPartition(TRADES, number)].end
            if stored is None or stored.position.decisions < last:
                return f"the view of {number} is behind decision {last}"
            if stored.position.trades != trades:
                return f"the view of {number} is behind trade {trades}"
            if CANDLES in self.inputs:
                candles = broker.logs[TopicPartition(CANDLES, number)].end
                if stored.position.candles != candles:
                    return f"the view of {number} is behind candle {candles}"
        return None

    def _stop(self) -> None:
        if self.rng.random() > _STOPS_SHARE:
            self._end(None)
            return
        self._stopping = True
        for worker in self.workers:
            worker.stop.set()
        self.loop.outside(GRACE_S, self._end, "a worker did not stop in time")

    def _end(self, problem: str | None) -> None:
        if not self.loop.is_over:
            self.loop.is_over, self.problem = True, problem


def run_seed(seed: int, trace: Callable[[float, str], None] | None = None) -> None:
    """Run one schedule.

    Raises:
        FoundError: It showed what must never be.
    """
    world = World(seed, trace)
    sizes = {"_MAX_RECORDS": 4, "_AHEAD_FROM": 1, "_FEW": 1}
    try:
        with mock.patch.dict(vars(assignment), {} if seed % _SMALL_EVERY else sizes):
            world.run()
    except ViolationError as error:
        raise FoundError(f"seed {seed}: {error}") from error
    finally:
        world.fall_apart()
        if seed % _COLLECT_EVERY == 0:
            gc.collect()
