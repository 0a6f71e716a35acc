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

Arms = tuple[ArmStats, ArmStats, ArmStats]
"""An arm, then the same in both parents of its context, the widest first."""


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
        widest, regime = self.parent_rows(context)
        return (
            self.row(context).get(strategy, NO_REWARDS),
            widest.get(strategy, NO_REWARDS),
            regime.get(strategy, NO_REWARDS),
        )

    def learn(
        self, context: ContextKey, strategy: str, reward: float, features: Features = NO_FEATURES
    ) -> Arms:
        """Count a reward [in the table's unit] of a signal with such features; give the arms after it."""
        arm, widest, regime = self.arms(context, strategy)
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
                arms[0]._replace(feature_sums=sums[0]),
                arms[1]._replace(feature_sums=sums[1]),
                arms[2]._replace(feature_sums=sums[2]),
            )
        self._put(context, strategy, arms)
        return arms

    def revise(self, trade: FoldedTrade, reward: float) -> Arms:
        """Correct the reward of a trade that was learned; give the arms after it."""
        revised = partial(
            revise_reward, old=trade.reward, new=reward, alpha=self._alpha, decay=self._decay
        )
        arm, widest, regime = self.arms(trade.context, trade.strategy)
        of_all, of_regime = trade.ordinal_of_all, trade.ordinal_of_regime
        sums = revise_features(
            widest.feature_sums,
            trade.features,
            reward - trade.reward,
            self._decay ** (widest.count - of_all),
        )
        arms = (
            revised(arm, ordinal=trade.ordinal),
            revised(widest, ordinal=of_all)._replace(feature_sums=sums),
            revised(regime, ordinal=of_regime),
        )
        self._put(trade.context, trade.strategy, arms)
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
                    name: new[name]._replace(
                        paper_feature_sums=fold_features(
                            new[name].paper_feature_sums, features, reward, decay
                        )
                        if is_widest
                        else fold_centre(new[name].paper_feature_sums, features, decay)
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

    def _put(self, context: ContextKey, strategy: str, arms: Arms) -> None:
        arm, of_all, of_regime = arms
        widest, regime = parents_of(context)
        parents, changed = self.parents, self.changes
        # a new row each time: what a policy worked out from a row holds as long as the row does
        self.rows[context] = {**self.rows.get(context, NO_ROW), strategy: arm}
        parents[widest] = {**parents.get(widest, NO_ROW), strategy: of_all}
        parents[regime] = {**parents.get(regime, NO_ROW), strategy: of_regime}
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
