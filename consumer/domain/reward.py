"""Entry, exits, fees and ATR -> what a trade earned."""

from typing import Final, Literal

from consumer.errors import BadMessageError
from schemas import DeadLetterCode, Side, TradeClosed

RewardUnit = Literal["atr", "risk"]

_SHORT: Final = Side.SHORT
LARGEST_R: Final = 1000.0  # contract, section 1: R lies within -1000 .. 1000


def realized_r(trade: TradeClosed, atr: float | None) -> float:
    """Give the net profit of a trade.

    Args:
        trade: A `realized_r` of its own wins over its prices.
        atr: ATR of its decision [quote]; the trade's own comes first.

    Returns:
        Profit less fees [R: one ATR], within -1000 .. 1000.

    Raises:
        BadMessageError: No ATR is known, or the prices give an R out of range.

    Source: contract, section 1, trade closed.
    """
    if trade.realized_r is not None:
        return trade.realized_r
    unit = trade.atr if trade.atr is not None else atr
    if unit is None:
        raise BadMessageError(
            DeadLetterCode.UNKNOWN_DECISION,
            "atr: is missing and its decision is not known any more; give atr or realized_r",
        )
    fees = trade.fees or 0.0
    move = (trade.exit_mean if trade.exits else trade.exit_price or 0.0) - trade.entry_price
    if trade.side is _SHORT:
        move = -move
    # in this order, as the contract writes it: whoever folds the log beside us gets the same bits
    reward = move / unit - fees / unit
    if not -LARGEST_R <= reward <= LARGEST_R:
        raise BadMessageError(
            DeadLetterCode.INVALID_MESSAGE,
            f"exit_price: gives R={reward:.6g}; it must lie within -1000 .. 1000",
        )
    return reward


def in_unit(reward_r: float, unit: RewardUnit, atr_mult_sl: float) -> float:
    """Express a profit [R: one ATR] in the table's unit.

    Args:
        reward_r: Profit [ATR].
        unit: `atr` leaves it; `risk` divides by the stop's distance, so a full stop is -1.
        atr_mult_sl: Distance of the strategy's stop [ATR], above 0.
    """
    return reward_r if unit == "atr" else reward_r / atr_mult_sl
