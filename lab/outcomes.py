"""What every strategy earns on every signal: the bars that followed, walked through its ladder."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.domain.ladder import Ladder, Outcome, walk
from consumer.domain.tpsl import has_valid_levels
from consumer.local.market_bars import BarSeries, BarsError
from consumer.local.paper_executor import HORIZON_BARS
from consumer.local.paper_signals import Entry
from lab.measures import Floats, Ints
from lab.progress import Track
from schemas import CloseReason, StrategyProfile

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a round trip costs; half of it at the entry, half at the exit."""

    fees_bps: float | None = None
    """Fees [basis points of the entry price]; None takes the demo's for the kind of market."""
    spread_bps: float = 0.0
    """Spread [basis points of the entry price]: bars are taken for mid prices."""

    def fraction(self, series: BarSeries) -> float:
        """Give the costs of a symbol [fraction of the entry price]."""
        fees = series.fee if self.fees_bps is None else self.fees_bps / 10_000
        return fees + self.spread_bps / 10_000


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Results by signal (row) and strategy (column)."""

    entries: Sequence[Entry]
    arms: Sequence[str]
    """Ids of the strategies, in the order of the columns."""
    ladders: Sequence[Ladder]
    walked: Sequence[Sequence[Outcome]]
    net_r: Floats
    """Profit less costs [R: one ATR]; of an open trade as marked at the last close."""
    closed_ms: Ints
    """When the trade closed [Unix ms]; of an open one the last close."""
    is_open: Bools
    """Whether the bars end before the trade does."""
    cost_r: Floats
    """Costs of each signal's trade [R]."""
    fees: Floats
    """The same [quote per unit]."""
    opened_ms: Ints
    """Open of each signal's entry bar [Unix ms]."""
    left_out: int
    """Signals for which some strategy would have a level at or below zero."""
    _marks: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    def mark(self, number: int, arm: int, at_ms: int) -> float:
        """Give what a trade is worth while it is open [R]: closed parts, the rest at the last close.

        Args:
            number: Of the signal.
            arm: Of the strategy.
            at_ms: After the trade's first bar has closed [Unix ms].
        """
        entry = self.entries[number]
        bars, first = entry.series.bars, entry.index + 1
        end = bisect_right(bars, at_ms - entry.series.step_ms, key=lambda bar: bar.open_ms)
        key = (number, arm, end)
        if key not in self._marks:
            path = bars[first:end]
            outcome = walk(self.ladders[arm], entry.side, bars[first].open, entry.atr, path)
            self._marks[key] = outcome.gross_r - float(self.cost_r[number])
        return self._marks[key]

    def prices(self, number: int, arm: int) -> dict[str, Any]:
        """Give what an executor reports of a trade: side, entry, exits and the candles between.

        Args:
            number: Of the signal.
            arm: Of the strategy.
        """
        entry, outcome = self.entries[number], self.walked[number][arm]
        first = entry.index + 1
        path = entry.series.bars[first : first + outcome.bars]
        return {
            "side": entry.side,
            "entry_price": path[0].open,
            "exits": [{"price": fill.price, "fraction": fill.fraction} for fill in outcome.fills],
            "atr": entry.atr,
            "fees": float(self.fees[number]),
            "path": [(bar.open_ms, bar.high, bar.low, bar.close) for bar in path],
        }


def walk_all(
    entries: Sequence[Entry],
    profiles: Mapping[str, StrategyProfile],
    costs: Costs,
    *,
    track: Track,
) -> Outcomes:
    """Trade every signal with every strategy.

    A trade is entered at the open of the bar after the signal's, its ladder moves with the fill,
    and it is closed after 120 bars at the latest: the rules of the demo's executor.

    Raises:
        BarsError: There is no signal that every strategy could trade.
    """
    ladders = [Ladder.of_profile(profile) for profile in profiles.values()]
    kept = [
        entry
        for entry in entries
        if all(
            has_valid_levels(ladder, entry.side, entry.series.bars[entry.index].close, entry.atr)
            for ladder in ladders
        )
    ]
    if not kept:
        raise BarsError(
            "no signal can be traded: in all of them some strategy has a level at or below zero"
        )
    shape = (len(kept), len(ladders))
    gross, closed_ms = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    is_open = np.zeros(shape, dtype=np.bool_)
    fees, atr = np.zeros(len(kept)), np.zeros(len(kept))
    walked = []
    for number, entry in enumerate(track(kept, "trades", len(kept))):
        bars, first = entry.series.bars, entry.index + 1
        path = bars[first : first + HORIZON_BARS]
        price = path[0].open
        fees[number], atr[number] = costs.fraction(entry.series) * price, entry.atr
        row = [walk(ladder, entry.side, price, entry.atr, path) for ladder in ladders]
        walked.append(row)
        for arm, outcome in enumerate(row):
            gross[number, arm] = outcome.gross_r
            closed_ms[number, arm] = path[outcome.bars - 1].open_ms + entry.series.step_ms
            is_open[number, arm] = (
                outcome.close_reason is CloseReason.TIMEOUT and len(path) < HORIZON_BARS
            )
    cost_r = fees / atr
    return Outcomes(
        kept,
        tuple(str(arm) for arm in profiles),
        ladders,
        walked,
        gross - cost_r[:, None],
        closed_ms,
        is_open,
        cost_r,
        fees,
        np.array([entry.series.bars[entry.index + 1].open_ms for entry in kept]),
        len(entries) - len(kept),
    )
