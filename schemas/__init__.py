"""The messages that executor, worker and router share, and the words they are made of."""

from schemas.candle import Candle
from schemas.fields import (
    MAX_MESSAGE_BYTES,
    MAX_METADATA_BYTES,
    SCHEMA_VERSION,
    Message,
    format_time_ms,
    parse_time_ms,
)
from schemas.signal import HigherTimeframe, MarketContext, Signal
from schemas.strategy_decision import Source, StrategyDecision, Tpsl
from schemas.strategy_profile import StrategyProfile
from schemas.trade_closed import MAX_PATH_CANDLES, Exit, TradeClosed
from schemas.vocabulary import (
    Aggressiveness,
    CloseReason,
    DeadLetterCode,
    MarketRegime,
    Mode,
    Side,
    StrategyID,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_PATH_CANDLES",
    "SCHEMA_VERSION",
    "Aggressiveness",
    "Candle",
    "CloseReason",
    "DeadLetterCode",
    "Exit",
    "HigherTimeframe",
    "MarketContext",
    "MarketRegime",
    "Message",
    "Mode",
    "Side",
    "Signal",
    "Source",
    "StrategyDecision",
    "StrategyID",
    "StrategyProfile",
    "Tpsl",
    "TradeClosed",
    "format_time_ms",
    "parse_time_ms",
]
