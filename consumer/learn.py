"""Use cases: a closed trade -> a reward -> the table; a candle -> outcomes on paper; each once."""

from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.quick import quick
from consumer.domain.stored import Position
from consumer.errors import BadMessageError
from schemas import Candle, TradeClosed


def learn(
    state: PartitionState, trade: TradeClosed | BadMessageError, *, offset: int, timestamp_ms: int
) -> FoldResult | BadMessageError:
    """Fold one record of `trade-closed`; the state stands behind it afterwards, whatever it was.

    Args:
        state: Standing at or before `offset`, with exactly the decisions that it sees.
        trade: The message, or why it is none.
        offset: Of its record.
        timestamp_ms: Of its record.

    Returns:
        What it did; or why it goes to the dead letters, the table being unchanged.
    """
    result: FoldResult | BadMessageError
    if isinstance(trade, BadMessageError):
        result = trade
    else:
        try:
            result = state.fold_trade(trade, timestamp_ms)
        except BadMessageError as error:
            result = error.with_traceback(None)
    decisions, _, candles = state.position
    state.position = quick(Position, (decisions, offset + 1, candles))
    return result


def follow(
    state: PartitionState, candle: Candle | BadMessageError, *, offset: int
) -> CandleOutcome | BadMessageError:
    """Fold one record of `candles`; the state stands behind it afterwards, whatever it was.

    Args:
        state: Standing at or before `offset`, with exactly the decisions that it sees.
        candle: The message, or why it is none.
        offset: Of its record.

    Returns:
        What it was; or why it goes to the dead letters.
    """
    result = candle if isinstance(candle, BadMessageError) else state.fold_candle(candle)
    state.position = state.position._replace(candles=offset + 1)
    return result
