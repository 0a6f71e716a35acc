"""All partitions folded anew from the beginning of their logs, by as many processes as there are cores.

Partitions have nothing in common, and folding is work for the processor.
"""

import asyncio
import os
import signal
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
from consumer.domain.partition_state import PartitionState, Position
from consumer.errors import RefusedError
from consumer.rebuild import bounds_of, catch_up, logs_of
from consumer.settings import Settings
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.view import make_view, rewrite

_LOOK_S = 0.1
_MOST_PROCESSES = 8
"""Each holds the state of a partition, up to some hundred MB."""

Offsets = Mapping[TopicPartition, int | None]
"""Up to which the group has worked off the input; None: nothing said."""


async def refold_all(
    settings: Settings,
    partitions: int,
    worked_off: Offsets,
    *,
    on_total: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> list[str]:
    """Fold the logs of all partitions and replace the table by it.

    Args:
        settings: All settings.
        partitions: Of the input topics.
        worked_off: Input is folded to there, or to its end.
        on_total: Told of records that are to be folded, as they become known.
        on_progress: Told how many more were folded.

    Returns:
        What was folded, a line a partition.

    Raises:
        RefusedError: A log does not fit, or a process was killed.
        TransientError: A server does not answer.
    """
    context = get_context("spawn")  # a copy of this process would hold its loop and its connections
    total, done = (
        _Counter(context.Value("q", 0), on_total),
        _Counter(context.Value("q", 0), on_progress),
    )
    pool = ProcessPoolExecutor(
        min(partitions, os.cpu_count() or 1, _MOST_PROCESSES),
        mp_context=context,
        initializer=_begin,
        initargs=(total.shared, done.shared),
    )
    with pool:
        folding = asyncio.gather(
            *(
                asyncio.wrap_future(pool.submit(_refold, settings, partitions, number, worked_off))
                for number in range(partitions)
            )
        )
        children = active_children()
        try:
            while not folding.done():
                await asyncio.wait({folding}, timeout=_LOOK_S)
                # the pool looks for that itself, and may overlook the process that it began last
                if not all(child.is_alive() for child in children):
                    _end(children)
                total.tell()
                done.tell()
            return await folding
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


class _Counter:
    """A number that all processes add to."""

    def __init__(self, shared: "Synchronized[int]", on_more: Callable[[int], None]) -> None:
        self.shared = shared
        self._on_more = on_more
        self._told = 0

    def tell(self) -> None:
        """Tell how much was added since the last time."""
        if more := self.shared.value - self._told:
            self._on_more(more)
            self._told += more


# In a process that folds


_total: "Synchronized[int]"
_done: "Synchronized[int]"


def _begin(total: "Synchronized[int]", done: "Synchronized[int]") -> None:
    global _total, _done
    _total, _done = total, done
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the terminal tells all processes: end at once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    process.tune()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _add(counter: "Synchronized[int]", more: int) -> None:
    with counter.get_lock():
        counter.value += more


def _refold(settings: Settings, partitions: int, number: int, worked_off: Offsets) -> str:
    return uvloop.run(_refolded(settings, partitions, number, worked_off))


async def _refolded(settings: Settings, partitions: int, number: int, worked_off: Offsets) -> str:
    state, logs = PartitionState(settings.fold), logs_of(settings.topics, number)

    def progressed(more: int) -> None:
        _add(_done, more)
        state.take_changes()  # all of it is written in the end: nothing to take note of

    async with (
        LogReader(settings.connection, logs.all) as reader,
        LogEnds(settings.connection) as ends,
    ):
        # the markers of what a worker committed may come after it has gone
        await ends.settled(logs.decisions)
        first, last = await bounds_of(ends, logs)
        _add(_total, sum(last) - sum(first))
        found = await catch_up(
            state,
            reader,
            logs,
            signals_log=TopicPartition(settings.kafka_signals_topic, number),
            upto=Position(
                *(
                    end if log is None or (offset := worked_off.get(log)) is None else offset
                    for log, end in zip(logs, last, strict=True)
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
    candles = "" if logs.candles is None else f", {found.candles} candles"
    return (
        f"partition {number}: {found.decisions} decisions{candles} and {found.trades} closed "
        f"trades folded, {sum(map(len, state.table.rows.values()))} entries"
    )
