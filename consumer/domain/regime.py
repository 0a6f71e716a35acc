"""Which state is a market in? The first rule that matches wins (contract, section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas import HigherTimeframe, MarketContext, MarketRegime

_TRENDS = frozenset({MarketRegime.TREND_UP, MarketRegime.TREND_DOWN})
_UNSURE_RANGE_PENALTY = 0.2  # confidence a range loses between low and high volatility (contract)


class RegimeResult(NamedTuple):
    """A regime, how sure it is [1: 0 to 1], and why, for people."""

    regime: MarketRegime
    confidence: float
    reasoning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeDetector:
    """Rules with thresholds; fractions are of the price: 0.04 is 4 %."""

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
    confirms_trends: bool = False
    """Whether a trend must not be contradicted by higher timeframes."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if name != "confirms_trends" and not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, was {getattr(self, name)}")
        low, high = self.low_vol_atr_pct_threshold, self.high_vol_atr_pct_threshold
        if not low <= high <= self.extreme_vol_atr_pct_threshold:
            raise ValueError(
                "low_vol_atr_pct_threshold, high_vol_atr_pct_threshold, "
                "extreme_vol_atr_pct_threshold must not fall, "
                f"were {low}, {high}, {self.extreme_vol_atr_pct_threshold}"
            )

    def detect_regime(self, context: MarketContext) -> RegimeResult:
        """Classify a market.

        Args:
            context: What is known of it; a missing volume, depth or spread is not checked.

        Returns:
            The regime; `unknown` with confidence 0 when the evidence is mixed, or when adx or
            trend_strength is missing and neither liquidity nor volatility decides.

        Source: contract, section 2.
        """
        if illiquid := self._illiquid(context):
            return illiquid
        atr_pct = context.atr_fraction
        extreme = self.extreme_vol_atr_pct_threshold
        if atr_pct > extreme:
            return RegimeResult(
                MarketRegime.HIGH_VOLATILITY,
                min(atr_pct / 2 / extreme, 1.0),
                f"Extreme volatility: ATR={atr_pct:.2%} > {extreme:.2%}",
            )
        adx, strength = context.adx, context.trend_strength
        if adx is None or strength is None:
            missing = [n for n in ("adx", "trend_strength") if getattr(context, n) is None]
            return RegimeResult(
                MarketRegime.UNKNOWN, 0.0, f"Unknown: {' and '.join(missing)} missing"
            )
        evidence = f"ADX={adx:.1f}, trend_strength={strength:.2f}, ATR={atr_pct:.2%}"
        adx_limit, strength_limit = self.trend_adx_threshold, self.trend_strength_threshold
        size = abs(strength)
        if adx > adx_limit and size > strength_limit:
            confidence = 0.5 * min(adx / 2 / adx_limit, 1.0) + 0.5 * min(
                size / 2 / strength_limit, 1.0
            )
            if strength > 0:
                return RegimeResult(MarketRegime.TREND_UP, confidence, f"Trending UP: {evidence}")
            return RegimeResult(MarketRegime.TREND_DOWN, confidence, f"Trending DOWN: {evidence}")
        if adx <= adx_limit and size <= strength_limit:
            confidence = 1.0 - 0.25 * adx / adx_limit - 0.25 * size / strength_limit
            if atr_pct > self.high_vol_atr_pct_threshold:
                return RegimeResult(
                    MarketRegime.RANGE_HIGH_VOL, confidence, f"Ranging, high volatility: {evidence}"
                )
            if atr_pct >= self.low_vol_atr_pct_threshold:
                confidence -= _UNSURE_RANGE_PENALTY
            return RegimeResult(
                MarketRegime.RANGE_LOW_VOL, confidence, f"Ranging, low volatility: {evidence}"
            )
        return RegimeResult(MarketRegime.UNKNOWN, 0.0, f"Mixed evidence: {evidence}")

    def detect_signal_regime(
        self, context: MarketContext, higher: Sequence[HigherTimeframe] | None
    ) -> RegimeResult:
        """Classify the market of a signal; higher timeframes are asked where they are to confirm.

        Args:
            context: What is known of the market.
            higher: Indicators of longer timeframes.
        """
        found = self.detect_regime(context)
        if not (self.confirms_trends and higher) or found.regime not in _TRENDS:
            return found
        return self._confirmed(found, higher)

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
        return MarketRegime.TREND_UP if strength > 0 else MarketRegime.TREND_DOWN

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
