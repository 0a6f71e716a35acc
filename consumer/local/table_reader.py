"""The learned table as the contract lays it out in Redis, read from outside of the worker.

It shares no code with the worker's own view, of what stands where, on purpose: the demo is to find out whether an operator
with redis-cli would see what is promised (contract, section 4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from redis.asyncio import Redis, RedisCluster

from consumer.errors import TransientError
from consumer.store.client import asking, heeding_cancel
from schemas import MarketRegime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

_REGIMES = frozenset(MarketRegime)
# Keys asked for at once: round trips stay few, and the server is never busy for long.
_SCAN_COUNT = 1000
_TIMEOUT_S = 5.0


class Arm(NamedTuple):
    """One strategy in one context: where its rewards are counted."""

    symbol: str
    regime: str
    strategy: str


@dataclass(frozen=True, slots=True)
class ArmRow:
    """What Redis holds of an arm."""

    key: str
    """Of the hash it stands in."""
    count: int
    """Rewards folded in."""
    ema_reward: float
    """Q-value [R]"""
    win_count: int
    total_r: float
    """[R]"""


class TableReader:
    """Reads watermarks and rewards of one account; use it as `async with`.

    Args:
        url: As `REDIS_URL`.
        prefix: As `META_STRATEGY_KEY_PREFIX`.
        account: Whose rewards.
        is_cluster: As `REDIS_CLUSTER`.
    """

    def __init__(self, url: str, prefix: str, account: str, *, is_cluster: bool = False) -> None:
        kind = RedisCluster if is_cluster else Redis
        self._client: Redis | RedisCluster = kind.from_url(
            url, decode_responses=True, socket_timeout=_TIMEOUT_S
        )
        self._prefix = prefix
        self._account = account
        self._key = re.compile(re.escape(prefix) + r":\{\d+\}:q:" + re.escape(account) + ":(.+)")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def trades_folded(self, partitions: Iterable[int]) -> dict[int, int]:
        """Give the next `trade-closed` offset to fold of each partition.

        0 where there is none, and while Redis does not answer: ask again.
        """
        folded = {}
        for partition in partitions:
            try:
                with asking():
                    value = await self._client.hget(
                        f"{self._prefix}:{{{partition}}}:watermark", "trades"
                    )
            except TransientError:
                value = None
            folded[partition] = int(value or 0)
        return folded

    async def rows(self) -> dict[Arm, ArmRow]:
        """Read the whole table of the account; not a snapshot while rewards still come in."""
        found: dict[Arm, ArmRow] = {}
        pattern = f"{self._prefix}:{{*}}:q:{self._account}:*"
        with heeding_cancel():
            async for key in self._client.scan_iter(match=pattern, count=_SCAN_COUNT):
                context = self._context(key)
                if context is not None:
                    fields = await self._client.hgetall(key)
                    found |= {Arm(*context, strategy): row for strategy, row in _arms(key, fields)}
        return found

    async def remove(self) -> None:
        """Delete every key under the prefix, of all accounts: for a prefix made for this run."""
        async for key in self._client.scan_iter(match=f"{self._prefix}:*", count=_SCAN_COUNT):
            await self._client.unlink(key)

    def _context(self, key: str) -> tuple[str, str] | None:
        match = self._key.fullmatch(key)
        if match is None:
            return None
        symbol, _, regime = match[1].rpartition(":")
        return (symbol, regime) if symbol and regime in _REGIMES else None


def _arms(key: str, content: Mapping[bytes | str, bytes | str]) -> Iterable[tuple[str, ArmRow]]:
    fields = {str(field): str(value) for field, value in content.items()}  # decoded by the client
    for field, value in fields.items():
        strategy, _, name = field.rpartition(":")
        if name == "count":
            yield (
                strategy,
                ArmRow(
                    key,
                    int(value),
                    float(fields[f"{strategy}:ema_reward"]),
                    int(fields[f"{strategy}:win_count"]),
                    float(fields[f"{strategy}:total_r"]),
                ),
            )
