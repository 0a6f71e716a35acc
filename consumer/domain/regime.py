"""Which state is a market in? The first rule that matches wins (contract, section 2)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

from consumer.domain.quick import quick
from schemas import HigherTimeframe, MarketContext, MarketRegime

# Python 3.11 takes longer to find a member of an enum than to compare all numbers of a market
_UP: Final = MarketRegime.TREND_UP
_DOWN: Final = MarketRegime.TREND_DOWN
_QUIET: Final = MarketRegime.RANGE_LOW_VOL
_WILD: Final = MarketRegime.RANGE_HIGH_VOL
_UNKNOWN: Final = MarketRegime.UNKNOWN
_TRENDS: Final = frozenset({_UP, _DOWN})
_AT_ONCE: Final = frozenset({MarketRegime.ILLIQUID, MarketRegime.HIGH_VOLATILITY})
"""Nobody waits to be told of these."""
_EVIDENCE: Final = "ADX=%.1f, trend_strength=%.2f, ATR=%.2f%%%s"
_TRENDING_UP: Final = f"Trending UP: {_EVIDENCE}"
_TRENDING_DOWN: Final = f"Trending DOWN: {_EVIDENCE}"
_RANGING: Final = f"Ranging, low volatility: {_EVIDENCE}"
_RANGING_WIDELY: Final = f"Ranging, high volatility: {_EVIDENCE}"
_MIXED: Final = f"Mixed evidence: {_EVIDENCE}"
"""Made whole: native code takes half as long again for the parts of an f-string."""
_HIGHEST_ADX: Final = 100.0
_HIGHEST_STRENGTH: Final = 1.0
_UNSURE_RANGE_PENALTY: Final = 0.2
"""Confidence that a range loses between low and high volatility [1] (contract)."""


class RegimeResult(NamedTuple):
    """A regime, how sure it is [1: 0 to 1], and why, for people."""

    regime: MarketRegime
    confidence: float
    reasoning: str


def atr_fraction(context: MarketContext) -> float:
    """Give the ATR as a fraction of the price [1]: as given, else computed."""
    given = context.atr_pct
    return context.atr / context.current_price if given is None else given


_LEAST_SIGNALS = 50
"""Before so many nobody knows what is usual in a market: its limits are those of all."""
_NEWEST_SIGNALS = 500
"""About how many make up what is usual: a market may come to move differently for good."""


class Held(NamedTuple):
    """What its decisions tell of a market."""

    regime: MarketRegime
    """The one it is in."""
    since_ms: int
    """Since when [Unix ms]."""
    mean_atr: float = 0.0
    """Mean ATR of its signals, the newest counting most [fraction of the price]."""
    signals: int = 0
    """Behind that mean; 0 where it is not kept."""

    @property
    def usual_atr(self) -> float | None:
        """Its usual ATR [fraction of the price]; None before 50 signals."""
        return self.mean_atr if self.signals >= _LEAST_SIGNALS else None


def noted(held: Held | None, regime: MarketRegime, ts_ms: int, atr: float | None) -> Held:
    """Give what is known of a market after one more decision; the same object if that is the same.

    Args:
        held: What was known; None: nothing.
        regime: Of the decision.
        ts_ms: Time of its signal [Unix ms].
        atr: Of its signal [fraction of the price], where that is kept.
    """
    if held is None:
        held = quick(Held, (regime, ts_ms, 0.0, 0))
    elif held.regime is not regime:
        held = quick(Held, (regime, ts_ms, held.mean_atr, held.signals))
    if atr is None:
        return held
    signals = held.signals + 1
    weight = 1.0 / min(signals, _NEWEST_SIGNALS)
    mean = held.mean_atr + weight * (atr - held.mean_atr)
    return Held(held.regime, held.since_ms, mean, signals)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeDetector:
    """Rules with thresholds, each above 0; fractions are of the price: 0.04 is 4 %."""

    trend_adx_threshold: float = 25.0
    """ADX above which a market trends, within (0, 100]."""
    trend_strength_threshold: float = 0.3
    """Absolute trend strength above which a market trends, within (0, 1]."""
    low_vol_atr_pct_threshold: float = 0.015
    """ATR [fraction] from which a range is no longer surely quiet."""
    high_vol_atr_pct_threshold: float = 0.04
    """ATR [fraction] above which a range is volatile."""
    extreme_vol_atr_pct_threshold: float = 0.06
    """ATR [fraction] above which nothing else counts."""
    illiquid_volume_threshold: float = 2_000_000.0
    """Smallest 24 h volume of a liquid market [quote]."""
    illiquid_depth_threshold: float = 50_000.0
    """Smallest depth within 5 basis points of a liquid market [quote]."""
    illiquid_spread_bps_threshold: float = 10.0
    """Largest spread of a liquid market [basis points]."""
    atr_reference: float | None = None
    """ATR [fraction] of a market that the limits of ATR are meant for: they are larger by as much as
    a market's own usual ATR is; None: they are the same for all."""
    confirms_trends: bool = False
    """Whether a trend must not be contradicted by higher timeframes."""
    hysteresis: float = 0.0
    """Part by which limits give way for the regime that a market is in [1], within [0, 0.5]."""
    min_dwell_ms: int = 0
    """Time that a regime lasts at least [ms], at least 0; an urgent one ends it at once."""

    def __post_init__(self) -> None:
        for name, limit, highest in (
            ("trend_adx_threshold", self.trend_adx_threshold, _HIGHEST_ADX),
            ("trend_strength_threshold", self.trend_strength_threshold, _HIGHEST_STRENGTH),
        ):
            if not 0.0 < limit <= highest:
                raise ValueError(f"{name} must be within (0, {highest:g}], was {limit}")
        for name, value in asdict(self).items():
            if name.endswith("_threshold") and not value > 0.0:
                raise ValueError(f"{name} must be above 0, was {value}")
        if self.atr_reference is not None and not self.atr_reference > 0.0:
            raise ValueError(f"atr_reference must be above 0, was {self.atr_reference}")
        if not 0.0 <= self.hysteresis <= 0.5:
            raise ValueError(f"hysteresis must be within [0, 0.5], was {self.hysteresis}")
        if self.min_dwell_ms < 0:
            raise ValueError(f"min_dwell_ms must be at least 0, was {self.min_dwell_ms}")
        low, high = self.low_vol_atr_pct_threshold, self.high_vol_atr_pct_threshold
        if not low <= high <= self.extreme_vol_atr_pct_threshold:
            raise ValueError(
                "low_vol_atr_pct_threshold, high_vol_atr_pct_threshold, "
                "extreme_vol_atr_pct_threshold must not fall, "
                f"were {low}, {high}, {self.extreme_vol_atr_pct_threshold}"
            )

    def detect_regime(self, context: MarketContext, usual_atr: float | None = None) -> RegimeResult:
        """Classify a market.

        Args:
            context: What is known of it; a missing volume, depth or spread is not checked.
            usual_atr: Its usual ATR [fraction of the price], where limits are relative to it.

        Returns:
            The regime; `unknown` with confidence 0 when the evidence is mixed, or when adx or
            trend_strength is missing and neither liquidity nor volatility decides.

        Source: contract, section 2.
        """
        if illiquid := self._illiquid(context):
            return illiquid
        scale, usual = 1.0, ""
        atr_pct = atr_fraction(context)
        if self.atr_reference is not None and usual_atr is not None:
            scale, usual = usual_atr / self.atr_reference, f", usual {usual_atr:.2%}"
            # as decisions tell it, and so what is usual was made of
            atr_pct = context.atr / context.current_price
        extreme = scale * self.extreme_vol_atr_pct_threshold
        if atr_pct > extreme:
            return RegimeResult(
                MarketRegime.HIGH_VOLATILITY,
                min(atr_pct / 2 / extreme, 1.0),
                f"Extreme volatility: ATR={atr_pct:.2%} > {extreme:.2%}{usual}",
            )
        adx, strength = context.adx, context.trend_strength
        if adx is None or strength is None:
            told = {"adx": adx, "trend_strength": strength}
            missing = [name for name, value in told.items() if value is None]
            return RegimeResult(
                MarketRegime.UNKNOWN, 0.0, f"Unknown: {' and '.join(missing)} missing"
            )
        evidence = (adx, strength, 100.0 * atr_pct, usual)
        adx_limit, strength_limit = self.trend_adx_threshold, self.trend_strength_threshold
        size = abs(strength)
        if adx > adx_limit and size > strength_limit:
            confidence = 0.5 * min(adx / 2 / adx_limit, 1.0) + 0.5 * min(
                size / 2 / strength_limit, 1.0
            )
            if strength > 0:
                return quick(RegimeResult, (_UP, confidence, _TRENDING_UP % evidence))
            return quick(RegimeResult, (_DOWN, confidence, _TRENDING_DOWN % evidence))
        if adx <= adx_limit and size <= strength_limit:
            confidence = 1.0 - 0.25 * adx / adx_limit - 0.25 * size / strength_limit
            if atr_pct > scale * self.high_vol_atr_pct_threshold:
                return quick(RegimeResult, (_WILD, confidence, _RANGING_WIDELY % evidence))
            if atr_pct >= scale * self.low_vol_atr_pct_threshold:
                confidence -= _UNSURE_RANGE_PENALTY
            return quick(RegimeResult, (_QUIET, confidence, _RANGING % evidence))
        return quick(RegimeResult, (_UNKNOWN, 0.0, _MIXED % evidence))

    def detect_signal_regime(
        self,
        context: MarketContext,
        higher: Sequence[HigherTimeframe] | None,
        usual_atr: float | None = None,
    ) -> RegimeResult:
        """Classify the market of a signal; higher timeframes are asked where they are to confirm.

        Args:
            context: What is known of the market.
            higher: Indicators of longer timeframes.
            usual_atr: As in `detect_regime`.
        """
        found = self.detect_regime(context, usual_atr)
        if not (self.confirms_trends and higher) or found.regime not in _TRENDS:
            return found
        return self._confirmed(found, higher)

    def regime_of(
        self,
        context: MarketContext,
        higher: Sequence[HigherTimeframe] | None,
        held: Held | None,
        ts_ms: int,
    ) -> RegimeResult:
        """Classify the market of a signal by all that is known of it.

        Args:
            context: As the signal tells it.
            higher: Indicators of longer timeframes.
            held: What earlier decisions told; None: it was never seen.
            ts_ms: Time of the signal [Unix ms].
        """
        usual_atr = None if held is None or self.atr_reference is None else held.usual_atr
        found = self.detect_signal_regime(context, higher, usual_atr)
        if self.hysteresis > 0.0 or self.min_dwell_ms > 0:
            return self.settle(found, context, higher, held, ts_ms)
        return found

    def settle(
        self,
        found: RegimeResult,
        context: MarketContext,
        higher: Sequence[HigherTimeframe] | None,
        held: Held | None,
        ts_ms: int,
    ) -> RegimeResult:
        """Let a market stay in its regime where what speaks against it is young or weak.

        Args:
            found: What `detect_signal_regime` says.
            context: What is known of the market.
            higher: Indicators of longer timeframes.
            held: The regime it is in; None: it was never seen.
            ts_ms: Time of the signal [Unix ms].

        Returns:
            `found`; or the regime that is held, the less sure the surer `found` is. `illiquid` and
            `high_volatility` are entered at once, and `unknown` holds nothing.
        """
        if (
            held is None
            or found.regime is held.regime
            or found.regime in _AT_ONCE
            or held.regime is MarketRegime.UNKNOWN
        ):
            return found
        age_ms = ts_ms - held.since_ms
        # a signal of a wrong clock may have begun it in the future: it must not hold until then
        if abs(age_ms) < self.min_dwell_ms:
            why = f"for {age_ms / 1000:.0f} s of {self.min_dwell_ms / 1000:.0f}"
        elif (
            self.hysteresis > 0.0
            and _lenient(self, held.regime)
            .detect_signal_regime(context, higher, held.usual_atr)
            .regime
            is held.regime
        ):
            why = f"limits give way by {self.hysteresis:.0%}"
        else:
            return found
        return RegimeResult(
            held.regime,
            0.5 * (1.0 - found.confidence),
            f"Held {held.regime} ({why}): {found.reasoning}",
        )

    def _confirmed(self, found: RegimeResult, higher: Sequence[HigherTimeframe]) -> RegimeResult:
        """Ask for a trend the same way, by the same thresholds.

        One that is contradicted and nowhere confirmed is mixed evidence; one that is both keeps half
        of its confidence; one that is only confirmed gets half of what is missing to 1.
        """
        told = {one.timeframe: self._trend_of(one) for one in higher}
        same = [name for name, trend in told.items() if trend is found.regime]
        opposite = [name for name, trend in told.items() if trend not in {None, found.regime}]
        if opposite and not same:
            return RegimeResult(
                MarketRegime.UNKNOWN,
                0.0,
                f"Mixed evidence: {found.reasoning}, but {_listed(opposite)} the other way",
            )
        if opposite:
            return RegimeResult(
                found.regime,
                0.5 * found.confidence,
                f"{found.reasoning}, as {_listed(same)}, but {_listed(opposite)} the other way",
            )
        if same:
            return RegimeResult(
                found.regime,
                0.5 * (1.0 + found.confidence),
                f"{found.reasoning}, as {_listed(same)}",
            )
        return found

    def _trend_of(self, timeframe: HigherTimeframe) -> MarketRegime | None:
        adx, strength = timeframe.adx, timeframe.trend_strength
        if adx is None or strength is None or adx <= self.trend_adx_threshold:
            return None
        if abs(strength) <= self.trend_strength_threshold:
            return None
        return _UP if strength > 0 else _DOWN

    def _illiquid(self, context: MarketContext) -> RegimeResult | None:
        volume, depth, spread = context.volume_24h, context.depth_5bps, context.spread_bps
        volume_limit, depth_limit = self.illiquid_volume_threshold, self.illiquid_depth_threshold
        spread_limit = self.illiquid_spread_bps_threshold
        if not (
            (volume is not None and volume < volume_limit)
            or (depth is not None and depth < depth_limit)
            or (spread is not None and spread > spread_limit)
        ):
            return None
        worst, reasons = 0.0, []
        if volume is not None:
            worst = max(worst, volume_limit / volume if volume > 0 else float("inf"))
            if volume < volume_limit:
                reasons.append(f"volume_24h={volume:.0f} < {volume_limit:.0f}")
        if depth is not None:
            worst = max(worst, depth_limit / depth if depth > 0 else float("inf"))
            if depth < depth_limit:
                reasons.append(f"depth_5bps={depth:.0f} < {depth_limit:.0f}")
        if spread is not None:
            worst = max(worst, spread / spread_limit)
            if spread > spread_limit:
                reasons.append(f"spread_bps={spread:.1f} > {spread_limit:.1f}")
        return RegimeResult(
            MarketRegime.ILLIQUID, min(0.5 * worst, 1.0), f"Illiquid: {', '.join(reasons)}"
        )


def _listed(timeframes: Sequence[str]) -> str:
    return " and ".join(timeframes) + (" trends" if len(timeframes) == 1 else " trend")


@cache
def _lenient(detector: RegimeDetector, regime: MarketRegime) -> RegimeDetector:
    """Give a detector whose limits give way for a regime."""
    less, more = 1.0 - detector.hysteresis, 1.0 + detector.hysteresis
    adx, strength = detector.trend_adx_threshold, detector.trend_strength_threshold
    high, extreme = detector.high_vol_atr_pct_threshold, detector.extreme_vol_atr_pct_threshold
    low = detector.low_vol_atr_pct_threshold
    changes: dict[str, Any] = {}
    if regime in _TRENDS:
        changes = {
            "trend_adx_threshold": adx * less,
            "trend_strength_threshold": strength * less,
        }
    elif regime in {MarketRegime.RANGE_LOW_VOL, MarketRegime.RANGE_HIGH_VOL}:
        factor = more if regime is MarketRegime.RANGE_LOW_VOL else less
        changes = {
            "trend_adx_threshold": min(adx * more, _HIGHEST_ADX),
            "trend_strength_threshold": min(strength * more, _HIGHEST_STRENGTH),
            "high_vol_atr_pct_threshold": min(max(high * factor, low), extreme),
        }
    elif regime is MarketRegime.HIGH_VOLATILITY:
        changes = {"extreme_vol_atr_pct_threshold": max(extreme * less, high)}
    elif regime is MarketRegime.ILLIQUID:
        changes = {
            "illiquid_volume_threshold": detector.illiquid_volume_threshold * more,
            "illiquid_depth_threshold": detector.illiquid_depth_threshold * more,
            "illiquid_spread_bps_threshold": detector.illiquid_spread_bps_threshold * less,
        }
    return replace(detector, **changes)
