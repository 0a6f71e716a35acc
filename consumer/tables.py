"""What the endpoints show: the whole table, read from Redis on demand and kept for a moment."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from consumer.domain.summary import entry, summarize
from consumer.errors import TransientError
from consumer.settings import Settings
from consumer.store.client import connect
from consumer.store.table import Table, TableReader, describe_decision

_KEEP_S = 1.0
"""Age of an answer that is given again: many pages open must not load Redis or the worker."""
_ACTIVE_LIMIT = 500
_ANSWER_TIMEOUT_S = 2.0
"""Longest wait for one of Redis's answers: a page says then that it is away."""

T = TypeVar("T")


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
        self._kept: dict[str, tuple[float, Any]] = {}

    @property
    def _reader(self) -> TableReader:
        if self.reader is None:
            raise TransientError("the topics are not known yet")
        return self.reader

    async def _keep(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        at, value = self._kept.get(name, (float("-inf"), None))
        if time.monotonic() - at > _KEEP_S:
            value = await read()
            self._kept[name] = (time.monotonic(), value)
        found: T = value
        return found

    async def _table(self) -> Table:
        return await self._keep("table", self._reader.table)

    async def summary(self) -> dict[str, Any]:
        """Give the table in short."""
        table = await self._table()
        return dict(summarize(table.rows, table.totals))

    async def state(self) -> dict[str, Any]:
        """Give counters and settings."""
        table = await self._table()
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
        table = await self._table()
        decisions = await self._keep("active", lambda: self._reader.open_decisions(_ACTIVE_LIMIT))
        return {
            "active_strategies": table.open_decisions,
            "decisions": [describe_decision(d) for d in decisions],
        }

    async def qtable(self, symbol: str) -> dict[str, Any]:
        """Give the contexts of a symbol."""
        table = await self._reader.table(symbol)
        return {
            "symbol": symbol,
            "contexts": [
                entry(context, strategy, stats)
                for context, row in sorted(table.rows.items(), key=lambda item: str(item[0]))
                for strategy, stats in row.items()
            ],
        }

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
