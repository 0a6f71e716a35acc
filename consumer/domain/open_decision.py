"""What a reward must know of the decision it belongs to."""

from typing import NamedTuple

from consumer.domain.context import ContextKey
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.quick import quick
from schemas import MarketRegime, Side


class OpenDecision(NamedTuple):
    """A remembered decision; never changed once made."""

    decision_id: str
    account: str
    symbol: str
    side: Side
    regime: MarketRegime
    variant: str | None
    strategy: str
    atr: float
    """ATR of the signal [quote]."""
    atr_mult_sl: float
    """Distance of the stop [ATR]."""
    timestamp_ms: int
    """Timestamp of its Kafka record [ms]."""
    features: Features = NO_FEATURES
    """Of its signal, where they are kept."""
    number: int = 0
    """Counts what a partition remembers: the order of open decisions, and of ids for repeats."""
    closed_number: int = 0
    """The same at its first trade: the order of closed decisions; 0 while it is open."""

    def numbered(self, number: int) -> "OpenDecision":
        """Give the same decision with its number."""
        return quick(OpenDecision, (*self[:-2], number, 0))

    def closed(self, number: int) -> "OpenDecision":
        """Give the same decision with the number of its first trade."""
        return quick(OpenDecision, (*self[:-1], number))

    @property
    def context(self) -> ContextKey:
        """The row of the Q-table its rewards belong to."""
        return quick(ContextKey, (self.account, self.symbol, self.regime, self.variant))


class FoldedTrade(NamedTuple):
    """What a later revision must know of a trade whose reward was counted."""

    account: str
    trade_id: str
    symbol: str
    regime: MarketRegime
    variant: str | None
    strategy: str
    reward: float
    """As it was folded, in the table's unit [R]."""
    ordinal: int
    """Which of its arm's rewards it was, 1 being the first; 0 when it was excluded."""
    revision: int
    atr: float | None
    """ATR of its decision [quote]; where that was not known, its own."""
    atr_mult_sl: float
    """Distance of the strategy's stop [ATR]."""
    sequence: int = 0
    """When it was counted: what orders it among its like."""
    ordinal_of_all: int = 0
    """The same as `ordinal` in the widest of its context's parents."""
    ordinal_of_regime: int = 0
    """The same in the other one."""
    paper: float | None = None
    """What its strategy earned on its path [as `reward`]; None without a path."""
    features: Features = NO_FEATURES
    """Of its decision."""

    @property
    def is_excluded(self) -> bool:
        """Whether the trade was counted without being learned from."""
        return self.ordinal == 0

    @property
    def context(self) -> ContextKey:
        """The row of the Q-table its reward belongs to."""
        return ContextKey(self.account, self.symbol, self.regime, self.variant)
