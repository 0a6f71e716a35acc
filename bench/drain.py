"""A backlog worked off: rate, CPU time and memory."""

import asyncio
import os
import time
from typing import Any, NamedTuple

from bench.broker import Broker
from bench.contender import ContenderError, Run
from bench.judge import judge
from bench.traffic import Backlog

_WARM_SHARE = 0.02  # start-up ends here: all partitions are open, all code has run
_POLL_S = 0.02
_LIMIT_S = 300.0


class _Moment(NamedTuple):
    at: float
    done: int
    cpu_s: float
    broker_cpu_s: float


async def measure_drain(
    run: Run, broker: Broker, backlog: Backlog, *, processes: int = 1
) -> dict[str, Any]:
    """Let a contender work off a backlog of signals, and of closed trades if it holds some.

    The window runs from 2 % of the records until the last offset is committed; with several
    processes it does not begin before each has its share of the partitions. Then each decision is
    read back and checked, and the rewards are counted.

    Raises:
        ContenderError: It ended, or took too long.
    """
    backlog = backlog.first(run.contender.share)
    signals, trades = backlog
    count = len(signals) + len(trades)
    await broker.preload(run.topics.signals, ((s.key, s.value) for s in signals))
    if trades:
        await broker.preload(run.topics.trades, trades)
    load = os.getloadavg()[0]
    started = run.start(processes)
    began: _Moment | None = None
    while True:
        run.check()
        done = await run.done(with_trades=bool(trades))
        now = _Moment(time.perf_counter(), done, run.cpu_s(), run.broker_cpu_s())
        is_warm = began is None and done >= count * _WARM_SHARE
        if is_warm and (processes == 1 or await _is_shared(run, broker, processes)):
            began = now
        if done >= count:
            break
        if now.at - started > _LIMIT_S:
            raise ContenderError(f"{run.name}: {done} of {count} records after {_LIMIT_S:.0f} s")
        await asyncio.sleep(_POLL_S)
    if began is None or began.done >= count:
        raise ContenderError("the backlog is too small to be measured: use more --signals")
    peak_rss_mib = run.peak_rss_mib()
    await run.stop()
    took_s = now.at - began.at
    # a signal and its trade count as one
    worked_off = (count - began.done) * len(signals) / count
    return {
        "rate": worked_off / took_s,
        "cpu_s_per_100k": (now.cpu_s - began.cpu_s) / worked_off * 100_000,
        "cores": (now.cpu_s - began.cpu_s) / took_s,
        "broker_cpu_s_per_100k": (now.broker_cpu_s - began.broker_cpu_s) / worked_off * 100_000,
        "signals": len(signals),
        "window_s": took_s,
        "peak_rss_mib": peak_rss_mib,
        "load": load,
        **await _judged(run, broker, backlog),
    }


async def _is_shared(run: Run, broker: Broker, processes: int) -> bool:
    shares = await broker.shares(run.group_id)
    return len(shares) == processes and all(shares)


async def _judged(run: Run, broker: Broker, backlog: Backlog) -> dict[str, Any]:
    values = await broker.read_all(run.topics.decisions)
    signals, trades = backlog
    if not run.contender.decides:
        lacking = len(signals) - len(values)
        return {"verdict": {"missing": lacking}, "is_clean": lacking == 0}
    verdict = judge(signals, values)
    rewards = await run.rewards(len(trades)) if trades else 0
    return {
        "trades": len(trades),
        "rewards": rewards,
        "verdict": verdict._asdict(),
        "is_clean": verdict.is_clean and rewards == len(trades),
    }
