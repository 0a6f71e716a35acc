"""Chooses strategies, and learns, over a table in memory."""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

import schemas
from consumer.domain.context import ContextKey
from consumer.domain.draws import KeyedDraws
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.ladder import Ladder, ladders_of
from consumer.domain.partition_state import DEFAULT_ACCOUNT, FoldResult, PartitionState
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.domain.reward import RewardUnit
from consumer.domain.selector import Selector
from consumer.domain.stored import Totals
from consumer.domain.strategies import CandidateRule
from consumer.domain.summary import Summary, summarize
from consumer.errors import BadMessageError
from consumer.inprocess.market import value_error
from consumer.inprocess.profiles import STRATEGY_PROFILES
from consumer.inprocess.table_file import TableFile
from schemas import CloseReason, MarketRegime, Mode, Side, StrategyID, StrategyProfile, TradeClosed
from schemas.fields import Account, Symbol

_log = logging.getLogger("meta_strategy")

_NO_DECISION = "in-process"
"""As a decision id: nothing is remembered under it, so the strategy a reward names counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorDecision:
    """A chosen strategy, with all that explains it."""

    strategy_id: str
    """A `StrategyID` where it is built in."""
    strategy_profile: StrategyProfile
    is_exploration: bool
    """Whether it was drawn at random."""
    confidence: float
    """In the strategy's Q-value [1]."""
    reasoning: str
    mode: Mode
    propensity: float
    """Probability with which it was chosen [1], within (0, 1]."""
    propensities: Mapping[str, float]
    """Probability of every candidate [1]; they sum to 1."""


class _Names(BaseModel):
    """What names a context: the same limits as in the messages."""

    model_config = ConfigDict(strict=True)

    symbol: Symbol
    account: Account


class SelectorSettings(TypedDict, total=False):
    """What a selector takes besides `epsilon`, `alpha` and `enabled`; see there."""

    epsilon_min: float | None
    epsilon_decay: float
    min_samples: int
    min_confidence_for_exploit: float
    candidates: CandidateRule
    default_strategy: str
    reward_unit: RewardUnit
    detector: RegimeDetector
    profiles: Mapping[str, StrategyProfile] | None
    seed: int | None
    state_file: str | os.PathLike[str] | None
    auto_save: bool


class MetaStrategySelector:
    """Chooses strategies by what it has learned of each account, symbol and regime.

    Args:
        epsilon: Exploration rate [1], within [0, 1].
        alpha: Weight of a new reward in the average [1], within (0, 1].
        enabled: False takes the default strategy always; rewards are learned all the same.
        epsilon_min: What epsilon decays to [1]; None keeps it constant.
        epsilon_decay: Factor for each reward of a context [1], within (0, 1].
        min_samples: Rewards a context needs before its Q-values count.
        min_confidence_for_exploit: Confidence the best strategy needs [1].
        candidates: `suitable` asks the profiles which regimes they suit, `all` does not.
        default_strategy: Taken when disabled, and where the regime is unknown.
        reward_unit: `atr` takes rewards as they are, `risk` divides them by the strategy's stop.
        detector: Tells how sure a regime is.
        profiles: The strategies; None takes `STRATEGY_PROFILES`, and follows it.
        seed: Of all draws: equal seeds and calls give equal decisions. None draws one.
        state_file: Where the table is kept; None keeps it in memory alone.
        auto_save: Whether `update_reward` writes the file; else `save` does.

    Raises:
        ValueError: A value is out of its range.
        RefusedError: The file is broken; it is left as it is.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.10,
        alpha: float = 0.20,
        enabled: bool = True,
        epsilon_min: float | None = None,
        epsilon_decay: float = 0.995,
        min_samples: int = 5,
        min_confidence_for_exploit: float = 0.5,
        candidates: CandidateRule = "suitable",
        default_strategy: str = StrategyID.ULTRA_AGGRESSIVE,
        reward_unit: RewardUnit = "atr",
        detector: RegimeDetector = RegimeDetector(),  # noqa: B008 - never changes
        profiles: Mapping[str, StrategyProfile] | None = None,
        seed: int | None = None,
        state_file: str | os.PathLike[str] | None = None,
        auto_save: bool = True,
    ) -> None:
        if not 0.0 < alpha <= 1.0:
            raise ValueError(f"alpha must be within (0, 1], was {alpha}")
        for name, value, allowed in (
            ("candidates", candidates, get_args(CandidateRule)),
            ("reward_unit", reward_unit, get_args(RewardUnit)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, was {value!r}")
        self._enabled = enabled
        # a process that starts often must not draw the same numbers each time
        self.seed = secrets.randbits(63) if seed is None else seed
        self.detector = detector
        self._policy = EpsilonGreedy(
            base_epsilon=epsilon,
            epsilon_min=epsilon_min,
            epsilon_decay=epsilon_decay,
            min_samples=min_samples,
            min_confidence_for_exploit=min_confidence_for_exploit,
            default_strategy=default_strategy,
        )
        self._rule: CandidateRule = candidates
        self._profiles = STRATEGY_PROFILES if profiles is None else profiles
        self._ladders: dict[str, Ladder] = {}
        self._selector = self._make_selector(dict(self._profiles))
        self._state = PartitionState(
            # trades have no ids here: nothing is gained by remembering them
            FoldSettings(
                alpha=alpha, reward_unit=reward_unit, dedupe_window=1, ladders=self._ladders
            ),
        )
        self._auto_save = auto_save
        self._saves = 0
        self._file = None if state_file is None else TableFile(Path(state_file), reward_unit)
        if self._file is not None and (stored := self._file.load()) is not None:
            self._state.restore(stored)

    @property
    def enabled(self) -> bool:
        """Whether it chooses; if not, it takes the default strategy always."""
        return self._enabled

    @property
    def epsilon(self) -> float:
        """Exploration rate [1] of a context without rewards."""
        return self._policy.initial_epsilon

    @property
    def alpha(self) -> float:
        """Weight of a new reward in the average [1]."""
        return self._state.settings.alpha

    @property
    def state_file(self) -> Path | None:
        """Where the table is kept."""
        return None if self._file is None else self._file.path

    @property
    def totals(self) -> Totals:
        """Counters over the table's life."""
        return self._state.totals

    def choose_strategy(
        self,
        *,
        symbol: str,
        regime: MarketRegime | RegimeResult | str,
        context: schemas.MarketContext,
        side: Side = Side.LONG,
        account: str = DEFAULT_ACCOUNT,
    ) -> SelectorDecision:
        """Choose a strategy.

        Args:
            symbol: Such as BTCUSDT.
            regime: The market's state. A regime alone is as sure as the detector is of it from
                `context`, and not sure at all when the detector sees another one.
            context: Price and ATR: a strategy with a level at or below zero is no candidate.
            side: Direction of the position.
            account: Learning is separate per account.

        Raises:
            ValueError: A value is out of its range, or every candidate has such a level.
        """
        key = self._key(account, symbol, regime)
        if isinstance(regime, RegimeResult):
            found = regime
        else:
            found = self.detector.detect_regime(context)
            if found.regime is not key.regime:
                found = RegimeResult(key.regime, 0.0, "Given by the caller")
        selector, totals = self._current(), self._state.totals
        try:
            choice = selector.choose(
                found,
                self._state.table.row(key),
                KeyedDraws(self.seed, str(totals.decisions)),
                side=side,
                entry=context.current_price,
                atr=context.atr,
                parents=self._state.table.parent_rows(key),
            )
        except BadMessageError as error:
            raise ValueError(error.error) from None
        profile = selector.profiles[choice.arm]
        decision = SelectorDecision(
            strategy_id=profile.strategy_id,
            strategy_profile=profile,
            is_exploration=choice.mode is Mode.EXPLORE,
            confidence=choice.confidence,
            reasoning=choice.reasoning,
            mode=choice.mode,
            propensity=choice.propensity,
            propensities=choice.propensities,
        )
        totals.decisions += 1
        totals.explorations += decision.is_exploration
        _log.info(
            "[STRATEGY] %s: %s (explore=%s, conf=%.0f%%) - %s",
            symbol,
            profile.name,
            decision.is_exploration,
            100 * choice.confidence,
            choice.reasoning,
        )
        return decision

    def update_reward(
        self,
        *,
        symbol: str,
        regime: MarketRegime | RegimeResult | str,
        strategy_id: str,
        reward: float,
        account: str = DEFAULT_ACCOUNT,
        close_reason: CloseReason | str | None = None,
    ) -> FoldResult:
        """Learn from one closed trade; writes the file, blocking, when there is one.

        Args:
            symbol: As it was chosen for.
            regime: As it was chosen in.
            strategy_id: What was traded.
            reward: Net profit [R: one ATR], within -1000 .. 1000.
            account: As it was chosen for.
            close_reason: `manual` and `external` are counted, not learned.

        Returns:
            What it did, with the strategy's statistics after it.

        Raises:
            ValueError: A value is out of its range, or unknown; nothing is changed.
            RefusedError: The file cannot be written; the reward is learned in memory.
        """
        key = self._key(account, symbol, regime)
        self._current()
        try:
            trade = TradeClosed(
                schema_version=1,
                trade_id=str(self._state.totals.rewards + 1),
                symbol=symbol,
                side=Side.LONG,  # prices and their side say nothing where R is given
                closed_at=0,
                account=account,
                decision_id=_NO_DECISION,
                strategy=str(strategy_id),
                regime=key.regime,
                close_reason=None if close_reason is None else CloseReason(close_reason),
                entry_price=1.0,
                exit_price=1.0,
                realized_r=float(reward),
            )
            result = self._state.fold_trade(trade, 0)
            self._state.take_changes()  # the file is written whole; nobody else asks for them
        except ValidationError as error:
            raise value_error(error) from None
        except BadMessageError as error:
            raise ValueError(error.error) from None
        stats = result.stats
        _log.info(
            "[RL UPDATE] %s %s %s: R=%+.2f, EMA=%.2f, count=%d, WR=%.1f%%",
            symbol,
            key.regime,
            strategy_id,
            result.reward,
            stats.ema_reward,
            stats.count,
            100 * stats.win_rate,
        )
        if self._auto_save:
            self.save()
        return result

    def save(self) -> None:
        """Write the table to its file; does nothing without one.

        Raises:
            RefusedError: It cannot be written.
        """
        if (write := self._prepared_write()) is not None:
            write()

    async def save_in_thread(self) -> None:
        """Write the table as it is now to its file, without blocking the loop.

        Raises:
            RefusedError: It cannot be written.
        """
        if (write := self._prepared_write()) is not None:
            await asyncio.to_thread(write)

    def get_performance_summary(self) -> Summary:
        """Put the table in short: counts, and the best strategy of each context, best first."""
        return summarize(self._state.table.rows, [self._state.totals])

    def _prepared_write(self) -> Callable[[], None] | None:
        if self._file is None:
            return None
        self._saves += 1
        return partial(self._file.write, self._saves, self._state.stored())

    @staticmethod
    def _key(account: str, symbol: str, regime: MarketRegime | RegimeResult | str) -> ContextKey:
        try:
            _Names(account=account, symbol=symbol)
        except ValidationError as error:
            raise value_error(error) from None
        return ContextKey(
            account,
            symbol,
            regime.regime if isinstance(regime, RegimeResult) else MarketRegime(regime),
        )

    def _current(self) -> Selector:
        profiles = dict(self._profiles)
        if profiles != self._selector.profiles:
            self._selector = self._make_selector(profiles)
        return self._selector

    def _make_selector(self, profiles: dict[str, StrategyProfile]) -> Selector:
        made = Selector(
            profiles,
            self._policy,
            candidate_rule=self._rule,
            default_strategy=self._policy.default_strategy,
            enabled=self._enabled,
        )
        self._ladders.clear()
        self._ladders.update(ladders_of(profiles))
        return made
