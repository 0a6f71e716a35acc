"""The closed sets of words that messages and core share."""

from enum import StrEnum


class Side(StrEnum):
    """Direction of a position."""

    LONG = "LONG"
    SHORT = "SHORT"

    @property
    def sign(self) -> int:
        """Give +1 for LONG, -1 for SHORT: the direction in which the position earns."""
        return 1 if self is _LONG else -1


_LONG = Side.LONG  # Python 3.11 takes longer to find a member of an enum than for all the rest


class MarketRegime(StrEnum):
    """State of a market (contract, section 2)."""

    TREND_UP = "trend_up"
    TREND_DOWN = "trend_down"
    RANGE_LOW_VOL = "range_low_vol"
    RANGE_HIGH_VOL = "range_high_vol"
    HIGH_VOLATILITY = "high_volatility"
    ILLIQUID = "illiquid"
    UNKNOWN = "unknown"


class StrategyID(StrEnum):
    """The seven built-in strategies, in the order that settles ties (contract, section 3)."""

    DEFENSIVE = "defensive"
    MODERATE = "moderate"
    MODERATE_AGGRESSIVE = "moderate_aggressive"
    BALANCED_AGGRESSIVE = "balanced_aggressive"
    ULTRA_AGGRESSIVE = "ultra_aggressive"
    SCALP = "scalp"
    TREND_RIDER = "trend_rider"


class Aggressiveness(StrEnum):
    """How much a strategy risks for its targets, as its author judges it."""

    VERY_LOW = "very_low"
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    VERY_HIGH = "very_high"


class Mode(StrEnum):
    """How a strategy was chosen."""

    EXPLORE = "explore"
    EXPLOIT = "exploit"
    HEURISTIC = "heuristic"
    DEFAULT = "default"


class CloseReason(StrEnum):
    """Why a trade was closed."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    TIMEOUT = "timeout"
    MANUAL = "manual"
    LIQUIDATION = "liquidation"
    EXTERNAL = "external"


class DeadLetterCode(StrEnum):
    """Why an input record was not accepted (contract, section 1)."""

    TOO_LARGE = "too_large"
    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNSUPPORTED_VERSION = "unsupported_version"
    SYMBOL_KEY_MISMATCH = "symbol_key_mismatch"
    UNKNOWN_DECISION = "unknown_decision"
    UNKNOWN_TRADE = "unknown_trade"
    INVALID_LEVELS = "invalid_levels"
    STALE_SIGNAL = "stale_signal"
