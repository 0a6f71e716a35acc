"""What was learned, for people."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from consumer.domain.context import ContextKey
from consumer.domain.qtable import ArmStats
from consumer.domain.stored import Totals

BEST_STRATEGIES = 20
"""Longest list of best strategies: what a person reads."""
_ENOUGH_REWARDS = 5
"""Rewards from which an arm is ranked by what it earned: one lucky trade is no best strategy."""


class BestStrategy(TypedDict):
    """One entry of the Q-table."""

    account: str
    symbol: str
    regime: str
    variant: str | None
    strategy: str
    ema_reward: float
    avg_reward: float
    count: int
    win_rate: float
    total_r: float
    paper_count: int
    avg_paper_reward: float


class Summary(TypedDict):
    """The whole table in short (contract, section 6)."""

    total_entries: int
    total_decisions: int
    total_updates: int
    exploration_rate: float
    best_strategies: list[BestStrategy]


def entry(context: ContextKey, strategy: str, stats: ArmStats) -> BestStrategy:
    """Describe one entry of the table."""
    return {
        "account": context.account,
        "symbol": context.symbol,
        "regime": str(context.regime),
        "variant": context.variant,
        "strategy": str(strategy),
        "ema_reward": stats.ema_reward,
        "avg_reward": stats.avg_reward,
        "count": stats.count,
        "win_rate": stats.win_rate,
        "total_r": stats.total_r,
        "paper_count": stats.paper_count,
        "avg_paper_reward": stats.avg_paper_reward,
    }


def _rank(stats: ArmStats) -> tuple[bool, float]:
    return stats.count >= _ENOUGH_REWARDS, stats.avg_reward


def summarize(
    rows: Mapping[ContextKey, Mapping[str, ArmStats]], totals: Iterable[Totals]
) -> Summary:
    """Put a table in short.

    Args:
        rows: All contexts.
        totals: Counters of all partitions.

    Returns:
        Counts, and the best entry of each context, best first: by mean reward, which needs fewer
        rewards to be right than the moving average; arms with fewer than five come last.
    """
    decisions = explorations = updates = 0
    for part in totals:
        decisions += part.decisions
        explorations += part.explorations
        updates += part.rewards
    best = [
        (context, *max(row.items(), key=lambda item: _rank(item[1])))
        for context, row in rows.items()
        if row
    ]
    best.sort(key=lambda item: _rank(item[2]), reverse=True)
    return {
        "total_entries": sum(map(len, rows.values())),
        "total_decisions": decisions,
        "total_updates": updates,
        "exploration_rate": explorations / decisions if decisions else 0.0,
        "best_strategies": [entry(*item) for item in best[:BEST_STRATEGIES]],
    }
