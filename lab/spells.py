"""How long a market stays in a regime."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import median
from typing import NamedTuple

from consumer.domain.indicators import Indicators
from consumer.domain.regime import Held, RegimeDetector, noted
from consumer.local.market_bars import BarSeries
from consumer.local.paper_signals import WARMUP_BARS
from lab.progress import Track
from schemas import MarketContext, MarketRegime


class Dwell(NamedTuple):
    """One regime over all bars of all symbols."""

    regime: MarketRegime
    share: float
    """Of all bars [1]."""
    spells: int
    """How often it began."""
    median_bars: float
    """How long a spell lasted."""
    longest_bars: int


def dwell(series: Iterable[BarSeries], detector: RegimeDetector, *, track: Track) -> list[Dwell]:
    """Tell the regime of every bar, and how long each one lasted; the most frequent first.

    A market without any range has no regime.
    """
    spells: dict[MarketRegime, list[int]] = {}
    for one in series:
        found = track(_regimes(one, detector), f"regimes {one.symbol}", len(one.bars))
        for regime, group in groupby(found):
            if regime is not None:
                spells.setdefault(regime, []).append(sum(1 for _ in group))
    bars = sum(map(sum, spells.values()))
    rows = [
        Dwell(regime, sum(lengths) / bars, len(lengths), median(lengths), max(lengths))
        for regime, lengths in spells.items()
    ]
    return sorted(rows, key=lambda row: row.share, reverse=True)


def _regimes(series: BarSeries, detector: RegimeDetector) -> Iterator[MarketRegime | None]:
    indicators = Indicators()
    held: Held | None = None
    for index, bar in enumerate(series.bars):
        atr, adx, strength = indicators.update(bar.high, bar.low, bar.close)
        if index < WARMUP_BARS or not atr:
            yield None
            continue
        market = MarketContext(
            current_price=bar.close,
            atr=atr,
            atr_pct=None,
            adx=adx,
            trend_strength=strength,
            volume_24h=series.volume_24h(index),
        )
        ts_ms = bar.open_ms + series.step_ms
        found = detector.regime_of(market, None, held, ts_ms).regime
        held = noted(held, found, ts_ms, atr / bar.close)
        yield found
