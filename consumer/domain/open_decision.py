"""What a reward must know of the decision it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

from mypy_extensions import mypyc_attr

from consumer.domain.context import ContextKey
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.quick import quick
from schemas import MarketRegime, Side

REGIMES: Final = {str(regime): regime for regime in MarketRegime}
SIDES: Final = {str(side): side for side in Side}
"""By their texts; found four times as quickly as by calling the class."""

# No tuples: of these two tens of thousands are kept, most of whose fields are numbers. Compiled, a number
# stands in the object itself, and the collector, which never finds a circle there, passes them over.


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class OpenDecision:
    """A remembered decision; never changed once made."""

    decision_id: Final[str]
    account: Final[str]
    symbol: Final[str]
    side: Final[Side]
    regime: Final[MarketRegime]
    variant: Final[str | None]
    strategy: Final[str]
    atr: Final[float]
    """ATR of the signal [quote]."""
    atr_mult_sl: Final[float]
    """Distance of the stop [ATR]."""
    timestamp_ms: Final[int]
    """Timestamp of its Kafka record [ms]."""
    features: Final[Features]
    """Of its signal, where they are kept."""
    number: Final[int]
    """Counts what a partition remembers: the order of open decisions, and of ids for repeats."""
    closed_number: Final[int]
    """The same at its first trade: the order of closed decisions; 0 while it is open."""

    def __init__(
        self,
        decision_id: str,
        account: str,
        symbol: str,
        side: Side,
        regime: MarketRegime,
        variant: str | None,
        strategy: str,
        atr: float,
        atr_mult_sl: float,
        timestamp_ms: int,
        features: Features = NO_FEATURES,
        number: int = 0,
        closed_number: int = 0,
    ) -> None:
        self.decision_id = decision_id
        self.account = account
        self.symbol = symbol
        self.side = side
        self.regime = regime
        self.variant = variant
        self.strategy = strategy
        self.atr = atr
        self.atr_mult_sl = atr_mult_sl
        self.timestamp_ms = timestamp_ms
        self.features = features
        self.number = number
        self.closed_number = closed_number

    def numbered(self, number: int) -> "OpenDecision":
        """Give the same decision with its number."""
        return self._again(number, 0)

    def closed(self, number: int) -> "OpenDecision":
        """Give the same decision with the number of its first trade."""
        return self._again(self.number, number)

    def _again(self, number: int, closed_number: int) -> "OpenDecision":
        return OpenDecision(
            self.decision_id,
            self.account,
            self.symbol,
            self.side,
            self.regime,
            self.variant,
            self.strategy,
            self.atr,
            self.atr_mult_sl,
            self.timestamp_ms,
            self.features,
            number,
            closed_number,
        )

    @property
    def context(self) -> ContextKey:
        """The row of the Q-table its rewards belong to."""
        return quick(ContextKey, (self.account, self.symbol, self.regime, self.variant))

    def row(self) -> tuple[Any, ...]:
        """Give its fields as texts and numbers, the id first: what a window packs."""
        return (
            self.decision_id,
            self.account,
            self.symbol,
            self.side,
            self.regime,
            self.variant,
            self.strategy,
            self.atr,
            self.atr_mult_sl,
            self.timestamp_ms,
            self.features,
            self.number,
            self.closed_number,
        )


def decision_of(row: Sequence[Any]) -> OpenDecision:
    """Give the decision of a row."""
    return OpenDecision(
        row[0],
        intern(row[1]),
        intern(row[2]),
        SIDES[row[3]],
        REGIMES[row[4]],
        row[5],
        intern(row[6]),
        row[7],
        row[8],
        row[9],
        tuple(row[10]),
        row[11],
        row[12],
    )


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class FoldedTrade:
    """What a later revision must know of a trade whose reward was counted; never changed once made."""

    account: Final[str]
    trade_id: Final[str]
    symbol: Final[str]
    regime: Final[MarketRegime]
    variant: Final[str | None]
    strategy: Final[str]
    reward: Final[float]
    """As it was folded, in the table's unit [R]."""
    ordinal: Final[int]
    """Which of its arm's rewards it was, 1 being the first; 0 when it was excluded."""
    revision: Final[int]
    atr: Final[float | None]
    """ATR of its decision [quote]; where that was not known, its own."""
    atr_mult_sl: Final[float]
    """Distance of the strategy's stop [ATR]."""
    sequence: Final[int]
    """When it was counted: what orders it among its like."""
    ordinal_of_all: Final[int]
    """The same as `ordinal` in the widest of its context's parents."""
    ordinal_of_regime: Final[int]
    """The same in the other one."""
    paper: Final[float | None]
    """What its strategy earned on its path [as `reward`]; None without a path."""
    features: Final[Features]
    """Of its decision."""

    def __init__(
        self,
        account: str,
        trade_id: str,
        symbol: str,
        regime: MarketRegime,
        variant: str | None,
        strategy: str,
        reward: float,
        ordinal: int,
        revision: int,
        atr: float | None,
        atr_mult_sl: float,
        sequence: int = 0,
        ordinal_of_all: int = 0,
        ordinal_of_regime: int = 0,
        paper: float | None = None,
        features: Features = NO_FEATURES,
    ) -> None:
        self.account = account
        self.trade_id = trade_id
        self.symbol = symbol
        self.regime = regime
        self.variant = variant
        self.strategy = strategy
        self.reward = reward
        self.ordinal = ordinal
        self.revision = revision
        self.atr = atr
        self.atr_mult_sl = atr_mult_sl
        self.sequence = sequence
        self.ordinal_of_all = ordinal_of_all
        self.ordinal_of_regime = ordinal_of_regime
        self.paper = paper
        self.features = features

    @property
    def is_excluded(self) -> bool:
        """Whether the trade was counted without being learned from."""
        return self.ordinal == 0

    @property
    def context(self) -> ContextKey:
        """The row of the Q-table its reward belongs to."""
        return ContextKey(self.account, self.symbol, self.regime, self.variant)

    def row(self) -> tuple[Any, ...]:
        """Give its fields as texts and numbers, the id first: what a window packs."""
        return (
            self.trade_id,
            self.account,
            self.symbol,
            self.regime,
            self.variant,
            self.strategy,
            self.reward,
            self.ordinal,
            self.revision,
            self.atr,
            self.atr_mult_sl,
            self.sequence,
            self.ordinal_of_all,
            self.ordinal_of_regime,
            self.paper,
            self.features,
        )


def trade_of(row: Sequence[Any]) -> FoldedTrade:
    """Give the trade of a row."""
    return FoldedTrade(
        intern(row[1]),
        row[0],
        intern(row[2]),
        REGIMES[row[3]],
        row[4],
        intern(row[5]),
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        row[14],
        tuple(row[15]),
    )
