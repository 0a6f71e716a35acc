"""The Q-table of one partition: the rows of its contexts, and of their parents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from consumer.domain.context import ContextKey, ParentKey, parents_of
from consumer.domain.features import (
    NO_FEATURES,
    Features,
    fold_centre,
    fold_features,
    revise_features,
)
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import FoldedTrade
from consumer.domain.qtable import (
    NO_REWARDS,
    NO_ROW,
    ArmStats,
    Row,
    fold_reward,
    revise_reward,
    with_paper,
)

Rows = tuple[Row, Row, Row]
"""Of a context, then of both its parents, the widest first."""

Arms = tuple[ArmStats, ArmStats, ArmStats]
"""The same of one strategy."""


def _arms_in(rows: Rows, strategy: str) -> Arms:
    return (
        rows[0].get(strategy, NO_REWARDS),
        rows[1].get(strategy, NO_REWARDS),
        rows[2].get(strategy, NO_REWARDS),
    )


@dataclass(slots=True)
class ArmChanges:
    """What was touched since they were last taken; looked up when they are used."""

    arms: set[tuple[ContextKey, str]] = field(default_factory=set)
    parents: set[tuple[ParentKey, str]] = field(default_factory=set)


class ArmTable:
    """Statistics of all strategies in all contexts; a reward counts in a context and in its parents.

    Args:
        settings: Of the fold.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._alpha, self._decay = settings.alpha, settings.decay
        self.rows: dict[ContextKey, Row] = {}
        self.parents: dict[ParentKey, Row] = {}
        self.changes = ArmChanges()
        self.learned: set[str] = set()
        """Accounts that have learned something since whoever looks at it emptied it."""

    def row(self, context: ContextKey) -> Row:
        """Give what is known of each arm in a context; empty when nothing is."""
        return self.rows.get(context, NO_ROW)

    def parent_rows(self, context: ContextKey) -> tuple[Row, Row]:
        """Give what is known of each arm in a context's parents, the widest first."""
        widest, regime = parents_of(context)
        return self.parents.get(widest, NO_ROW), self.parents.get(regime, NO_ROW)

    def arms(self, context: ContextKey, strategy: str) -> Arms:
        """Give an arm, and the same in both parents."""
        return _arms_in(self._rows(context), strategy)

    def _rows(self, context: ContextKey) -> Rows:
        widest, regime = self.parent_rows(context)
        return self.row(context), widest, regime

    def learn(
        self, context: ContextKey, strategy: str, reward: float, features: Features = NO_FEATURES
    ) -> Arms:
        """Count a reward [in the table's unit] of a signal with such features; give the arms after it."""
        rows = self._rows(context)
        arm, widest, regime = _arms_in(rows, strategy)
        alpha, decay = self._alpha, self._decay
        arms = (
            fold_reward(arm, reward, alpha, decay),
            fold_reward(widest, reward, alpha, decay),
            fold_reward(regime, reward, alpha, decay),
        )
        if features or widest.feature_sums:
            sums = (
                fold_centre(arm.feature_sums, features, decay),
                fold_features(widest.feature_sums, features, reward, decay),
                fold_centre(regime.feature_sums, features, decay),
            )
            arms = (
                arms[0].with_sums(sums[0], arm.paper_feature_sums),
                arms[1].with_sums(sums[1], widest.paper_feature_sums),
                arms[2].with_sums(sums[2], regime.paper_feature_sums),
            )
        self._put(context, strategy, rows, arms)
        return arms

    def revise(self, trade: FoldedTrade, reward: float) -> Arms:
        """Correct the reward of a trade that was learned; give the arms after it."""
        revised = partial(
            revise_reward, old=trade.reward, new=reward, alpha=self._alpha, decay=self._decay
        )
        context, strategy = trade.context, trade.strategy
        rows = self._rows(context)
        arm, widest, regime = _arms_in(rows, strategy)
        of_all, of_regime = trade.ordinal_of_all, trade.ordinal_of_regime
        sums = revise_features(
            widest.feature_sums,
            trade.features,
            reward - trade.reward,
            self._decay ** (widest.count - of_all),
        )
        arms = (
            revised(arm, ordinal=trade.ordinal),
            revised(widest, ordinal=of_all).with_sums(sums, widest.paper_feature_sums),
            revised(regime, ordinal=of_regime),
        )
        self._put(context, strategy, rows, arms)
        return arms

    def learn_on_paper(
        self, context: ContextKey, rewards: Mapping[str, float], features: Features = NO_FEATURES
    ) -> None:
        """Count what strategies, by id, would have earned [in the table's unit] on a signal with such features."""
        decay = self._decay
        widest, regime = parents_of(context)
        old = self.parents.get(widest, NO_ROW)
        tells = features or any(
            stats.paper_feature_sums for name in rewards if (stats := old.get(name))
        )

        def folded(row: Row, *, is_widest: bool) -> Row:
            new = with_paper(row, rewards, decay)
            if not tells:
                return new
            return {
                **new,
                **{
                    name: new[name].with_sums(
                        new[name].feature_sums,
                        fold_features(new[name].paper_feature_sums, features, reward, decay)
                        if is_widest
                        else fold_centre(new[name].paper_feature_sums, features, decay),
                    )
                    for name, reward in rewards.items()
                },
            }

        self.rows[context] = folded(self.row(context), is_widest=False)
        self.learned.add(context.account)
        self.changes.arms.update((context, name) for name in rewards)
        for parent in (widest, regime):
            self.parents[parent] = folded(
                self.parents.get(parent, NO_ROW), is_widest=parent == widest
            )
            self.changes.parents.update((parent, name) for name in rewards)

    def _put(self, context: ContextKey, strategy: str, rows: Rows, arms: Arms) -> None:
        widest, regime = parents_of(context)
        parents, changed = self.parents, self.changes
        # a new row each time: what a policy worked out from a row holds as long as the row does
        self.rows[context] = {**rows[0], strategy: arms[0]}
        parents[widest] = {**rows[1], strategy: arms[1]}
        parents[regime] = {**rows[2], strategy: arms[2]}
        changed.arms.add((context, strategy))
        changed.parents.update(((widest, strategy), (regime, strategy)))
        self.learned.add(context.account)

    # The view

    def take_changes(self) -> ArmChanges:
        """Give what was touched since the last call, and start anew."""
        taken, self.changes = self.changes, ArmChanges()
        return taken

    def touch_all(self) -> None:
        """Count everything as changed."""
        self.changes = ArmChanges(
            {(context, strategy) for context, row in self.rows.items() for strategy in row},
            {(parent, strategy) for parent, row in self.parents.items() for strategy in row},
        )

    def restore(
        self,
        rows: Mapping[ContextKey, Row],
        parents: Mapping[ParentKey, Row],
    ) -> None:
        """Put stored rows into this empty object."""
        self.rows = dict(rows)
        self.parents = dict(parents)
        self.changes = ArmChanges()

    def clear(self) -> None:
        """Forget everything."""
        self.rows.clear()
        self.parents.clear()
        self.learned.clear()
        self.changes = ArmChanges()
