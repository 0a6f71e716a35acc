"""The whole table as it stands in Redis, for pages and commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from consumer.domain.context import ContextKey
from consumer.domain.open_decision import OpenDecision
from consumer.domain.qtable import ArmStats
from consumer.domain.stored import Totals
from consumer.store import codec
from consumer.store.client import RedisClient, asking
from consumer.store.keys import PartitionKeys
from consumer.store.raw import decode_totals

_ROWS_A_TRIP = 500
"""Rows of one round trip: some milliseconds of work between two looks at the loop."""


@dataclass(frozen=True, slots=True)
class Table:
    """All contexts of all partitions, and their counters."""

    rows: Mapping[ContextKey, Mapping[str, ArmStats]]
    totals: Sequence[Totals]
    open_decisions: int
    followed_signals: int
    """Those that are followed on paper, their ladders still open."""


class TableReader:
    """Reads the whole table; not one moment's, since partitions are read one after the other.

    Args:
        client: Any client of the view's Redis.
        prefix: What every key starts with.
        partitions: Partition count of the input topics.
    """

    def __init__(self, client: RedisClient, prefix: str, partitions: int) -> None:
        self._client = client
        self._keys = [PartitionKeys(prefix, number) for number in range(partitions)]

    async def table(self, symbol: str | None = None) -> Table:
        """Read all contexts, or those of one symbol.

        Raises:
            TransientError: Redis does not answer.
        """
        rows: dict[ContextKey, Mapping[str, ArmStats]] = {}
        totals: list[Totals] = []
        open_decisions = followed = 0
        with asking():
            for keys in self._keys:
                counters = await self._all(keys.key("totals"))
                totals.append(decode_totals(counters))
                open_decisions += int(counters.get("open", 0))
                followed += int(counters.get("followed", 0))
                named = None if symbol is None else f"*:{symbol}:*"
                async for _, text in self._client.hscan_iter(
                    keys.key("contexts"), match=named, count=_ROWS_A_TRIP
                ):
                    context, row = codec.decode_row(text)
                    if symbol is None or context.symbol == symbol:
                        rows[context] = row
        return Table(rows, totals, open_decisions, followed)

    async def _all(self, key: str) -> dict[str, str]:
        # the client decodes: what its types cannot know
        return cast("dict[str, str]", await self._client.hgetall(key))

    async def open_decisions(self, limit: int) -> list[OpenDecision]:
        """Read the newest open decisions.

        Raises:
            TransientError: Redis does not answer.
        """
        found: list[OpenDecision] = []
        with asking():
            for keys in self._keys:
                part: list[OpenDecision] = []
                async for _, text in self._client.hscan_iter(keys.key("decisions"), count=1_000):
                    part.append(codec.decode_decision(text))
                part.sort(key=lambda d: d.timestamp_ms, reverse=True)
                found += part[:limit]
        found.sort(key=lambda d: d.timestamp_ms, reverse=True)
        return found[:limit]


def describe_decision(decision: OpenDecision) -> dict[str, Any]:
    """Describe an open decision."""
    return {
        "decision_id": decision.decision_id,
        "account": decision.account,
        "symbol": decision.symbol,
        "side": str(decision.side),
        "regime": str(decision.regime),
        "strategy": decision.strategy,
        "atr": decision.atr,
        "timestamp_ms": decision.timestamp_ms,
    }
