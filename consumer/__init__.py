"""Choose exits for trading signals, and learn from closed trades: the in-process API.

The worker on Kafka and Redis lives in the modules below; importing this loads neither.
"""

from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.errors import MetaStrategyError, RefusedError
from consumer.inprocess.integration import (
    MetaStrategyIntegration,
    StrategySelection,
    get_meta_strategy_integration,
)
from consumer.inprocess.market import MarketContext
from consumer.inprocess.profiles import (
    STRATEGY_PROFILES,
    get_strategy_profile,
    register_strategy_profile,
)
from consumer.inprocess.selector import MetaStrategySelector, SelectorDecision
from schemas import Aggressiveness, MarketRegime, Mode, Side, StrategyID, StrategyProfile

__all__ = [
    "STRATEGY_PROFILES",
    "Aggressiveness",
    "MarketContext",
    "MarketRegime",
    "MetaStrategyError",
    "MetaStrategyIntegration",
    "MetaStrategySelector",
    "Mode",
    "RefusedError",
    "RegimeDetector",
    "RegimeResult",
    "SelectorDecision",
    "Side",
    "StrategyID",
    "StrategyProfile",
    "StrategySelection",
    "get_meta_strategy_integration",
    "get_strategy_profile",
    "register_strategy_profile",
]
