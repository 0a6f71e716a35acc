"""The same rules in process, without Kafka or Redis.

Every rule is the worker's own class; what is added here is the table in memory, its file, and the
calls of a trading process. Objects of this module belong to one thread, such as that of a loop.
"""

import asyncio
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import schemas
from consumer.domain.context import ContextKey
from consumer.domain.draws import KeyedDraws
from consumer.domain.partition_state import (
    DEFAULT_ACCOUNT,
    FoldResult,
    FoldSettings,
    PartitionState,
    Position,
    StoredPartition,
    Totals,
)
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.qtable import ArmStats
from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.domain.reward import RewardUnit
from consumer.domain.selector import Selector
from consumer.domain.strategies import CandidateRule, merge_profiles
from consumer.domain.summary import Summary, summarize
from consumer.errors import BadMessageError, RefusedError
from schemas import CloseReason, MarketRegime, Mode, Side, StrategyID, StrategyProfile, TradeClosed
from schemas._types import Account, StrategyName, Symbol, Timeframe

_log = logging.getLogger("meta_strategy")

STATE_FILE_VARIABLE = "META_STRATEGY_STATE_FILE"
"""Names the file of an integration that is given none."""

_NO_DECISION = "in-process"
"""As a decision id: nothing is remembered under it, so the strategy a reward names counts."""


# Profiles


class ProfileRegistry(MutableMapping[str, StrategyProfile]):
    """Profiles by id: the built-in ones first, then custom ones in the order they came.

    Assigning to a built-in id takes its place; deleting that brings the built-in one back.
    """

    def __init__(self) -> None:
        self._custom: dict[str, StrategyProfile] = {}
        self._all = merge_profiles(())

    def __getitem__(self, key: str) -> StrategyProfile:
        return self._all[key]

    def __setitem__(self, key: str, profile: StrategyProfile) -> None:
        if key != profile.strategy_id:
            raise ValueError(f"strategy_id must be the key {key!r}, was {profile.strategy_id!r}")
        self._custom[str(key)] = profile
        self._all = merge_profiles(self._custom.values())

    def __delitem__(self, key: str) -> None:
        if key in self._all and key not in self._custom:
            raise ValueError(f"{key} is built in and stays")
        del self._custom[key]
        self._all = merge_profiles(self._custom.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<profiles: {', '.join(self._all)}>"


STRATEGY_PROFILES = ProfileRegistry()
"""All profiles of this process; selectors see a change at their next call."""


def get_strategy_profile(strategy_id: str) -> StrategyProfile:
    """Look a profile up.

    Args:
        strategy_id: A `StrategyID`, or the id of a custom profile.

    Raises:
        ValueError: There is none of this id.
    """
    if strategy_id not in STRATEGY_PROFILES:
        known = ", ".join(STRATEGY_PROFILES)
        raise ValueError(f"strategy_id must be one of {known}, was {str(strategy_id)!r}")
    return STRATEGY_PROFILES[strategy_id]


def register_strategy_profile(profile: StrategyProfile) -> None:
    """Add a profile, or put it in the place of the one with its id, for the whole process."""
    STRATEGY_PROFILES[profile.strategy_id] = profile


# What goes in and comes out


class MarketContext(schemas.MarketContext):
    """What is known of a market at a moment; units as in the signal message."""

    symbol: Symbol
    timeframe: Timeframe = Field(description="Such as 15m.")


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


class _Names(BaseModel):
    """What names a context: the same limits as in the messages."""

    model_config = ConfigDict(strict=True)

    symbol: Symbol
    account: Account


def _value_error(error: ValidationError, what: str = "") -> ValueError:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return ValueError(f"{what}{field}: {problem}, was {first['input']!r}")


# The table's file

_Count = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    """One strategy in one context."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    account: Account
    symbol: Symbol
    regime: Annotated[MarketRegime, Field(strict=False)]
    strategy: StrategyName
    count: Annotated[int, Field(ge=1)]
    ema_reward: float
    avg_reward: float
    win_count: _Count
    loss_count: _Count
    total_r: float


class _Totals(BaseModel):
    """Counters over the table's life."""

    model_config = ConfigDict(strict=True, extra="forbid")

    decisions: _Count
    explorations: _Count
    rewards: _Count


class _File(BaseModel):
    """The whole file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["meta-strategy-table"]
    version: Literal[1]
    reward_unit: RewardUnit
    totals: _Totals
    entries: list[_Entry]


class TableFile:
    """A table in a JSON file that people can read; belongs to one process and one selector.

    Args:
        path: Where it is; need not be there yet.
        reward_unit: Of all its rewards.
    """

    def __init__(self, path: Path, reward_unit: RewardUnit) -> None:
        self.path = path
        self._unit = reward_unit
        self._lock = threading.Lock()
        self._written = 0

    def load(self) -> StoredPartition | None:
        """Read the table; None when there is no file.

        Raises:
            RefusedError: It cannot be read, is broken, or holds another unit; one line, with its
                name. It is left as it is.
        """
        try:
            parsed = _File.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RefusedError(f"{self.path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "content"
            raise RefusedError(
                f"{self.path}: is no in-process table: {field}: {first['msg']}"
            ) from None
        if parsed.reward_unit != self._unit:
            raise RefusedError(
                f"{self.path}: its rewards are in the unit {parsed.reward_unit!r}, "
                f"reward_unit is {self._unit!r}; they never mix"
            )
        rows: dict[ContextKey, dict[str, ArmStats]] = {}
        for number, entry in enumerate(parsed.entries):
            row = rows.setdefault(ContextKey(entry.account, entry.symbol, entry.regime), {})
            if entry.strategy in row or entry.win_count + entry.loss_count > entry.count:
                problem = "is there twice" if entry.strategy in row else "counts do not add up"
                raise RefusedError(
                    f"{self.path}: is no in-process table: entries.{number}: {problem}"
                )
            row[entry.strategy] = ArmStats(
                entry.count, entry.ema_reward, entry.win_count, entry.loss_count, entry.total_r
            )
        counts = parsed.totals
        totals = Totals(counts.decisions, counts.explorations, counts.rewards)
        return StoredPartition(
            position=Position(),
            totals=totals,
            rows=rows,
            open=(),
            closed=(),
            decision_ids=(),
            trades=(),
        )

    def write(self, number: int, stored: StoredPartition) -> None:
        """Write a state in one step, unless a newer one is there; from any thread.

        Args:
            number: Counts the states of the table: threads may come in another order.
            stored: The state.

        Raises:
            RefusedError: It cannot be written; the old file stays. A later write holds all.
        """
        with self._lock:
            if number <= self._written:
                return
            try:
                self._replace(self._text(stored))
            except OSError as error:
                raise RefusedError(f"{self.path}: cannot be written: {error.strerror}") from None
            self._written = number

    def _text(self, stored: StoredPartition) -> str:
        entries = [
            _Entry(
                account=context.account,
                symbol=context.symbol,
                regime=context.regime,
                strategy=str(strategy),
                count=stats.count,
                ema_reward=stats.ema_reward,
                avg_reward=stats.avg_reward,
                win_count=stats.win_count,
                loss_count=stats.loss_count,
                total_r=stats.total_r,
            ).model_dump(mode="json")
            for context, row in sorted(stored.rows.items())
            for strategy, stats in row.items()
        ]
        content = {
            "format": "meta-strategy-table",
            "version": 1,
            "reward_unit": self._unit,
            "totals": {name: getattr(stored.totals, name) for name in _Totals.model_fields},
            "entries": entries,
        }
        return json.dumps(content, indent=1) + "\n"

    def _replace(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


# The selector


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
        self.enabled = enabled
        self.epsilon = epsilon
        self.alpha = alpha
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
        self._stops: dict[str, float] = {}
        self._selector = self._make_selector(dict(self._profiles))
        self._state = PartitionState(
            # trades have no ids here: nothing is gained by remembering them
            FoldSettings(alpha=alpha, reward_unit=reward_unit, dedupe_window=1),
            self._stops,
        )
        self._auto_save = auto_save
        self._saves = 0
        self._file = None if state_file is None else TableFile(Path(state_file), reward_unit)
        if self._file is not None and (stored := self._file.load()) is not None:
            self._state.restore(stored)

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
                self._state.row(key),
                KeyedDraws(self.seed, str(totals.decisions)),
                side=side,
                entry=context.current_price,
                atr=context.atr,
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
            raise _value_error(error) from None
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
        return summarize(self._state.rows, [self._state.totals])

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
            raise _value_error(error) from None
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
            enabled=self.enabled,
        )
        self._stops.clear()
        self._stops.update({str(key): profile.r_sl for key, profile in profiles.items()})
        return made


# The integration


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
            100 * epsilon,
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
            raise _value_error(error, "market_data: ") from None
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
