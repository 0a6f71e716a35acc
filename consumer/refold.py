"""All partitions folded anew from the beginning of their logs, by as many processes as there are cores.

Partitions have nothing in common, and folding is work for the processor.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized

import uvloop
from aiokafka import TopicPartition

from consumer import process
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import RefusedError
from consumer.rebuild import catch_up, logs_of
from consumer.settings import Settings
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.view import make_view, rewrite
from consumer.words import plural

_LOOK_S = 0.1
_END = sys.maxsize
"""Of a log, wherever it is."""
_MOST_PROCESSES = 8
"""Each holds the state of a partition, up to some hundred MB."""

Offsets = Mapping[TopicPartition, int | None]
"""Up to which the group has worked off the input; None: nothing said."""


async def refold_all(
    settings: Settings,
    sizes: Mapping[int, int],
    worked_off: Offsets,
    *,
    on_progress: Callable[[int], None],
) -> list[str]:
    """Fold the logs of all partitions and replace the table by it.

    Args:
        settings: All settings.
        sizes: About how many records there are of each partition.
        worked_off: Input is folded to there, or to its end.
        on_progress: Told how many more were folded.

    Returns:
        What was folded, a line a partition.

    Raises:
        RefusedError: A log does not fit, or a process was killed.
        TransientError: A server does not answer.
    """
    context = get_context("spawn")  # a copy of this process would hold its loop and its connections
    done, told = context.Value("q", 0), 0
    pool = ProcessPoolExecutor(
        min(len(sizes), os.cpu_count() or 1, _MOST_PROCESSES),
        mp_context=context,
        initializer=_begin,
        initargs=(done,),
    )
    # the largest first: else one might begin when all others are done
    order = sorted(sizes, key=lambda number: -sizes[number])
    others = set(active_children())
    with pool:
        folding = asyncio.gather(
            *(
                asyncio.wrap_future(pool.submit(_refold, settings, len(sizes), number, worked_off))
                for number in order
            )
        )
        children = set(active_children()) - others
        try:
            while not folding.done():
                await asyncio.wait({folding}, timeout=_LOOK_S)
                # the pool looks for that itself, and may overlook the process that it began last
                if not all(child.is_alive() for child in children):
                    _end(children)
                if more := done.value - told:
                    on_progress(more)
                    told += more
            lines = dict(zip(order, await folding, strict=True))
            return [lines[number] for number in sizes]
        except BrokenProcessPool as error:
            raise RefusedError(
                "a process that folded a partition was ended from outside: for want of memory?"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # whoever waited has an answer or wants none: else the command would end with the last of them
            _end(children)


def _end(children: Iterable[BaseProcess]) -> None:
    for child in children:
        child.terminate()


# In a process that folds


_done: "Synchronized[int]"


def _begin(done: "Synchronized[int]") -> None:
    global _done  # noqa: PLW0603 - what a pool's initializer is for
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the terminal tells all processes: end at once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    process.tune()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _count(more: int) -> None:
    with _done.get_lock():
        _done.value += more


def _refold(settings: Settings, partitions: int, number: int, worked_off: Offsets) -> str:
    return uvloop.run(_refolded(settings, partitions, number, worked_off))


async def _refolded(settings: Settings, partitions: int, number: int, worked_off: Offsets) -> str:
    state, logs = PartitionState(settings.fold), logs_of(settings.topics, number)

    def progressed(more: int) -> None:
        _count(more)
        state.take_changes()  # all of it is written in the end: nothing to take note of

    async with (
        LogReader(settings.connection, logs.all) as reader,
        LogEnds(settings.connection) as ends,
    ):
        found = await catch_up(
            state,
            reader,
            logs,
            signals_log=TopicPartition(settings.kafka_signals_topic, number),
            upto=Position(
                *(
                    _END if log is None or (offset := worked_off.get(log)) is None else offset
                    for log in logs
                )
            ),
            ends=ends,
            on_progress=progressed,
        )
    view = make_view(settings, partitions)
    try:
        await rewrite(view, number, state)
    finally:
        await view.close()
    candles = "" if logs.candles is None else f", {found.candles} {plural(found.candles, 'candle')}"
    entries = sum(map(len, state.table.rows.values()))
    return (
        f"partition {number}: {found.decisions} {plural(found.decisions, 'decision')}{candles} and "
        f"{found.trades} closed {plural(found.trades, 'trade')} folded, "
        f"{entries} {plural(entries, 'entry', 'entries')}"
    )
