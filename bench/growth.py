"""How the worker grows: with symbols, partitions, workers; and what a long history costs it."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import orjson

from bench.broker import PARTITIONS, Broker
from bench.contender import ContenderError, Run, attempt
from bench.contenders import WORKER
from bench.drain import measure_drain
from bench.history import History, row_trades
from bench.paced import now_text
from bench.traffic import Backlog, make_backlog
from consumer.local.stack import Stack
from consumer.stream.groups import commit_offsets

SYMBOLS = (20, 200, 2_000, 10_000)
PARTITION_COUNTS = (2, 8, 16, 64)
WORKERS = (1, 2, 4)
ROWS = (0, 100_000)

_REBUILD = (sys.executable, "-m", "consumer.cli.main", "qtable", "rebuild", "--yes")
_IS_OPEN = re.compile(r"partition \d+ is open")
_FOLDED = re.compile(r"and (\d+) closed trades folded")
_TELLS_OPENINGS = {"LOG_LEVEL": "INFO", "LOG_RECORDS": "off", "LOG_FORMAT": "json"}
_POLL_S = 0.01
_LOOK_S = 0.05  # at what a rebuild uses: each look is work for a machine that has none to spare
_OPEN_LIMIT_S = 180.0
_SETTLED_S = 3.0
_REBUILD_LIMIT_S = 600.0


async def measure_sizes(
    stack: Stack, broker: Broker, *, signals: int, number: int
) -> AsyncIterator[tuple[str, int, dict[str, Any]]]:
    """Drain one backlog at each size; give the kind of size, the size and what was measured.

    Args:
        stack: The servers.
        broker: The same Kafka.
        signals: Backlog of a drain; twice of it for several workers, who have to share first.
        number: The round; every second one begins with the largest.
    """
    step = 1 if number % 2 else -1
    for count in SYMBOLS[::step]:
        backlog = make_backlog(signals, ts=now_text(), symbols=count)
        yield "symbols", count, await _drained(stack, broker, backlog)
    backlog = make_backlog(signals, ts=now_text())
    for count in PARTITION_COUNTS[::step]:
        yield "partitions", count, await _drained(stack, broker, backlog, partitions=count)
    backlog = make_backlog(2 * signals, ts=now_text())
    for count in WORKERS[::step]:
        yield "workers", count, await _drained(stack, broker, backlog, processes=count)


async def _drained(
    stack: Stack,
    broker: Broker,
    backlog: Backlog,
    *,
    partitions: int = PARTITIONS,
    processes: int = 1,
) -> dict[str, Any]:
    async with Run(WORKER, stack, broker, partitions=partitions) as run:
        return await attempt(measure_drain(run, broker, backlog, processes=processes))


async def measure_opening(
    stack: Stack, broker: Broker, *, rows: int, times: int
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Let a worker open a partition whose view holds that many rows, several times.

    Measured is the time from when the group has given the partition to the worker until the worker
    says that it is open.

    Raises:
        ContenderError: It did not open in time, or the table could not be made.
    """
    async with Run(WORKER, stack, broker, partitions=1, environment=_TELLS_OPENINGS) as run:
        if rows:
            await broker.preload(run.topics.trades, row_trades(rows, ts=now_text()))
            await _rebuild(run, broker, rows)
        for _ in range(times):
            load, seen = os.getloadavg()[0], len(run.log_text)
            run.start()
            given_at = await _given(run, broker)
            cpu_s = run.cpu_s()
            opened_at = await _opened(run, seen, partitions=1)
            yield (
                "opening",
                {
                    "cpu_s": run.cpu_s() - cpu_s,
                    "open_s": max(0.0, opened_at - given_at),
                    "peak_rss_mib": run.peak_rss_mib(),
                    "load": load,
                    "is_clean": True,
                },
            )
            await run.stop()


async def _given(run: Run, broker: Broker) -> float:
    deadline = time.monotonic() + _OPEN_LIMIT_S
    # of both input topics
    while await broker.shares(run.group_id) != [2 * run.partitions]:
        run.check()
        if time.monotonic() > deadline:
            raise ContenderError(f"{run.name}: not given its partition in {_OPEN_LIMIT_S:.0f} s")
        await asyncio.sleep(_POLL_S)
    return time.time()


async def _opened(run: Run, seen: int, *, partitions: int) -> float:
    """Give the Unix time at which the worker says it has opened the last partition [s]."""
    deadline = time.monotonic() + _OPEN_LIMIT_S
    while True:
        run.check()
        lines = run.log_text[seen:].splitlines()
        told = [line for line in lines if _IS_OPEN.search(line) and line.endswith("}")]
        if len(told) == partitions:
            return datetime.fromisoformat(orjson.loads(told[-1])["timestamp"]).timestamp()
        if time.monotonic() > deadline:
            raise ContenderError(f"{run.name}: not open within {_OPEN_LIMIT_S:.0f} s")
        await asyncio.sleep(_POLL_S)


async def measure_history(
    stack: Stack, broker: Broker, *, trades: int, times: int
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Rebuild the table from a history of closed trades and their decisions, then take it over, several times each.

    The time of a rebuild is that of the whole command, from its start to its end. That of a takeover is from
    when the group has given all partitions to a worker until the last one is open; then its memory is told.

    Raises:
        ContenderError: The partitions did not open in time.
    """
    async with Run(WORKER, stack, broker, environment=_TELLS_OPENINGS) as run:
        history = History(run, broker, trades, symbols=200, ts=now_text())
        await broker.preload(run.topics.decisions, history.decisions())
        await broker.preload(run.topics.trades, history.trades())
        for _ in range(times):
            yield "rebuild", await _rebuild(run, broker, trades)
        for _ in range(times):
            load, seen = os.getloadavg()[0], len(run.log_text)
            run.start()
            given_at = await _given(run, broker)
            opened_at = await _opened(run, seen, partitions=run.partitions)
            await asyncio.sleep(_SETTLED_S)
            yield (
                "remembering",
                {
                    "open_s": max(0.0, opened_at - given_at),
                    "rss_mib": run.rss_mib(),
                    "redis_mib": await run.redis_mib(),
                    "peak_rss_mib": run.peak_rss_mib(),
                    "load": load,
                    "is_clean": True,
                },
            )
            await run.stop()


async def _rebuild(run: Run, broker: Broker, trades: int) -> dict[str, Any]:
    load, ends = os.getloadavg()[0], await broker.ends(run.topics.trades)
    await commit_offsets(broker.connection, run.group_id, ends)
    seen = len(run.log_text)
    cpu_s = peak_rss_mib = 0.0
    started = run.start(command=_REBUILD)
    while run.exit_code is None:
        if (found := run.usage()) is not None:
            # at the end those that folded are gone, and what they used with them
            cpu_s, peak_rss_mib = max(cpu_s, found[0]), max(peak_rss_mib, found[1])
        if time.perf_counter() - started > _REBUILD_LIMIT_S:
            raise ContenderError(f"the rebuild took more than {_REBUILD_LIMIT_S:.0f} s")
        await asyncio.sleep(_LOOK_S)
    took_s = time.perf_counter() - started
    text, code = run.log_text[seen:], run.exit_code
    await run.stop()
    if code:
        raise ContenderError(f"the rebuild ended with exit code {code}\n{text[-2_000:]}")
    folded = sum(map(int, _FOLDED.findall(text)))
    return {
        "rate": trades / took_s,
        "took_s": took_s,
        "cpu_s_per_100k": cpu_s / trades * 100_000,
        "peak_rss_mib": peak_rss_mib,
        "load": load,
        "verdict": {"missing": trades - folded},
        "is_clean": folded == trades,
    }
