"""From a signal to a strategy, and from its trade back to the table."""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

import schemas
from consumer.domain.partition_state import (
    DEFAULT_ACCOUNT,
)
from consumer.domain.regime import RegimeResult
from consumer.domain.summary import Summary
from consumer.inprocess.market import value_error
from consumer.inprocess.selector import MetaStrategySelector, SelectorDecision, SelectorSettings
from schemas import MarketRegime, Side, StrategyProfile

_log = logging.getLogger("meta_strategy")

STATE_FILE_VARIABLE = "META_STRATEGY_STATE_FILE"
"""Names the file of an integration that is given none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategySelection:
    """The answer to a signal."""

    account: str
    symbol: str
    strategy: StrategyProfile
    regime: MarketRegime
    regime_confidence: float
    """How sure the regime is [1]; 0 for `unknown`."""
    regime_reasoning: str
    decision: SelectorDecision
    tpsl_config: dict[str, float]
    """`atr_mult_sl`, `atr_mult_tp1..3` [ATR], `partial_close_tp1..3` [1]."""


class IntegrationMetrics(TypedDict):
    """Counters and settings of an integration."""

    enabled: bool
    total_selections: int
    total_regime_detections: int
    total_reward_updates: int
    active_strategies: int
    epsilon: float
    alpha: float


class MetaStrategyIntegration:
    """Detects the regime, chooses a strategy, and learns from what became of it.

    Args:
        enabled: False takes the default strategy always; rewards are learned all the same.
        epsilon: Exploration rate [1], within [0, 1].
        alpha: Weight of a new reward in the average [1], within (0, 1].
        settings: As `MetaStrategySelector` takes them. Without a `state_file` the variable
            META_STRATEGY_STATE_FILE names it.

    Raises:
        ValueError: A value is out of its range.
        RefusedError: The file is broken; it is left as it is.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        epsilon: float = 0.10,
        alpha: float = 0.20,
        **settings: Unpack[SelectorSettings],
    ) -> None:
        if settings.get("state_file") is None:
            settings["state_file"] = os.environ.get(STATE_FILE_VARIABLE, "").strip() or None
        self._auto_save = settings.get("auto_save", True)
        settings["auto_save"] = False  # the loop must not wait for the disk
        self.selector = MetaStrategySelector(
            enabled=enabled, epsilon=epsilon, alpha=alpha, **settings
        )
        self._active: dict[tuple[str, str], StrategySelection] = {}
        _log.info(
            "[META-STRATEGY] %s - epsilon=%.0f%%, alpha=%.0f%%",
            "Enabled" if enabled else "Disabled",
            100 * self.selector.epsilon,
            100 * alpha,
        )

    async def select_strategy_for_signal(
        self, *, symbol: str, signal: object, market_data: object
    ) -> StrategySelection:
        """Answer a signal; its strategy is the symbol's active one until its trade has closed.

        Args:
            symbol: Such as BTCUSDT.
            signal: A mapping or an object; `side` (LONG when absent) and `account` (`default`)
                are read.
            market_data: A mapping or an object with the fields of `MarketContext`, others are
                ignored. What is missing, or None, makes the regime `unknown` where it is needed.

        Raises:
            ValueError: A value is out of its range, or every candidate has a level at or below
                zero; nothing is changed.
        """
        account = _read(signal, "account") or DEFAULT_ACCOUNT
        side = _side(_read(signal, "side"))
        context, regime = self._detect(market_data)
        _log.info(
            "[REGIME] %s: %s (conf=%.0f%%) - %s",
            symbol,
            regime.regime.name,
            100 * regime.confidence,
            regime.reasoning,
        )
        decision = self.selector.choose_strategy(
            symbol=symbol,
            regime=regime,
            context=context,
            side=side,
            account=account,
        )
        selection = StrategySelection(
            account=account,
            symbol=symbol,
            strategy=decision.strategy_profile,
            regime=regime.regime,
            regime_confidence=regime.confidence,
            regime_reasoning=regime.reasoning,
            decision=decision,
            tpsl_config=decision.strategy_profile.to_tpsl_config(),
        )
        self._active[account, symbol] = selection
        return selection

    async def update_strategy_reward(
        self, *, symbol: str, realized_r: float, trade_meta: Mapping[str, Any] | None = None
    ) -> bool:
        """Learn from the trade that the symbol's active strategy led to; it is active no more.

        Args:
            symbol: As it was selected for.
            realized_r: Net profit [R: one ATR], within -1000 .. 1000.
            trade_meta: `account` and `close_reason` are read; and `strategy` and `regime`, which
                count when no strategy is active, such as after a restart.

        Returns:
            Whether the reward was counted; False, with a warning, when no strategy is active.

        Raises:
            ValueError: A value is out of its range; nothing is changed.
            RefusedError: The file cannot be written; the reward is learned in memory.
        """
        meta = trade_meta or {}
        account = meta.get("account") or DEFAULT_ACCOUNT
        active = self._active.get((account, symbol))
        regime = meta.get("regime") if active is None else active.regime
        strategy_id = meta.get("strategy") if active is None else active.strategy.strategy_id
        if regime is None or strategy_id is None:
            _log.warning(
                "[RL UPDATE] %s: no active strategy in account %s: R=%+.2f is not learned",
                symbol,
                account,
                realized_r,
            )
            return False
        self.selector.update_reward(
            symbol=symbol,
            regime=regime,
            strategy_id=strategy_id,
            reward=realized_r,
            account=account,
            close_reason=meta.get("close_reason"),
        )
        self._active.pop((account, symbol), None)
        if self._auto_save:
            await self.selector.save_in_thread()
        return True

    @property
    def active_strategies(self) -> dict[str, StrategySelection]:
        """The active strategy of each symbol, in the default account."""
        return self.active_strategies_of(DEFAULT_ACCOUNT)

    @property
    def _active_strategies(self) -> dict[str, StrategySelection]:
        return self.active_strategies  # the specification's own name for it

    def active_strategies_of(self, account: str) -> dict[str, StrategySelection]:
        """Give the active strategy of each symbol in an account."""
        return {symbol: found for (of, symbol), found in self._active.items() if of == account}

    def get_metrics(self) -> IntegrationMetrics:
        """Give counters, over the table's life, and the main settings."""
        totals = self.selector.totals
        return {
            "enabled": self.selector.enabled,
            "total_selections": totals.decisions,
            "total_regime_detections": totals.decisions,
            "total_reward_updates": totals.rewards,
            "active_strategies": len(self._active),
            "epsilon": self.selector.epsilon,
            "alpha": self.selector.alpha,
        }

    def get_performance_summary(self) -> Summary:
        """Put the table in short: counts, and the best strategy of each context, best first."""
        return self.selector.get_performance_summary()

    def _detect(self, market_data: object) -> tuple[schemas.MarketContext, RegimeResult]:
        fields = {
            name: value
            for name in schemas.MarketContext.model_fields
            if (value := _read(market_data, name)) is not None
        }
        missing = [name for name in ("current_price", "atr") if name not in fields]
        if missing and "atr_pct" in fields:
            # all that rules and levels need of the two is their ratio
            fields |= {"current_price": 1.0, "atr": fields["atr_pct"]}
        elif missing:
            # illiquid is told without them, and comes first; nothing else can be told
            fields = {name: fields[name] for name in fields if name in _LIQUIDITY}
            fields |= {"current_price": 1.0, "atr": 1e-9}
        try:
            # market data comes from elsewhere, often with numbers as text or Decimal
            context = schemas.MarketContext.model_validate(fields, strict=False)
        except ValidationError as error:
            raise value_error(error, "market_data: ") from None
        result = self.selector.detector.detect_regime(context)
        if missing and "atr_pct" not in fields and result.regime is MarketRegime.UNKNOWN:
            result = result._replace(reasoning=f"Unknown: {' and '.join(missing)} missing")
        return context, result


_LIQUIDITY = ("volume_24h", "depth_5bps", "spread_bps")


def _read(source: object, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return getattr(source, name, None)


def _side(value: Any) -> Side:
    try:
        return Side.LONG if value is None else Side(str(value).upper())
    except ValueError:
        raise ValueError(f"signal: side: must be LONG or SHORT, was {value!r}") from None


class IntegrationSettings(SelectorSettings, total=False):
    """What an integration takes."""

    enabled: bool
    epsilon: float
    alpha: float


class _ProcessOwn:
    """The process's own integration, once it is made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[MetaStrategyIntegration, dict[str, object]] | None = None

    def get(self, settings: IntegrationSettings) -> MetaStrategyIntegration:
        with self._lock:
            if self._made is None:
                defaults = signature(MetaStrategySelector).parameters.items()
                values = {name: parameter.default for name, parameter in defaults}
                self._made = MetaStrategyIntegration(**settings), values | settings
            made, values = self._made
            for name, value in settings.items():
                if name not in values:
                    raise TypeError(f"{name} is no setting of an integration")
                if value != values[name]:
                    raise ValueError(
                        f"{name} is {values[name]!r} in this process's integration, which is "
                        f"made already; was {value!r}"
                    )
            return made


_own = _ProcessOwn()


def get_meta_strategy_integration(
    **settings: Unpack[IntegrationSettings],
) -> MetaStrategyIntegration:
    """Give the process's own integration; the first call makes it.

    Args:
        settings: As `MetaStrategyIntegration` takes them. Later calls may leave them out.

    Raises:
        ValueError: A value is out of its range, or differs from that of the first call: the one
            who asks would silently get something else.
        RefusedError: The file is broken; it is left as it is.
    """
    return _own.get(settings)
