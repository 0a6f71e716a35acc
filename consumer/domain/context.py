"""Where rewards are kept apart, and where they come together."""

from functools import lru_cache
from typing import NamedTuple

from schemas import MarketRegime


class ParentKey(NamedTuple):
    """A row over all symbols of a partition: what contexts with few rewards lean on."""

    account: str
    regime: MarketRegime | None
    """None: over all regimes."""
    variant: str | None = None


class ContextKey(NamedTuple):
    """One row of the Q-table: learning is separate per account, symbol, regime and variant."""

    account: str
    symbol: str
    regime: MarketRegime
    variant: str | None = None


def parents_of(context: ContextKey) -> tuple[ParentKey, ParentKey]:
    """Give the rows that a context's rewards enter, too, the widest first."""
    account, _, regime, variant = context
    return _parents(account, regime, variant)


@lru_cache(maxsize=1024)  # asked for with every reward, and they are few
def _parents(
    account: str, regime: MarketRegime, variant: str | None
) -> tuple[ParentKey, ParentKey]:
    return ParentKey(account, None, variant), ParentKey(account, regime, variant)
