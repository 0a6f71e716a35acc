"""Choose exits for trading signals, and learn from closed trades: the in-process API.

The worker on Kafka and Redis lives in the modules below; importing this loads neither. Names are
loaded when they are first used: the worker's start does not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "consumer.domain.regime": ("RegimeDetector", "RegimeResult"),
    "consumer.errors": ("MetaStrategyError", "RefusedError"),
    "consumer.inprocess.integration": (
        "MetaStrategyIntegration",
        "StrategySelection",
        "get_meta_strategy_integration",
    ),
    "consumer.inprocess.market": ("MarketContext",),
    "consumer.inprocess.profiles": (
        "STRATEGY_PROFILES",
        "get_strategy_profile",
        "register_strategy_profile",
    ),
    "consumer.inprocess.selector": ("MetaStrategySelector", "SelectorDecision"),
    "schemas": (
        "Aggressiveness",
        "MarketRegime",
        "Mode",
        "Side",
        "StrategyID",
        "StrategyProfile",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
