"""Where rewards are kept apart, and where they come together."""

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

    @property
    def parents(self) -> tuple[ParentKey, ParentKey]:
        """The rows that its rewards enter, too, the widest first."""
        return (
            ParentKey(self.account, None, self.variant),
            ParentKey(self.account, self.regime, self.variant),
        )
