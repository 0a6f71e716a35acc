"""Logged decisions with what became of them, and what another policy would have done instead.

The logs are folded as the worker does. Before each decision the other policy is asked: it sees the
table as it was then, learned from the trades of the policy that was at work.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from consumer.domain.context import ContextKey
from consumer.domain.draws import KeyedDraws
from consumer.domain.features import known
from consumer.domain.following import Entry
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import DEFAULT_ACCOUNT, Attribution, PartitionState
from consumer.domain.pooled import NOWHERE, Elsewhere
from consumer.domain.qtable import NO_REWARDS
from consumer.domain.regime import RegimeResult
from consumer.errors import BadMessageError, RefusedError
from consumer.learn import follow, learn
from consumer.settings import Settings
from lab.measures import Floats
from schemas import Candle, Mode, StrategyDecision, TradeClosed
from schemas.sums import total

# Rewards that a mean shares with the row above it: one deviates by 1 to 4 R, means differ by a tenth.
_SHRINKAGE = 50.0


@dataclass(slots=True)
class LoggedDecision:
    """One decision as it was made, and as the other policy would have made it."""

    ts_ms: int
    logged: float
    """Probability of the arm that was taken [1]."""
    target: float
    """The same under the other policy [1]."""
    unsupported: float
    """Probability that the other policy takes an arm that could not be taken [1]."""
    model: float
    """What the reward model expects of the other policy [R]."""
    model_logged: float
    """What it expects of the policy that was at work [R]."""
    model_taken: float
    """What it expects of the arm that was taken [R]."""
    worst: float
    """A full stop [R]."""
    best: float
    """All targets [R]."""
    rewards: dict[str, float] = field(default_factory=dict)
    """By trade id [R]; empty while none has closed."""
    is_excluded: bool = False
    """Whether all its trades were closed for reasons that are not learned from."""


@dataclass(frozen=True, slots=True)
class Log:
    """All decisions that can be judged."""

    decisions: list[LoggedDecision]
    excluded: int
    """Decisions whose trades are counted, not learned: they are not judged."""
    unreadable: int
    """Records that are no decision, or no trade of one."""

    def column(self, name: str) -> Floats:
        """Give one number of each decision."""
        return np.array([getattr(decision, name) for decision in self.decisions], dtype=np.float64)

    @property
    def rewards(self) -> Floats:
        """Mean R of each decision's trades; NaN while none has closed."""
        return np.array(
            [
                total(one.rewards.values()) / len(one.rewards) if one.rewards else math.nan
                for one in self.decisions
            ]
        )


class Folder:
    """Folds the logs of one partition and asks the other policy before each decision.

    Args:
        settings: Of the worker; the policy they name is the other one.
    """

    def __init__(self, settings: Settings) -> None:
        self._state = PartitionState(settings.fold)
        self._selector = settings.selector
        self.leans_on_pool = self._selector.enabled and self._selector.policy.leans_on_parents
        """Whether the other policy looks at what other partitions have learned."""
        self._seed = settings.meta_strategy_seed
        self._unit = settings.meta_strategy_reward_unit
        self._cost_bps = settings.meta_strategy_cost_bps
        self.decisions: dict[str, LoggedDecision] = {}
        self.unreadable = 0
        self._decision_of: dict[tuple[str, str], str] = {}

    def decide(
        self, decision: StrategyDecision | None, timestamp_ms: int, elsewhere: Elsewhere = NOWHERE
    ) -> None:
        """Ask the other policy for a decision, then fold it.

        Args:
            decision: The message; None where it cannot be read.
            timestamp_ms: Of its record.
            elsewhere: What other partitions had told by then.

        Raises:
            RefusedError: They had told something that is not known.
        """
        if decision is None or not decision.propensity > 0.0:
            self.unreadable += 1
            return
        if decision.decision_id in self.decisions:
            return  # the first record counts
        if self.leans_on_pool and decision.pool_offset and elsewhere.pool is None:
            raise RefusedError(
                f"decision {decision.decision_id} knew what other partitions had learned "
                f"(pool_offset {decision.pool_offset}): read the topics with KAFKA_POOL_TOPIC set"
            )
        context = ContextKey(decision.account, decision.symbol, decision.regime, decision.variant)
        own = self._state.table.parent_rows(context)
        tpsl = decision.tpsl
        try:
            choice = self._selector.choose(
                RegimeResult(decision.regime, decision.regime_confidence, ""),
                self._state.table.row(context),
                KeyedDraws(self._seed, decision.decision_id),
                side=decision.side,
                entry=tpsl.entry_reference,
                atr=tpsl.atr,
                spread_bps=self._spread_bps(decision),
                parents=elsewhere.parent_rows(context, own),
                trusts_paper=self._state.calibration(decision.account).is_trusted,
                features=known(decision.features),
            )
        except BadMessageError:
            self.unreadable += 1
            return
        taken = str(decision.strategy)
        target = choice.propensities
        unit = 1.0 if self._unit == "atr" else tpsl.atr_mult_sl
        targets = (
            tpsl.atr_mult_tp1 * tpsl.partial_close_tp1
            + tpsl.atr_mult_tp2 * tpsl.partial_close_tp2
            + tpsl.atr_mult_tp3 * tpsl.partial_close_tp3
        )
        self.decisions[decision.decision_id] = LoggedDecision(
            decision.ts,
            decision.propensity,
            target.get(taken, 0.0),
            total(p for arm, p in target.items() if not decision.propensities.get(arm, 0.0) > 0.0),
            total(p * self._expected(context, arm) for arm, p in target.items()),
            total(p * self._expected(context, arm) for arm, p in decision.propensities.items()),
            self._expected(context, taken),
            -tpsl.atr_mult_sl / unit,
            targets / unit,
        )
        self._state.admit(
            OpenDecision(
                decision.decision_id,
                decision.account,
                decision.symbol,
                decision.side,
                decision.regime,
                decision.variant,
                taken,
                tpsl.atr,
                tpsl.atr_mult_sl,
                timestamp_ms,
                known(decision.features),
            ),
            is_exploration=decision.is_exploration,
            entry=Entry(tpsl.entry_reference, decision.signal_ts, decision.timeframe),
        )

    def _spread_bps(self, decision: StrategyDecision) -> float | None:
        """Give the widest spread at which every candidate of a decision pays its costs [basis points].

        A decision does not tell its signal's. So an arm is left out whose first target is nearer than
        those of all candidates, as it was by the policy that was at work.

        Returns:
            None where costs are not looked at, or where nothing tells: the disabled worker has one
            candidate, whatever the costs.
        """
        profiles = self._selector.profiles
        first = [profiles[arm].r_tp1 for arm in decision.propensities if arm in profiles]
        if self._cost_bps is None or decision.mode is Mode.DEFAULT or not first:
            return None
        tpsl = decision.tpsl
        widest_bps = min(first) * tpsl.atr / tpsl.entry_reference * 10_000
        # a target pays that lies beyond the costs, not at them
        return max(0.0, widest_bps * (1.0 - 1e-9) - self._cost_bps)

    def _expected(self, context: ContextKey, arm: str) -> float:
        """Expect what was seen so far, drawn to the rows above where that was little [R]."""
        expected = 0.0
        for row in (*self._state.table.parent_rows(context), self._state.table.row(context)):
            stats = row.get(arm, NO_REWARDS)
            expected = (stats.total_r + _SHRINKAGE * expected) / (stats.count + _SHRINKAGE)
        return expected

    def follow(self, candle: Candle | BadMessageError, offset: int) -> None:
        """Fold a candle."""
        follow(self._state, candle, offset=offset)

    def learn(self, trade: TradeClosed | BadMessageError, offset: int, timestamp_ms: int) -> None:
        """Fold a closed trade, and note the reward of the decision that it is of."""
        result = learn(self._state, trade, offset=offset, timestamp_ms=timestamp_ms)
        if isinstance(result, BadMessageError) or isinstance(trade, BadMessageError):
            self.unreadable += 1
            return
        if result.outcome == "duplicate":
            return
        key = (trade.account or DEFAULT_ACCOUNT, trade.trade_id)
        if result.attribution is not None:  # of a revision the first record tells
            self._decision_of[key] = self._named(trade, result.attribution)
        decision = self.decisions.get(self._decision_of.get(key, ""))
        if decision is None:
            self.unreadable += 1
        elif result.outcome == "excluded":
            decision.is_excluded = not decision.rewards
        else:
            decision.is_excluded = False
            decision.rewards[trade.trade_id] = result.reward

    def _named(self, trade: TradeClosed, attribution: Attribution) -> str:
        """Give the id of the decision whose trade has just been folded; nothing of one that has none."""
        match attribution:
            case "decision":
                return trade.decision_id or ""
            case "symbol":  # it has closed the symbol's newest open one
                return self._state.decisions.closed.newest.decision_id
            case "echo":  # it may name a decision all the same, of another symbol, or one too old
                return ""
            case _:
                assert_never(attribution)


def log_of(folders: Iterable[Folder]) -> Log:
    """Give all that was folded, in the order of the decisions' times."""
    made = list(folders)
    decisions = [one for folder in made for one in folder.decisions.values()]
    decisions.sort(key=lambda one: one.ts_ms)
    kept = [one for one in decisions if not one.is_excluded]
    return Log(kept, len(decisions) - len(kept), sum(folder.unreadable for folder in made))
