"""What other partitions have learned, added to what this one has: as if all were one."""

from collections.abc import Mapping
from operator import add
from typing import NamedTuple, Self

from consumer.domain.context import ContextKey, ParentKey, parents_of
from consumer.domain.features import FeatureSums
from consumer.domain.qtable import NO_REWARDS, ArmStats, Row, recent_count

Parents = Mapping[ParentKey, Row]
"""The parents of one account in one partition."""


class Pool(NamedTuple):
    """What partitions have told of their parents, up to a number; never changed once made."""

    number: int = 0
    """Offset in the pool's log up to which it was read."""
    told: Mapping[str, Mapping[int, Parents]] = {}
    """By account and partition."""


class _Sums(NamedTuple):
    """Statistics of an arm, added up, and the weights behind what forgets in them."""

    stats: ArmStats
    weight: float
    """Rewards behind `recent_r` and `feature_sums` [1], older ones in part."""
    paper_weight: float
    """The same on paper [1]."""

    @classmethod
    def of(cls, stats: ArmStats, decay: float) -> Self:
        return cls(stats, recent_count(stats.count, decay), recent_count(stats.paper_count, decay))

    def plus(self, other: "_Sums") -> "_Sums":
        one, two = self.stats, other.stats
        count = one.count + two.count
        averages = one.count * one.ema_reward + two.count * two.ema_reward
        return _Sums(
            ArmStats(
                count,
                averages / count if count else 0.0,
                one.win_count + two.win_count,
                one.loss_count + two.loss_count,
                one.total_r + two.total_r,
                one.sum_squares + two.sum_squares,
                one.loss_squares + two.loss_squares,
                one.recent_r + two.recent_r,
                one.paper_count + two.paper_count,
                one.paper_r + two.paper_r,
                one.paper_squares + two.paper_squares,
                one.paper_loss_squares + two.paper_loss_squares,
                one.recent_paper_r + two.recent_paper_r,
                _added(one.feature_sums, two.feature_sums),
                _added(one.paper_feature_sums, two.paper_feature_sums),
            ),
            self.weight + other.weight,
            self.paper_weight + other.paper_weight,
        )

    def as_one(self, decay: float) -> ArmStats:
        """Give what one partition would hold that had all these rewards.

        There each reward makes all earlier ones older, whichever symbol it is of: the same mean then weighs
        less than the partitions' weights together.
        """
        stats = self.stats
        share = _share(stats.count, self.weight, decay)
        paper_share = _share(stats.paper_count, self.paper_weight, decay)
        return ArmStats(
            stats.count,
            stats.ema_reward,
            stats.win_count,
            stats.loss_count,
            stats.total_r,
            stats.sum_squares,
            stats.loss_squares,
            share * stats.recent_r,
            stats.paper_count,
            stats.paper_r,
            stats.paper_squares,
            stats.paper_loss_squares,
            paper_share * stats.recent_paper_r,
            tuple([share * value for value in stats.feature_sums]),
            tuple([paper_share * value for value in stats.paper_feature_sums]),
        )


def _added(one: FeatureSums, two: FeatureSums) -> FeatureSums:
    return tuple(map(add, one, two)) if one and two else one or two


def _share(count: int, weight: float, decay: float) -> float:
    return recent_count(count, decay) / weight if weight else 1.0


class Elsewhere:
    """What one partition may learn of all others.

    Args:
        pool: What was told; None: nothing is pooled.
        partition: Which one; its own rows are newer than what it told of them.
        decay: As the rows were folded [1].
    """

    __slots__ = ("_decay", "_kept", "_partition", "_sums", "pool")

    def __init__(self, pool: Pool | None = None, partition: int = 0, decay: float = 1.0) -> None:
        self.pool = pool
        self._partition = partition
        self._decay = decay
        self._sums: dict[ParentKey, dict[str, _Sums]] = {}
        """By parent: what the others hold together."""
        self._kept: dict[ParentKey, tuple[Row, Row]] = {}
        """By parent: the partition's own row, and what it is with the others'."""

    @property
    def number(self) -> int | None:
        """The pool's number, which a decision names; None where nothing is pooled."""
        return None if self.pool is None else self.pool.number

    def parent_rows(self, context: ContextKey, own: tuple[Row, Row]) -> tuple[Row, Row]:
        """Give a context's parents over all partitions, the widest first.

        Args:
            context: Which one.
            own: Its parents in this partition, the widest first.
        """
        if self.pool is None or context.account not in self.pool.told:
            return own
        widest, regime = parents_of(context)
        return self._row(widest, own[0]), self._row(regime, own[1])

    def _row(self, parent: ParentKey, own: Row) -> Row:
        kept = self._kept.get(parent)
        # the same row as before gives the same object: what a policy worked out from it holds
        if kept is not None and kept[0] is own:
            return kept[1]
        others = self._sums.get(parent)
        if others is None:
            others = self._sums[parent] = self._others(parent)
        row = own
        if others:
            row = {
                **own,
                **{
                    name: sums.plus(_Sums.of(own.get(name, NO_REWARDS), self._decay)).as_one(
                        self._decay
                    )
                    for name, sums in others.items()
                },
            }
        self._kept[parent] = own, row
        return row

    def _others(self, parent: ParentKey) -> dict[str, _Sums]:
        found: dict[str, _Sums] = {}
        told = {} if self.pool is None else self.pool.told[parent.account]
        for partition in sorted(told):  # sums of floats depend on their order
            if partition != self._partition:
                for name, stats in told[partition].get(parent, {}).items():
                    sums = _Sums.of(stats, self._decay)
                    found[name] = found[name].plus(sums) if name in found else sums
        return found


NOWHERE = Elsewhere()
"""Nothing is pooled."""
