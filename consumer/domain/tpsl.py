"""ATR multiples -> stop-loss and take-profit prices."""

from typing import Final, NamedTuple

from consumer.domain.quick import quick
from schemas import Side, StrategyProfile

_LONG: Final = Side.LONG


class Levels(NamedTuple):
    """Exit prices of a position [quote]."""

    stop_loss: float
    take_profit_1: float
    take_profit_2: float
    take_profit_3: float


def levels(profile: StrategyProfile, side: Side, entry: float, atr: float) -> Levels:
    """Place a profile's exits around an entry; the stop lies against the side, targets with it.

    Args:
        profile: Distances [ATR].
        side: Direction of the position.
        entry: Entry price [quote].
        atr: Average true range [quote].
    """
    step = atr if side is _LONG else -atr
    return quick(
        Levels,
        (
            entry - step * profile.r_sl,
            entry + step * profile.r_tp1,
            entry + step * profile.r_tp2,
            entry + step * profile.r_tp3,
        ),
    )


def has_valid_levels(profile: StrategyProfile, side: Side, entry: float, atr: float) -> bool:
    """Tell whether all exit prices lie above zero: below it nothing is ever traded."""
    farthest_down = profile.r_sl if side is _LONG else profile.r_tp3
    return entry - atr * farthest_down > 0.0
