"""A backlog worked off: rate, CPU time and memory."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

from bench.broker import Broker
from bench.contender import ContenderError, Run
from bench.traffic import BenchSignal, judge

_WARM_SHARE = 0.02  # start-up ends here: all partitions are open, all code has run
_POLL_S = 0.02
_LIMIT_S = 180.0


async def measure_drain(run: Run, broker: Broker, signals: Sequence[BenchSignal]) -> dict[str, Any]:
    """Let a contender work off a backlog.

    The window runs from 2 % of the backlog until the last offset is committed. Then each decision is
    read back and checked.
    """
    count = len(signals)
    await broker.preload(run.topics.signals, signals)
    load = os.getloadavg()[0]
    started = run.start()
    began: tuple[float, int, float, float] | None = None
    while True:
        run.check()
        done = await broker.committed(run.group_id, run.topics.signals)
        now = time.perf_counter()
        if began is None and done >= count * _WARM_SHARE:
            began = now, done, run.cpu_s(), run.broker_cpu_s()
        if done >= count:
            break
        if now - started > _LIMIT_S:
            raise ContenderError(f"{run.name}: {done} of {count} signals after {_LIMIT_S:.0f} s")
        await asyncio.sleep(_POLL_S)
    cpu_s, broker_cpu_s = run.cpu_s(), run.broker_cpu_s()
    if began is None or began[1] >= count:
        raise ContenderError("the backlog is too small to be measured: use more --signals")
    worked_off, took_s = count - began[1], now - began[0]
    peak_rss_mib = run.peak_rss_mib()
    await run.stop()
    verdict = judge(signals, await broker.read_all(run.topics.decisions))
    return {
        "rate": worked_off / took_s,
        "cpu_s_per_100k": (cpu_s - began[2]) / worked_off * 100_000,
        "cores": (cpu_s - began[2]) / took_s,
        "broker_cpu_s_per_100k": (broker_cpu_s - began[3]) / worked_off * 100_000,
        "window_s": took_s,
        "peak_rss_mib": peak_rss_mib,
        "load": load,
        "verdict": verdict._asdict(),
        "is_clean": verdict.is_clean,
    }
