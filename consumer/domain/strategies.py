"""The strategies there are, and which of them suit a regime (contract, section 3)."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from schemas import Aggressiveness, MarketRegime, StrategyID, StrategyProfile


def _profile(
    strategy_id: StrategyID,
    description: str,
    ladder: tuple[float, float, float, float],
    expected: tuple[float, float],
    aggressiveness: Aggressiveness,
    suits: str,
) -> StrategyProfile:
    words = suits.split()
    return StrategyProfile(
        strategy_id=strategy_id,
        name=strategy_id.replace("_", " ").title(),
        description=description,
        r_sl=ladder[0],
        r_tp1=ladder[1],
        r_tp2=ladder[2],
        r_tp3=ladder[3],
        expected_risk_reward=expected[0],
        expected_win_rate=expected[1],
        aggressiveness=aggressiveness,
        suitable_for_trending="trending" in words,
        suitable_for_ranging="ranging" in words,
        suitable_for_high_vol="high_vol" in words,
        suitable_for_low_vol="low_vol" in words,
    )


_A = Aggressiveness
_BUILT_IN = (
    _profile(
        StrategyID.DEFENSIVE,
        "Conservative: near targets for uncertain or thin markets",
        (1.0, 1.5, 2.5, 4.0),
        (1.8, 0.55),
        _A.VERY_LOW,
        "ranging high_vol low_vol",
    ),
    _profile(
        StrategyID.MODERATE,
        "Balanced, for all markets",
        (1.0, 2.0, 3.5, 5.5),
        (2.3, 0.52),
        _A.LOW,
        "trending ranging high_vol low_vol",
    ),
    _profile(
        StrategyID.MODERATE_AGGRESSIVE,
        "Trending markets with high confidence",
        (1.0, 2.5, 4.0, 6.0),
        (3.0, 0.50),
        _A.MODERATE,
        "trending high_vol low_vol",
    ),
    _profile(
        StrategyID.BALANCED_AGGRESSIVE,
        "Strong trends of large markets",
        (1.5, 4.0, 6.0, 10.0),
        (4.5, 0.48),
        _A.HIGH,
        "trending high_vol",
    ),
    _profile(
        StrategyID.ULTRA_AGGRESSIVE,
        "Far targets behind a near stop: the default for model signals",
        (1.0, 3.0, 5.0, 8.0),
        (5.0, 0.45),
        _A.VERY_HIGH,
        "trending ranging high_vol low_vol",
    ),
    _profile(
        StrategyID.SCALP,
        "Quick profits in quiet ranges",
        (0.8, 1.2, 1.8, 2.5),
        (1.5, 0.60),
        _A.LOW,
        "ranging low_vol",
    ),
    _profile(
        StrategyID.TREND_RIDER,
        "Home runs in strong trends, behind a wide stop",
        (2.0, 5.0, 8.0, 12.0),
        (6.5, 0.40),
        _A.HIGH,
        "trending high_vol",
    ),
)

STRATEGY_PROFILES: Mapping[str, StrategyProfile] = MappingProxyType(
    {profile.strategy_id: profile for profile in _BUILT_IN}
)
"""The built-in profiles by id, in the order that settles ties."""

CandidateRule = Literal["suitable", "all"]


def merge_profiles(custom: Iterable[StrategyProfile]) -> dict[str, StrategyProfile]:
    """Put custom profiles beside the built-in ones; one with a known id takes its place.

    Returns:
        Profiles by id: the built-in order first, then the custom ones in theirs.
    """
    return dict(STRATEGY_PROFILES) | {str(p.strategy_id): p for p in custom}


def _suits(profile: StrategyProfile, regime: MarketRegime) -> bool:
    match regime:
        case MarketRegime.TREND_UP | MarketRegime.TREND_DOWN:
            return profile.suitable_for_trending
        case MarketRegime.RANGE_LOW_VOL:
            return profile.suitable_for_ranging and profile.suitable_for_low_vol
        case MarketRegime.RANGE_HIGH_VOL:
            return profile.suitable_for_ranging and profile.suitable_for_high_vol
        case MarketRegime.HIGH_VOLATILITY:
            return profile.suitable_for_high_vol
        case MarketRegime.ILLIQUID:
            return profile.strategy_id in {StrategyID.DEFENSIVE, StrategyID.SCALP}
        case MarketRegime.UNKNOWN:
            return True


def candidates(
    profiles: Mapping[str, StrategyProfile],
    regime: MarketRegime,
    rule: CandidateRule,
    default: str,
) -> tuple[StrategyProfile, ...]:
    """List the strategies that may be chosen in a regime.

    Args:
        profiles: All profiles by id, in the order that settles ties.
        regime: The market's state.
        rule: `suitable` asks the profiles' flags, `all` takes every profile.
        default: Id of the default strategy: alone when nothing suits.

    Returns:
        At least one profile, in the order of `profiles`.
    """
    found = tuple(p for p in profiles.values() if rule == "all" or _suits(p, regime))
    return found or (profiles[default],)


_TRENDS: Final = frozenset({MarketRegime.TREND_UP, MarketRegime.TREND_DOWN})
_RIDES_FROM: Final = 0.9
_RIDER: Final = StrategyID.TREND_RIDER
_COLD_START: Final[Mapping[MarketRegime, str]] = MappingProxyType(
    {
        MarketRegime.TREND_UP: StrategyID.ULTRA_AGGRESSIVE,
        MarketRegime.TREND_DOWN: StrategyID.ULTRA_AGGRESSIVE,
        MarketRegime.RANGE_LOW_VOL: StrategyID.SCALP,
        MarketRegime.RANGE_HIGH_VOL: StrategyID.MODERATE,
        MarketRegime.HIGH_VOLATILITY: StrategyID.DEFENSIVE,
        MarketRegime.ILLIQUID: StrategyID.DEFENSIVE,
    }
)


def cold_start_choice(regime: MarketRegime, confidence: float, default: str) -> str:
    """Name the strategy that is taken while a context has too few rewards.

    Args:
        regime: The market's state.
        confidence: How sure it is [1]; trends ride from 0.9.
        default: Id of the default strategy, taken in `unknown`.

    Source: contract, section 3.
    """
    if confidence >= _RIDES_FROM and regime in _TRENDS:
        return _RIDER
    return _COLD_START.get(regime, default)
