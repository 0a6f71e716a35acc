"""Where rewards are kept apart."""

from typing import NamedTuple

from schemas import MarketRegime


class ContextKey(NamedTuple):
    """One row of the Q-table: learning is separate per account, symbol, regime and variant."""

    account: str
    symbol: str
    regime: MarketRegime
    variant: str | None = None
