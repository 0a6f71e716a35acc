"""The state of one partition: the fold of its decisions and of its closed trades."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from consumer.domain.arm_table import ArmChanges, ArmTable
from consumer.domain.context import ContextKey
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.following import (
    CandleOutcome,
    Ended,
    Entry,
    Following,
    FollowingChanges,
)
from consumer.domain.open_decision import FoldedTrade, OpenDecision, trade_of
from consumer.domain.paper import TRUSTED, Calibration, paper_rewards
from consumer.domain.pooled import NOWHERE, Elsewhere
from consumer.domain.qtable import NO_REWARDS, ArmStats
from consumer.domain.quick import quick
from consumer.domain.regime import Held, noted
from consumer.domain.remembered import Remembered
from consumer.domain.reward import in_unit, realized_r
from consumer.domain.stored import MarketKey, Position, StoredPartition, Totals
from consumer.domain.window import Row, Window
from consumer.errors import BadMessageError
from schemas import Candle, CloseReason, DeadLetterCode, MarketRegime, TradeClosed

DEFAULT_ACCOUNT: Final = "default"

Attribution = Literal["decision", "symbol", "echo"]
"""How a trade found its arm: by decision_id, by the newest open decision, by what it echoed."""

_NOT_BY_LADDER: Final = frozenset({CloseReason.TIMEOUT, CloseReason.LIQUIDATION})

_ARM_FIELDS: Final = 10
"""Of an arm in a view."""
_BLOCKED: Final = 100
"""Remembered entries that cost a view as much as a field: they are written in blocks."""

Outcome = Literal["win", "loss", "flat", "excluded", "revised", "duplicate"]

PathOutcome = Literal["folded", "refused"]


@dataclass(slots=True, kw_only=True)
class Changes:
    """What was touched since the view was last written; looked up in the state when it is."""

    since: int
    """Newest number of what was remembered by then; 0: all is to be written."""
    table: ArmChanges
    accounts: set[str]
    """Accounts of new decisions and counted trades."""
    open: set[str]
    """Ids of decisions that were opened, closed or forgotten open."""
    all_open: bool
    """Whether all that are open count as changed."""
    revised: set[tuple[str, str]]
    """Account and id of trades that were revised, or forgotten after it."""
    markets: set[MarketKey]
    following: FollowingChanges


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
    path: PathOutcome | None = None
    """What became of its path; None where it has none, or none is looked at."""


class _Arm(NamedTuple):
    """Where the reward of a trade goes."""

    context: ContextKey
    strategy: str
    atr: float | None
    atr_mult_sl: float
    attribution: Attribution
    decision: OpenDecision | None

    @property
    def features(self) -> Features:
        """Of its signal."""
        return NO_FEATURES if self.decision is None else self.decision.features


def _trade_rows(_: Sequence[str], trades: Sequence[FoldedTrade]) -> list[Row]:
    return [trade.row() for trade in trades]


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
        self.table = ArmTable(settings)
        self.decisions = Remembered(settings)
        self.elsewhere: Elsewhere = NOWHERE
        """What other partitions have learned: no part of the fold, decisions name it."""
        self.markets: dict[MarketKey, Held] = {}
        """What decisions tell of each market."""
        self.trades: dict[str, Window[FoldedTrade]] = {}
        """By account, then by id."""
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
        self.written = 0
        """Newest number when the changes were last taken; 0: all is to be written."""
        self._revised: set[tuple[str, str]] = set()
        """Account and id of counted trades that were revised."""
        self._touched_accounts: set[str] = set()
        self._written_accounts: set[str] = set()
        """Touched, and not packed since."""
        self._touched_revised: set[tuple[str, str]] = set()
        self._touched_markets: set[MarketKey] = set()

    def clear(self) -> None:
        """Forget everything, where the object itself cannot be let go of; it is of no use then."""
        self.table.clear()
        self.decisions.clear()
        self.elsewhere = NOWHERE
        for kept in (self.markets, self.trades, self.calibrations):
            kept.clear()
        self.written = self.totals.sequence
        self._touched_accounts.clear()
        self._written_accounts.clear()
        self._revised.clear()
        self._touched_revised.clear()
        self._touched_markets.clear()
        if self.following is not None:
            self.following.clear()

    # Decisions

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
        if not self.decisions.knows(decision.account, decision.decision_id):
            numbered = decision.numbered(self.totals.next_sequence())
            self.admit_new(numbered, is_exploration=is_exploration, entry=entry)

    def admit_new(
        self, decision: OpenDecision, *, is_exploration: bool, entry: Entry | None
    ) -> None:
        """Fold a decision whose id is not known, and which has the next number; see `admit`."""
        self._touched_accounts.add(decision.account)
        self.totals.decisions += 1
        self.totals.explorations += is_exploration
        if entry is not None:
            self._note_market((decision.account, decision.symbol, entry.timeframe), decision, entry)
        is_new = self.decisions.admit(decision)
        if is_new and self.following is not None and entry is not None:
            self._fold_ended(self.following.admit(decision, entry))

    def _note_market(self, market: MarketKey, decision: OpenDecision, entry: Entry) -> None:
        known = self.markets.get(market)
        atr = decision.atr / entry.price if self.settings.keeps_usual_atr else None
        held = noted(known, decision.regime, entry.ts_ms, atr)
        if held is not known:
            self.markets[market] = held
            self._touched_markets.add(market)

    def answer(self, signal_offset: int) -> None:
        """Take note of the offset whose signal a decision answers."""
        self.totals.answered = max(self.totals.answered, signal_offset + 1)

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
        trade_id, revision = trade.trade_id, trade.revision or 0
        counted = self.trades.get(account)
        known = None if counted is None else counted.get(trade_id)
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
            if arm.decision.decision_id in self.decisions.open:
                self.decisions.close(arm.decision, self.totals.next_sequence())
            self._note_realized(arm.decision, trade, reward_r)
        self.totals.rewards += 1
        of_all, of_regime = 0, 0
        paper: Mapping[str, float] = {}
        path: PathOutcome | None = None
        if trade.close_reason in self.settings.learn_exclude:
            (stats, _, _), ordinal = self.table.arms(arm.context, arm.strategy), 0
        else:
            stats, widest, regime = self.table.learn(
                arm.context, arm.strategy, reward, arm.features
            )
            ordinal, of_all, of_regime = stats.count, widest.count, regime.count
            # where candles tell it, a path would count twice; and without an ATR it tells nothing
            if trade.path and atr is not None and self.following is None:
                paper = self._fold_path(arm, trade, atr)
                path = "folded" if paper else "refused"
        self._count_trade(
            FoldedTrade(
                account,
                trade_id,
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
                of_all,
                of_regime,
                paper.get(arm.strategy),
                arm.features,
            )
        )
        outcome: Outcome = "win" if reward > 0 else "loss" if reward < 0 else "flat"
        if ordinal == 0:
            outcome = "excluded"
        return quick(
            FoldResult,
            (outcome, arm.context, arm.strategy, reward, stats, arm.attribution, path),
        )

    def _fold_path(self, arm: _Arm, trade: TradeClosed, atr: float) -> Mapping[str, float]:
        """Fold what each strategy would have earned; give it by id, nothing when the path is refused."""
        found = paper_rewards(self.settings.ladders, trade, atr, self.settings.reward_unit)
        self.table.learn_on_paper(arm.context, found, arm.features)
        return found

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
        for one in ended:
            self.table.learn_on_paper(*one)

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
        counted = self._trades_of(folded.account)
        counted.add(folded.trade_id, folded)
        self._touched_accounts.add(folded.account)
        self._compare(folded)
        while len(counted) > self.settings.dedupe_window:
            _, oldest = counted.pop_oldest()
            self.calibration(folded.account).drop(oldest.sequence)
            if oldest.revision:
                name = oldest.account, oldest.trade_id
                self._revised.discard(name)
                self._touched_revised.add(name)

    def _trades_of(self, account: str) -> Window[FoldedTrade]:
        counted = self.trades.get(account)
        if counted is None:
            counted = self.trades[account] = Window(_trade_rows, trade_of)
        return counted

    def _compare(self, folded: FoldedTrade) -> None:
        if folded.paper is not None:
            calibration = self.calibrations.setdefault(folded.account, Calibration())
            calibration.put(folded.sequence, self._gap_r(folded))

    def _revise(self, known: FoldedTrade, trade: TradeClosed, revision: int) -> FoldResult:
        reward_r = realized_r(trade, known.atr)
        reward = in_unit(reward_r, self.settings.reward_unit, known.atr_mult_sl)
        if known.is_excluded:
            stats, _, _ = self.table.arms(known.context, known.strategy)
        else:
            stats, _, _ = self.table.revise(known, reward)
        corrected = replace(known, reward=reward, revision=revision)
        self.trades[known.account].replace(known.trade_id, corrected)
        if known.paper is not None:
            self.calibration(known.account).correct(known.sequence, self._gap_r(corrected))
        self._revised.add((known.account, known.trade_id))
        self._touched_revised.add((known.account, known.trade_id))
        outcome: Outcome = "excluded" if known.is_excluded else "revised"
        return FoldResult(outcome, known.context, known.strategy, reward, stats)

    def _find_arm(self, trade: TradeClosed, account: str, timestamp_ms: int) -> _Arm:
        decision = self.decisions.decision_of(trade, account, timestamp_ms)
        if decision is not None:
            is_named = trade.decision_id is not None
            return quick(
                _Arm,
                (
                    decision.context,
                    decision.strategy,
                    decision.atr,
                    decision.atr_mult_sl,
                    "decision" if is_named else "symbol",
                    decision,
                ),
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

    @property
    def folded(self) -> int:
        """Give a number that grows with all that is folded."""
        decisions, trades, candles = self.position
        return self.totals.sequence + decisions + trades + candles

    # The view

    @property
    def pending(self) -> int:
        """Entries that a view has to write, about: those of arms, decisions and trades."""
        remembered = self.totals.sequence - self.written
        forgotten = self.decisions.forgotten + len(self._touched_revised)
        return len(self.table.changes.arms) + remembered + forgotten

    @property
    def pending_fields(self) -> int:
        """Fields of hashes that a view has to set or delete, about: what a write costs a server."""
        arms, touched = len(self.table.changes.arms), len(self.decisions.changes)
        return _ARM_FIELDS * arms + touched + (self.totals.sequence - self.written) // _BLOCKED

    @property
    def all_fields(self) -> int:
        """The same if it were written anew."""
        arms = remembered = 0
        for row in self.table.rows.values():
            arms += len(row)
        for ids in self.decisions.ids.values():
            remembered += len(ids)
        for counted in self.trades.values():
            remembered += len(counted)
        remembered += len(self.decisions.closed)
        return _ARM_FIELDS * arms + len(self.decisions.open) + remembered // _BLOCKED

    @property
    def is_scattered(self) -> bool:
        """Whether something left before what is older did: a view that knows only the oldest must be rewritten."""
        return self.decisions.is_scattered

    def take_changes(self) -> Changes:
        """Give what was touched since the last call, and start anew."""
        since, self.written = self.written, self.totals.sequence
        accounts, self._touched_accounts = self._touched_accounts, set()
        self._written_accounts |= accounts
        revised, self._touched_revised = self._touched_revised, set()
        markets, self._touched_markets = self._touched_markets, set()
        following = self.following
        return Changes(
            since=since,
            table=self.table.take_changes(),
            accounts=accounts,
            all_open=self.decisions.is_all_touched,
            open=self.decisions.take_changes(),
            revised=revised,
            markets=markets,
            following=FollowingChanges() if following is None else following.take_changes(),
        )

    def pack(self) -> None:
        """Pack what is remembered: best once its changes are written, it is hardly ever looked up again."""
        self.decisions.open.pack()
        self.decisions.closed.pack()
        for account in self._written_accounts | self._touched_accounts:
            if (ids := self.decisions.ids.get(account)) is not None:
                ids.pack()
            if (counted := self.trades.get(account)) is not None:
                counted.pack()
        self._written_accounts.clear()

    def touch_all(self) -> None:
        """Count everything as changed: the view is to be written from the beginning."""
        self.table.touch_all()
        self.decisions.touch_all()
        self.written = 0
        self._touched_accounts = {*self.decisions.ids, *self.trades}
        self._touched_revised = set(self._revised)
        self._touched_markets = set(self.markets)
        if self.following is not None:
            self.following.touch_all()

    def stored(self) -> StoredPartition:
        """Give all there is, to keep or to compare."""
        return StoredPartition(
            position=self.position,
            totals=replace(self.totals),
            rows={context: dict(row) for context, row in self.table.rows.items()},
            open=self.decisions.open.values(),
            closed=self.decisions.closed.values(),
            decision_ids=self.decisions.all_ids,
            trades=[trade for counted in self.trades.values() for trade in counted.values()],
            parents={parent: dict(row) for parent, row in self.table.parents.items()},
            markets=dict(self.markets),
            followed=[] if self.following is None else list(self.following.followed.values()),
            series={} if self.following is None else dict(self.following.series),
        )

    def restore(self, stored: StoredPartition) -> None:
        """Put a stored state into this empty one."""
        self.position, self.totals = stored.position, replace(stored.totals)
        self.written = self.totals.sequence
        self.table.restore(stored.rows, stored.parents)
        self.decisions.restore(stored.open, stored.closed, stored.decision_ids)
        self.markets = dict(stored.markets)
        for trade in sorted(stored.trades, key=attrgetter("sequence")):
            self._trades_of(trade.account).add(trade.trade_id, trade)
            if trade.revision:
                self._revised.add((trade.account, trade.trade_id))
            self._compare(trade)
        if self.following is not None:
            self.following.restore(stored.followed, stored.series)
        self._written_accounts = {*self.decisions.ids, *self.trades}
        self.pack()
