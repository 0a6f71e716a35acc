"""Entry signals for the demo: three plain rules over market bars, none of them clever.

As in a real deployment the side has hardly any edge; what there is to learn is which exits suit a
market's state. Nothing of a signal depends on bars after it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from random import Random
from typing import TYPE_CHECKING

from consumer.domain.indicators import Indicators
from schemas import MarketContext, Side, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.local.market_bars import BarSeries, MarketBar

WARMUP_BARS = 60
"""Bars before the first signal: ADX is there after 28, and has forgotten its start by then."""

ACCOUNT = "paper"
"""Account of all signals: in a table shared with live trading it has its own rows."""

# Least ATR [fraction of the price]: below it a market stands still, and a step of it would be
# thousands of R; hours of a pegged currency have ten times as much.
_LEAST_ATR = 1e-5
_CHANNEL_BARS = 20
_STRETCH_SIGMA = 2.0


class EntryRule(StrEnum):
    """Why a signal was given."""

    BREAKOUT = "breakout"
    """The close left the range of the 20 bars before: followed."""
    STRETCH = "stretch"
    """The close is over 2 standard deviations from its mean of 20 bars: faded."""
    COIN = "coin"
    """A coin was flipped."""


# How much likelier than a coin flip such a moment is picked: about a third of the signals each.
_WEIGHTS = {EntryRule.BREAKOUT: 10.0, EntryRule.STRETCH: 8.0, EntryRule.COIN: 0.7}


@dataclass(frozen=True, slots=True)
class Entry:
    """One moment to enter, as it is known when its bar closes."""

    series: BarSeries
    index: int
    """The bar that has just closed."""
    lap: int
    """How often the bars had been walked through before, 0 at first."""
    rule: EntryRule
    side: Side
    confidence: float
    """The rule's own, 0 to 1."""
    atr: float
    """[quote], above 0"""
    adx: float
    trend_strength: float

    @property
    def close_ms(self) -> int:
        """When the bar closed [Unix ms of market time]."""
        return self.series.bars[self.index].open_ms + self.series.step_ms

    @property
    def replay_time(self) -> tuple[int, int]:
        """Orders entries and exits of the whole replay."""
        return (self.lap, self.close_ms)

    def to_signal(self, signal_id: str, ts_ms: int) -> Signal:
        """Put it on the wire.

        Args:
            signal_id: Unique in the run.
            ts_ms: When the signal is sent [Unix ms], which is not the market's time.
        """
        price = self.series.bars[self.index].close
        return Signal(
            schema_version=1,
            signal_id=signal_id,
            ts=ts_ms,
            symbol=self.series.symbol,
            account=ACCOUNT,
            side=self.side,
            timeframe=self.series.timeframe,
            confidence=self.confidence,
            market=MarketContext(
                current_price=price,
                atr=self.atr,
                atr_pct=None,
                adx=self.adx,
                trend_strength=self.trend_strength,
                volume_24h=self.series.volume_24h(self.index),
                depth_5bps=None,
                spread_bps=None,
                market_cap_rank=None,
                correlation_to_btc=None,
                recent_news_sentiment=None,
            ),
            higher_timeframes=None,
            metadata={"rule": self.rule, "bar_close_ms": self.close_ms, "lap": self.lap},
        )


def plan_entries(series: Sequence[BarSeries], count: int, seed: int) -> list[Entry]:
    """Choose moments to enter, spread over all bars, in the order of market time.

    When there are fewer usable bars than signals wanted, the bars are walked through again, lap by
    lap, with other coins.

    Args:
        series: One per symbol.
        count: How many entries, at least 1.
        seed: Of all draws; the same seed gives the same entries.

    Raises:
        ValueError: No bar of any symbol can be used.

    Source of the draw: Efraimidis & Spirakis, Weighted random sampling with a reservoir (2006):
        the k smallest of Exp(1) / weight are a sample with these weights, without replacement.
    """
    entries: list[Entry] = []
    lap = 0
    while len(entries) < count:
        rng = Random(f"{seed}:{lap}")
        drawn = [
            (rng.expovariate(1.0) / _WEIGHTS[entry.rule], entry)
            for one in series
            for entry in entries_of(one, lap, rng)
        ]
        if not drawn:
            raise ValueError(f"the bars give no signal: more than {WARMUP_BARS} are needed")
        drawn.sort(key=lambda pair: pair[0])
        picked = [entry for _, entry in drawn[: count - len(entries)]]
        entries += sorted(picked, key=lambda entry: (entry.close_ms, entry.series.symbol))
        lap += 1
    return entries


def entries_of(series: BarSeries, lap: int, rng: Random) -> Iterator[Entry]:
    """Walk through the bars of a symbol; every bar that can be entered after gives one entry."""
    indicators = Indicators()
    recent: deque[MarketBar] = deque(maxlen=_CHANNEL_BARS)
    for index, bar in enumerate(series.bars[:-1]):  # after the last one nothing could be bought
        atr, adx, strength = indicators.update(bar.high, bar.low, bar.close)
        if index < WARMUP_BARS or atr is None or adx is None or strength is None:
            recent.append(bar)
            continue
        if atr >= _LEAST_ATR * bar.close:
            rule, side, confidence = _rule(bar, recent, atr, rng)
            yield Entry(series, index, lap, rule, side, confidence, atr, adx, strength)
        recent.append(bar)


def _rule(
    bar: MarketBar, recent: deque[MarketBar], atr: float, rng: Random
) -> tuple[EntryRule, Side, float]:
    """Apply the rules to a closed bar and the 20 before it."""
    top, bottom = max(b.high for b in recent), min(b.low for b in recent)
    closes = [*(b.close for b in recent), bar.close][-_CHANNEL_BARS:]
    mean = sum(closes) / len(closes)
    sigma = sqrt(sum((close - mean) ** 2 for close in closes) / len(closes))
    stretch = (bar.close - mean) / sigma if sigma > 0.0 else 0.0
    leaves = bar.close > top or bar.close < bottom
    stretches = abs(stretch) > _STRETCH_SIGMA
    # a breakout mostly is a stretch, too: the coin decides which of the two opinions is held
    if leaves and (not stretches or rng.random() < 0.5):
        beyond = bar.close - top if bar.close > top else bottom - bar.close
        side = Side.LONG if bar.close > top else Side.SHORT
        return EntryRule.BREAKOUT, side, min(beyond / atr, 1.0)
    if stretches:
        side = Side.SHORT if stretch > 0.0 else Side.LONG
        return EntryRule.STRETCH, side, min(abs(stretch) - _STRETCH_SIGMA, 1.0)
    side = Side.LONG if rng.random() < 0.5 else Side.SHORT
    return EntryRule.COIN, side, rng.random()
