"""What the endpoints show: the whole table, read from Redis on demand and kept for a moment."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from consumer.domain.context import ContextKey
from consumer.domain.open_decision import OpenDecision
from consumer.domain.summary import Summary, entry, summarize
from consumer.errors import TransientError
from consumer.settings import Settings
from consumer.store.client import connect
from consumer.store.keys import context_name
from consumer.store.table import Table, TableReader, describe_decision

_KEEP_S = 1.0
"""Age of an answer that is given again: many pages open must not load Redis or the worker."""
_SYMBOLS = 20
"""Tables of one symbol that are kept at once; more, and scans of 100,000 rows would take Redis more than a
second in each; fewer, and a dashboard of some symbols would have the whole table read."""
_ACTIVE_LIMIT = 500
_ANSWER_TIMEOUT_S = 2.0
"""Longest wait for one of Redis's answers: a page says then that it is away."""

K = TypeVar("K")
T = TypeVar("T")


class _Reads(Generic[K, T]):
    """Reads that all share who ask while they run, and for a moment after.

    Args:
        read: Reads what is asked for.
    """

    def __init__(self, read: Callable[[K], Coroutine[Any, Any, T]]) -> None:
        self._read = read
        self._tasks: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, what: object) -> bool:
        return what in self._tasks

    async def get(self, what: K) -> T:
        """Give what is kept, or is being read; else read it."""
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = asyncio.create_task(self._read(what))
            task.add_done_callback(partial(self._ended, what))
        # who goes away must not end the others' read
        return await asyncio.shield(task)

    def _ended(self, what: K, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._tasks[what]  # the next one who asks may find Redis back
        else:
            asyncio.get_running_loop().call_later(_KEEP_S, self._tasks.pop, what)

    async def close(self) -> None:
        """End what is being read."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class _Found:
    """A table, and what is worked out of it once for all who ask.

    Args:
        table: As it was read.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    @cached_property
    def summary(self) -> Summary:
        """The table in short."""
        return summarize(self.table.rows, self.table.totals)

    @cached_property
    def contexts(self) -> Mapping[str, Sequence[ContextKey]]:
        """The contexts of each symbol."""
        found = defaultdict(list)
        for context in self.table.rows:
            found[context.symbol].append(context)
        return found


class WholeTable:
    """Answers of the API; see telemetry.http.Tables.

    Args:
        settings: All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.client = connect(
            settings.redis_url.get_secret_value(),
            cluster=settings.redis_cluster,
            timeout_s=_ANSWER_TIMEOUT_S,
        )
        self.reader: TableReader | None = None
        self._tables = _Reads[str | None, _Found](self._find)
        """By symbol; None: the whole table."""
        self._newest = _Reads[int, list[OpenDecision]](self._find_open)

    @property
    def _reader(self) -> TableReader:
        if self.reader is None:
            raise TransientError("the topics are not known yet")
        return self.reader

    async def _find(self, symbol: str | None) -> _Found:
        return _Found(await self._reader.table(symbol))

    async def _find_open(self, limit: int) -> list[OpenDecision]:
        return await self._reader.open_decisions(limit)

    async def summary(self) -> dict[str, Any]:
        """Give the table in short."""
        return dict((await self._tables.get(None)).summary)

    async def state(self) -> dict[str, Any]:
        """Give counters and settings."""
        table = (await self._tables.get(None)).table
        decisions = sum(t.decisions for t in table.totals)
        return {
            "enabled": self._settings.meta_strategy_enabled,
            "total_selections": decisions,
            "total_regime_detections": decisions,
            "total_reward_updates": sum(t.rewards for t in table.totals),
            "active_strategies": table.open_decisions,
            "followed_signals": table.followed_signals,
            "epsilon": self._settings.meta_strategy_epsilon,
            "alpha": self._settings.meta_strategy_alpha,
            "policy": self._settings.meta_strategy_policy,
        }

    async def active(self) -> dict[str, Any]:
        """Give the newest open decisions."""
        table = (await self._tables.get(None)).table
        decisions = await self._newest.get(_ACTIVE_LIMIT)
        return {
            "active_strategies": table.open_decisions,
            "decisions": [describe_decision(d) for d in decisions],
        }

    async def qtable(self, symbol: str) -> dict[str, Any]:
        """Give the contexts of a symbol."""
        # anybody may ask for any symbol: of too many the whole table is read, once for all of them
        is_one = symbol in self._tables or len(self._tables) < _SYMBOLS
        found = await self._tables.get(symbol if is_one else None)
        return {
            "symbol": symbol,
            "contexts": [
                entry(context, strategy, stats)
                for context in sorted(found.contexts.get(symbol, ()), key=context_name)
                for strategy, stats in found.table.rows[context].items()
            ],
        }

    async def close(self) -> None:
        """End what is being read, and close the connections."""
        await self._tables.close()
        await self._newest.close()
        await self.client.aclose()
