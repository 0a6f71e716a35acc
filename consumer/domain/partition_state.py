"""The state of one partition: the fold of its decisions and of its closed trades."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Literal, NamedTuple

from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.following import (
    CandleOutcome,
    Ended,
    Entry,
    Followed,
    Following,
    FollowingChanges,
    LastCandle,
    Series,
)
from consumer.domain.ladder import Ladder, built_in_ladders
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.paper import TRUSTED, Calibration, paper_rewards
from consumer.domain.qtable import (
    HALF_LIFE,
    NO_REWARDS,
    NO_ROW,
    ArmStats,
    Row,
    decay_of,
    fold_reward,
    revise_reward,
    with_paper,
)
from consumer.domain.regime import Held, noted
from consumer.domain.reward import RewardUnit, in_unit, realized_r
from consumer.errors import BadMessageError
from schemas import Candle, CloseReason, DeadLetterCode, MarketRegime, Side, TradeClosed

DEFAULT_ACCOUNT = "default"

Attribution = Literal["decision", "symbol", "echo"]
"""How a trade found its arm: by decision_id, by the newest open decision, by what it echoed."""

_NOT_BY_LADDER = frozenset({CloseReason.TIMEOUT, CloseReason.LIQUIDATION})

MarketKey = tuple[str, str, str]
"""Account, symbol and timeframe."""

Outcome = Literal["win", "loss", "flat", "excluded", "revised", "duplicate"]

_Arms = tuple[ArmStats, ArmStats, ArmStats]
"""An arm, then the same in both parents of its context, the widest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSettings:
    """All that the fold depends on besides the logs."""

    alpha: float = 0.20
    """Weight of a new reward in the average [1], within (0, 1]."""
    half_life: float = HALF_LIFE
    """Later rewards of an arm after which one counts half in its recent sum, above 0."""
    reward_unit: RewardUnit = "atr"
    learn_exclude: frozenset[CloseReason] = frozenset({CloseReason.MANUAL, CloseReason.EXTERNAL})
    """Close reasons whose rewards are counted, not learned."""
    decision_ttl_ms: int = 30 * 86_400_000
    """Age at which a decision is forgotten [ms of record time]."""
    open_decisions_max: int = 100_000
    """Open decisions a partition remembers."""
    dedupe_window: int = 100_000
    """Decisions, and rewards, of an account by which a repeat is known."""
    ladders: Mapping[str, Ladder] = field(default_factory=built_in_ladders)
    """Of every strategy, by id: those that a trade may echo, and that its path is walked for."""
    candles: str | None = None
    """Timeframe of the candles that signals are followed by; empty: each signal's own; None: no signal is
    followed, the paths of trades are learned from."""

    keeps_usual_atr: bool = False
    """Whether the mean ATR of each market is kept: limits of regimes are relative to it."""

    @property
    def decay(self) -> float:
        """What is left of a reward's weight in the recent sum after a later one [1]."""
        return decay_of(self.half_life)


class Position(NamedTuple):
    """How far the logs of a partition are folded: the next offset of each."""

    decisions: int = 0
    trades: int = 0
    candles: int = 0

    def reaches(self, other: "Position") -> bool:
        """Tell whether no log is folded less far than at another position."""
        return (
            self.decisions >= other.decisions
            and self.trades >= other.trades
            and self.candles >= other.candles
        )


@dataclass(slots=True)
class Totals:
    """Counters over the life of a partition."""

    decisions: int = 0
    explorations: int = 0
    rewards: int = 0
    sequence: int = 0
    """Numbers what is remembered, so that a stored state knows its order again."""
    answered: int = 0
    """Offset behind the newest signal that has a decision."""

    def next_sequence(self) -> int:
        """Give the next number."""
        self.sequence += 1
        return self.sequence


@dataclass(slots=True)
class Changes:
    """What was touched since the view was last written; looked up in the state when it is."""

    arms: set[tuple[ContextKey, str]] = field(default_factory=set)
    decisions: set[str] = field(default_factory=set)
    decision_ids: set[tuple[str, str]] = field(default_factory=set)
    """Account and id."""
    trades: set[tuple[str, str]] = field(default_factory=set)
    """Account and id."""
    parents: set[tuple[ParentKey, str]] = field(default_factory=set)
    markets: set[MarketKey] = field(default_factory=set)
    following: FollowingChanges = field(default_factory=FollowingChanges)

    def __len__(self) -> int:
        return len(self.arms) + len(self.decisions) + len(self.decision_ids) + len(self.trades)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPartition:
    """A partition's state at a position, as a view keeps it; groups are in no order."""

    position: Position
    totals: Totals
    rows: Mapping[ContextKey, Mapping[str, ArmStats]]
    open: Sequence[OpenDecision]
    closed: Sequence[OpenDecision]
    decision_ids: Sequence[tuple[str, str, int]]
    """Account, id and number of those that no remembered decision tells."""
    trades: Sequence[FoldedTrade]
    parents: Mapping[ParentKey, Mapping[str, ArmStats]] = field(default_factory=dict)
    markets: Mapping[MarketKey, Held] = field(default_factory=dict)
    followed: Sequence[Followed] = ()
    series: Mapping[Series, LastCandle] = field(default_factory=dict)


class FoldResult(NamedTuple):
    """What one closed trade did."""

    outcome: Outcome
    context: ContextKey | None = None
    strategy: str = ""
    reward: float = 0.0
    """In the table's unit [R]."""
    stats: ArmStats = NO_REWARDS
    """The arm after it."""
    attribution: Attribution | None = None
    paper: int = 0
    """Outcomes on paper that its path told."""


class _Arm(NamedTuple):
    """Where the reward of a trade goes."""

    context: ContextKey
    strategy: str
    atr: float | None
    atr_mult_sl: float
    attribution: Attribution
    decision: OpenDecision | None


class PartitionState:
    """Q-table, remembered decisions and counted trades of one partition.

    A pure function of its logs and of `FoldSettings`: the same records in the same order give
    the same state, to the last bit, in every process. Records must come in this order: a trade at
    offset t after exactly the decisions with `table_offset` <= t, a candle at offset c after exactly
    those with `candles_offset` <= c. Between two decisions the order of trades and candles does not
    matter.

    Args:
        settings: What the fold depends on.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self.settings = settings
        self.position = Position()
        self.totals = Totals()
        self.changes = Changes()
        self.rows: dict[ContextKey, Row] = {}
        self.parents: dict[ParentKey, Row] = {}
        self.markets: dict[MarketKey, Held] = {}
        """What decisions tell of each market."""
        self._decay = settings.decay
        # the order of these is part of the state: oldest first, and what leaves first
        self.open: dict[str, OpenDecision] = {}
        self.closed: dict[str, OpenDecision] = {}
        self.decision_ids: dict[str, dict[str, int]] = {}
        self.trades: dict[str, dict[str, FoldedTrade]] = {}
        self.calibrations: dict[str, Calibration] = {}
        """By account; of those whose trades had paths, or were followed."""
        self.following: Following | None = None
        if settings.candles is not None:
            self.following = Following(
                settings.ladders,
                settings.candles,
                reward_unit=settings.reward_unit,
                ttl_ms=settings.decision_ttl_ms,
                calibrations=self.calibrations,
            )
        self._open_by_symbol: dict[tuple[str, str, Side], dict[str, None]] = {}

    def clear(self) -> None:
        """Forget everything, where the object itself cannot be let go of; it is of no use then."""
        for kept in (
            self.rows,
            self.parents,
            self.markets,
            self.open,
            self.closed,
            self.decision_ids,
            self.trades,
            self.calibrations,
            self._open_by_symbol,
        ):
            kept.clear()
        self.changes = Changes()
        if self.following is not None:
            self.following.clear()

    # Decisions

    def row(self, context: ContextKey) -> Row:
        """Give what is known of each arm in a context; empty when nothing is."""
        return self.rows.get(context, NO_ROW)

    def parent_rows(self, context: ContextKey) -> tuple[Row, Row]:
        """Give what is known of each arm in a context's parents, the widest first."""
        widest, regime = context.parents
        return self.parents.get(widest, NO_ROW), self.parents.get(regime, NO_ROW)

    def knows_decision(self, account: str, decision_id: str) -> bool:
        """Tell whether this id is among the last decisions of the account: its signal a repeat."""
        return decision_id in self.decision_ids.get(account, ())

    def admit(
        self, decision: OpenDecision, *, is_exploration: bool, entry: Entry | None = None
    ) -> None:
        """Fold one decision; a repeated id changes nothing, the first record counts.

        Args:
            decision: What is remembered of it.
            is_exploration: Whether its strategy was drawn at random.
            entry: What it is followed by, where candles are, and what tells its market; None: it is neither
                followed nor remembered for its market.
        """
        if self.knows_decision(decision.account, decision.decision_id):
            return
        self.totals.decisions += 1
        self.totals.explorations += is_exploration
        if entry is not None:
            self._note_market((decision.account, decision.symbol, entry.timeframe), decision, entry)
        number = self.totals.next_sequence()
        ids = self.decision_ids.setdefault(decision.account, {})
        ids[decision.decision_id] = number
        while len(ids) > self.settings.dedupe_window:
            oldest = next(iter(ids))
            del ids[oldest]
            self.changes.decision_ids.add((decision.account, oldest))
        known = self.open.get(decision.decision_id) or self.closed.get(decision.decision_id)
        if known is not None:  # out of the dedupe window, still remembered
            if not self._is_over(known, decision):
                self.changes.decision_ids.add((decision.account, decision.decision_id))
                return  # its first record stays
            self._forget(known)
        decision = decision.numbered(number)
        self._open(decision)
        if self.following is not None and entry is not None:
            self._fold_ended(self.following.admit(decision, entry))
        while len(self.open) > self.settings.open_decisions_max:
            self._forget(next(iter(self.open.values())))
        for group in (self.open, self.closed):
            while group and self._is_over(first := next(iter(group.values())), decision):
                self._forget(first)

    def _note_market(self, market: MarketKey, decision: OpenDecision, entry: Entry) -> None:
        known = self.markets.get(market)
        atr = decision.atr / entry.price if self.settings.keeps_usual_atr else None
        held = noted(known, decision.regime, entry.ts_ms, atr)
        if held is not known:
            self.markets[market] = held
            self.changes.markets.add(market)

    def answer(self, signal_offset: int) -> None:
        """Take note of the offset whose signal a decision answers."""
        self.totals.answered = max(self.totals.answered, signal_offset + 1)

    def _is_over(self, old: OpenDecision, newest: OpenDecision) -> bool:
        return newest.timestamp_ms - old.timestamp_ms > self.settings.decision_ttl_ms

    def _open(self, decision: OpenDecision) -> None:
        self.open[decision.decision_id] = decision
        key = (decision.account, decision.symbol, decision.side)
        self._open_by_symbol.setdefault(key, {})[decision.decision_id] = None
        self.changes.decisions.add(decision.decision_id)

    def _close(self, decision: OpenDecision) -> None:
        if self.open.pop(decision.decision_id, None) is None:
            return
        self._unlist(decision)
        self.closed[decision.decision_id] = decision.closed(self.totals.next_sequence())
        self.changes.decisions.add(decision.decision_id)
        while len(self.closed) > self.settings.open_decisions_max:
            self._forget(next(iter(self.closed.values())))

    def _forget(self, decision: OpenDecision) -> None:
        if self.open.pop(decision.decision_id, None) is not None:
            self._unlist(decision)
        else:
            del self.closed[decision.decision_id]
        self.changes.decisions.add(decision.decision_id)
        if self.knows_decision(decision.account, decision.decision_id):
            self.changes.decision_ids.add((decision.account, decision.decision_id))

    def _unlist(self, decision: OpenDecision) -> None:
        key = (decision.account, decision.symbol, decision.side)
        listed = self._open_by_symbol[key]
        del listed[decision.decision_id]
        if not listed:
            del self._open_by_symbol[key]

    # Closed trades

    def fold_trade(self, trade: TradeClosed, timestamp_ms: int) -> FoldResult:
        """Fold one closed trade; nothing is changed when it is refused.

        Args:
            trade: The message.
            timestamp_ms: Timestamp of its Kafka record [ms].

        Raises:
            BadMessageError: `unknown_decision`, `unknown_trade` or `invalid_message`.
        """
        account = trade.account or DEFAULT_ACCOUNT
        known = self.trades.get(account, {}).get(trade.trade_id)
        revision = trade.revision or 0
        if known is not None:
            if revision <= known.revision:
                return FoldResult("duplicate")
            return self._revise(known, trade, revision)
        if revision > 0:
            raise BadMessageError(
                DeadLetterCode.UNKNOWN_TRADE,
                f"trade_id: revision {revision} of a trade that is not remembered",
            )
        arm = self._find_arm(trade, account, timestamp_ms)
        reward_r = realized_r(trade, arm.atr)
        reward = in_unit(reward_r, self.settings.reward_unit, arm.atr_mult_sl)
        atr = arm.atr if arm.atr is not None else trade.atr
        if arm.decision is not None:
            self._close(arm.decision)
            self._note_realized(arm.decision, trade, reward_r)
        self.totals.rewards += 1
        parent_ordinals, paper = (0, 0), {}
        if trade.close_reason in self.settings.learn_exclude:
            stats, ordinal = self.row(arm.context).get(arm.strategy, NO_REWARDS), 0
        else:
            alpha, decay = self.settings.alpha, self._decay
            before = self._arms(arm.context, arm.strategy)
            arms = stats, widest, regime = (
                fold_reward(before[0], reward, alpha, decay),
                fold_reward(before[1], reward, alpha, decay),
                fold_reward(before[2], reward, alpha, decay),
            )
            self._put(arm.context, arm.strategy, arms)
            ordinal, parent_ordinals = stats.count, (widest.count, regime.count)
            paper = self._fold_path(arm.context, trade, atr)
        self._count_trade(
            FoldedTrade(
                account,
                trade.trade_id,
                arm.context.symbol,
                arm.context.regime,
                arm.context.variant,
                arm.strategy,
                reward,
                ordinal,
                revision,
                atr,
                arm.atr_mult_sl,
                self.totals.next_sequence(),
                parent_ordinals,
                paper.get(arm.strategy),
            )
        )
        outcome: Outcome = "win" if reward > 0 else "loss" if reward < 0 else "flat"
        if ordinal == 0:
            outcome = "excluded"
        return FoldResult(
            outcome, arm.context, arm.strategy, reward, stats, arm.attribution, len(paper)
        )

    def _arms(self, context: ContextKey, strategy: str) -> _Arms:
        widest, regime = self.parent_rows(context)
        return (
            self.row(context).get(strategy, NO_REWARDS),
            widest.get(strategy, NO_REWARDS),
            regime.get(strategy, NO_REWARDS),
        )

    def _put(self, context: ContextKey, strategy: str, arms: _Arms) -> None:
        arm, *of_parents = arms
        # a new row each time: what a policy worked out from a row holds as long as the row does
        self.rows[context] = {**self.row(context), strategy: arm}
        self.changes.arms.add((context, strategy))
        for key, stats in zip(context.parents, of_parents, strict=True):
            self.parents[key] = {**self.parents.get(key, NO_ROW), strategy: stats}
            self.changes.parents.add((key, strategy))

    def _fold_path(
        self, context: ContextKey, trade: TradeClosed, atr: float | None
    ) -> dict[str, float]:
        """Fold what each strategy would have earned; give it by id, nothing when it is not told."""
        if not trade.path or atr is None or self.following is not None:
            return {}  # where candles tell it, it would count twice
        found = paper_rewards(self.settings.ladders, trade, atr, self.settings.reward_unit)
        self._fold_paper(context, found)
        return found

    def _fold_paper(self, context: ContextKey, rewards: Mapping[str, float]) -> None:
        self.rows[context] = with_paper(self.row(context), rewards, self._decay)
        self.changes.arms.update((context, name) for name in rewards)
        for parent, row in zip(context.parents, self.parent_rows(context), strict=True):
            self.parents[parent] = with_paper(row, rewards, self._decay)
            self.changes.parents.update((parent, name) for name in rewards)

    # Candles

    def fold_candle(self, candle: Candle) -> CandleOutcome:
        """Fold one candle: signals that end by it count on paper.

        Raises:
            RuntimeError: The settings have no candles.
        """
        if self.following is None:
            raise RuntimeError("no signal is followed: the settings have no candles")
        outcome, ended = self.following.take(candle)
        self._fold_ended(ended)
        return outcome

    def _fold_ended(self, ended: Iterable[Ended]) -> None:
        for context, rewards in ended:
            self._fold_paper(context, rewards)

    def _note_realized(self, decision: OpenDecision, trade: TradeClosed, reward_r: float) -> None:
        """Let following compare what its ladder would have earned, where the ladder closed it."""
        if (
            self.following is None
            or trade.close_reason in self.settings.learn_exclude
            or trade.close_reason in _NOT_BY_LADDER
        ):
            return
        one_r = decision.atr if trade.atr is None else trade.atr
        gross = reward_r * one_r + (trade.fees or 0.0)
        self.following.realized(decision.decision_id, gross / decision.atr)

    def calibration(self, account: str) -> Calibration:
        """Tell how well the paths of an account's trades agree with what they earned."""
        return self.calibrations.get(account, TRUSTED)

    def _gap_r(self, folded: FoldedTrade) -> float:
        gap = abs((folded.paper or 0.0) - folded.reward)
        return gap if self.settings.reward_unit == "atr" else gap * folded.atr_mult_sl

    def _count_trade(self, folded: FoldedTrade) -> None:
        counted = self.trades.setdefault(folded.account, {})
        counted[folded.trade_id] = folded
        self._compare(folded)
        self.changes.trades.add((folded.account, folded.trade_id))
        while len(counted) > self.settings.dedupe_window:
            oldest = counted.pop(next(iter(counted)))
            self.calibration(folded.account).drop(oldest.sequence)
            self.changes.trades.add((folded.account, oldest.trade_id))

    def _compare(self, folded: FoldedTrade) -> None:
        if folded.paper is not None:
            calibration = self.calibrations.setdefault(folded.account, Calibration())
            calibration.put(folded.sequence, self._gap_r(folded))

    def _revise(self, known: FoldedTrade, trade: TradeClosed, revision: int) -> FoldResult:
        reward_r = realized_r(trade, known.atr)
        reward = in_unit(reward_r, self.settings.reward_unit, known.atr_mult_sl)
        arms = self._arms(known.context, known.strategy)
        if not known.is_excluded:
            revised = partial(
                revise_reward,
                old=known.reward,
                new=reward,
                alpha=self.settings.alpha,
                decay=self._decay,
            )
            arm, widest, regime = arms
            of_all, of_regime = known.parent_ordinals
            arms = (
                revised(arm, ordinal=known.ordinal),
                revised(widest, ordinal=of_all),
                revised(regime, ordinal=of_regime),
            )
            self._put(known.context, known.strategy, arms)
        corrected = known._replace(reward=reward, revision=revision)
        self.trades[known.account][known.trade_id] = corrected
        if known.paper is not None:
            self.calibration(known.account).correct(known.sequence, self._gap_r(corrected))
        self.changes.trades.add((known.account, known.trade_id))
        outcome: Outcome = "excluded" if known.is_excluded else "revised"
        return FoldResult(outcome, known.context, known.strategy, reward, arms[0])

    def _find_arm(self, trade: TradeClosed, account: str, timestamp_ms: int) -> _Arm:
        decision = self._find_decision(trade, account, timestamp_ms)
        if decision is not None:
            return _Arm(
                decision.context,
                decision.strategy,
                decision.atr,
                decision.atr_mult_sl,
                "symbol" if trade.decision_id is None else "decision",
                decision,
            )
        if trade.strategy is not None and trade.regime is not None:
            return self._echoed_arm(trade, account, trade.strategy, trade.regime)
        if trade.decision_id is None:
            raise BadMessageError(
                DeadLetterCode.UNKNOWN_DECISION,
                f"decision_id: is missing, {account} has no open {trade.side} decision for "
                f"{trade.symbol}, and strategy and regime are not both given",
            )
        raise BadMessageError(
            DeadLetterCode.UNKNOWN_DECISION,
            "decision_id: is not among the remembered decisions of this account and symbol, "
            "and strategy and regime are not both given",
        )

    def _find_decision(
        self, trade: TradeClosed, account: str, timestamp_ms: int
    ) -> OpenDecision | None:
        if trade.decision_id is None:
            listed = self._open_by_symbol.get((account, trade.symbol, trade.side), {})
            newest = next(reversed(listed), None)
            decision = None if newest is None else self.open[newest]
        else:
            decision = self.open.get(trade.decision_id) or self.closed.get(trade.decision_id)
        if (
            decision is None
            or timestamp_ms - decision.timestamp_ms > self.settings.decision_ttl_ms
            # one of another symbol is known only where both share a partition: never rely on it
            or (decision.account, decision.symbol) != (account, trade.symbol)
        ):
            return None
        if decision.side is not trade.side:
            raise BadMessageError(
                DeadLetterCode.INVALID_MESSAGE,
                f"side: is {trade.side}, its decision's is {decision.side}",
            )
        return decision

    def _echoed_arm(
        self, trade: TradeClosed, account: str, strategy: str, regime: MarketRegime
    ) -> _Arm:
        ladder = self.settings.ladders.get(strategy)
        if ladder is None:
            raise BadMessageError(
                DeadLetterCode.INVALID_MESSAGE,
                f"strategy: is not known; known are {', '.join(self.settings.ladders)}",
            )
        context = ContextKey(account, trade.symbol, regime, trade.variant)
        return _Arm(context, strategy, None, ladder.stop, "echo", None)

    # The view

    def lone_number(self, account: str, decision_id: str) -> int | None:
        """Give the number of an id that is known for repeats, unless its decision tells it."""
        number = self.decision_ids[account].get(decision_id)
        decision = self.open.get(decision_id) or self.closed.get(decision_id)
        return None if decision is not None and decision.number == number else number

    @property
    def active(self) -> Iterable[OpenDecision]:
        """The newest open decision of each account, symbol and side."""
        return (self.open[next(reversed(ids))] for ids in self._open_by_symbol.values())

    def take_changes(self) -> Changes:
        """Give what was touched since the last call, and start anew."""
        taken, self.changes = self.changes, Changes()
        if self.following is not None:
            taken.following = self.following.take_changes()
        return taken

    def touch_all(self) -> None:
        """Count everything as changed: the view is to be written from the beginning."""
        self.changes = Changes(
            {(context, strategy) for context, row in self.rows.items() for strategy in row},
            {*self.open, *self.closed},
            {
                (account, key)
                for account, keys in self.decision_ids.items()
                for key in keys
                if self.lone_number(account, key) is not None
            },
            {(account, key) for account, keys in self.trades.items() for key in keys},
            {(parent, strategy) for parent, row in self.parents.items() for strategy in row},
            set(self.markets),
        )
        if self.following is not None:
            self.following.touch_all()

    def stored(self) -> StoredPartition:
        """Give all there is, to keep or to compare."""
        return StoredPartition(
            position=self.position,
            totals=replace(self.totals),
            rows={context: dict(row) for context, row in self.rows.items()},
            open=list(self.open.values()),
            closed=list(self.closed.values()),
            decision_ids=[
                (account, key, number)
                for account, keys in self.decision_ids.items()
                for key, number in keys.items()
                if self.lone_number(account, key) is not None
            ],
            trades=[trade for group in self.trades.values() for trade in group.values()],
            parents={parent: dict(row) for parent, row in self.parents.items()},
            markets=dict(self.markets),
            followed=[] if self.following is None else list(self.following.followed.values()),
            series={} if self.following is None else dict(self.following.series),
        )

    def restore(self, stored: StoredPartition) -> None:
        """Put a stored state into this empty one."""
        self.position, self.totals = stored.position, replace(stored.totals)
        self.rows = {context: dict(row) for context, row in stored.rows.items()}
        self.parents = {parent: dict(row) for parent, row in stored.parents.items()}
        self.markets = dict(stored.markets)
        for decision in sorted(stored.open, key=attrgetter("number")):
            self._open(decision)
        closed = sorted(stored.closed, key=attrgetter("closed_number"))
        self.closed = {decision.decision_id: decision for decision in closed}
        numbers = {(d.account, d.decision_id): d.number for d in (*stored.open, *closed)}
        numbers |= {(account, key): number for account, key, number in stored.decision_ids}
        for (account, key), number in sorted(numbers.items(), key=itemgetter(1)):
            self.decision_ids.setdefault(account, {})[key] = number
        for account, ids in self.decision_ids.items():
            # a decision is remembered longer than its id may be known for repeats
            newest = list(ids.items())[-self.settings.dedupe_window :]
            self.decision_ids[account] = dict(newest)
        for trade in sorted(stored.trades, key=attrgetter("sequence")):
            self.trades.setdefault(trade.account, {})[trade.trade_id] = trade
            self._compare(trade)
        if self.following is not None:
            self.following.restore(stored.followed, stored.series)
        self.changes = Changes()
