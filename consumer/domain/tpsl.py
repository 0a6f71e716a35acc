"""ATR multiples -> stop-loss and take-profit prices."""

from typing import Final, NamedTuple

from consumer.domain.ladder import Ladder
from consumer.domain.quick import quick
from schemas import Side

_LONG: Final = Side.LONG


class Levels(NamedTuple):
    """Exit prices of a position [quote]."""

    stop_loss: float
    take_profit_1: float
    take_profit_2: float
    take_profit_3: float


def levels(ladder: Ladder, side: Side, entry: float, atr: float) -> Levels:
    """Place a ladder around an entry; the stop lies against the side, targets with it.

    Args:
        ladder: Distances [ATR].
        side: Direction of the position.
        entry: Entry price [quote].
        atr: Average true range [quote].
    """
    step = atr if side is _LONG else -atr
    first, second, third = ladder.targets
    return quick(
        Levels,
        (
            entry - step * ladder.stop,
            entry + step * first,
            entry + step * second,
            entry + step * third,
        ),
    )


def has_valid_levels(ladder: Ladder, side: Side, entry: float, atr: float) -> bool:
    """Tell whether all exit prices lie above zero: below it nothing is ever traded."""
    farthest_down = ladder.stop if side is _LONG else ladder.targets[2]
    return entry - atr * farthest_down > 0.0
