"""A partition's state as it is kept outside of the process, and where it stands in its logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.following import Followed, LastCandle, Series
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.qtable import ArmStats
from consumer.domain.regime import Held

MarketKey = tuple[str, str, str]
"""Account, symbol and timeframe."""


class Position(NamedTuple):
    """How far the logs of a partition are folded: the next offset of each."""

    decisions: int = 0
    trades: int = 0
    candles: int = 0

    def reaches(self, other: "Position") -> bool:
        """Tell whether no log is folded less far than at another position."""
        return (
            self.decisions >= other.decisions
            and self.trades >= other.trades
            and self.candles >= other.candles
        )


@dataclass(slots=True)
class Totals:
    """Counters over the life of a partition."""

    decisions: int = 0
    explorations: int = 0
    rewards: int = 0
    sequence: int = 0
    """Numbers what is remembered, so that a stored state knows its order again."""
    answered: int = 0
    """Offset behind the newest signal that has a decision."""

    def next_sequence(self) -> int:
        """Give the next number."""
        self.sequence += 1
        return self.sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPartition:
    """A partition's state at a position, as a view keeps it; groups are in no order."""

    position: Position
    totals: Totals
    rows: Mapping[ContextKey, Mapping[str, ArmStats]]
    open: Sequence[OpenDecision]
    closed: Sequence[OpenDecision]
    decision_ids: Sequence[tuple[str, str, int]]
    """Account, id and number of each decision whose signal would be a repeat."""
    trades: Sequence[FoldedTrade]
    parents: Mapping[ParentKey, Mapping[str, ArmStats]] = field(default_factory=dict)
    markets: Mapping[MarketKey, Held] = field(default_factory=dict)
    followed: Sequence[Followed] = ()
    series: Mapping[Series, LastCandle] = field(default_factory=dict)
