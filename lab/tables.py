"""What a backtest shows of contexts, strategies and costs, as rows for people."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from consumer.domain.context import ContextKey
from consumer.domain.qtable import NO_REWARDS
from lab.backtest import Run, Signals
from lab.measures import Interval, mean_interval
from lab.outcomes import Outcomes
from schemas import MarketRegime

ENOUGH = 20
"""Trades from which a mean is shown: with fewer its interval is no better than a guess."""

_ACCOUNT = "paper"


class Cell(NamedTuple):
    """A mean and what it rests on."""

    trades: int
    """That it rests on."""
    interval: Interval | None
    """Mean R, as if trades were independent; None below 20 of them."""
    q_value: float | None = None
    """What the worker's table says, in its unit [R]."""


class ContextRow(NamedTuple):
    """One context of the Q-table."""

    symbol: str
    regime: MarketRegime
    signals: int
    open: int
    cells: Sequence[Cell]
    """By strategy, in the order of the columns."""


class RankRow(NamedTuple):
    """One strategy on all signals so far."""

    strategy: str
    closed: int
    open: int
    closed_r: float | None
    """Mean of the closed trades alone [R]."""
    marked_r: float
    """Mean of all trades, open ones as marked then [R]."""


class CostRow(NamedTuple):
    """What costs take of a strategy's first target."""

    strategy: str
    tp1: float
    """Distance of the first target [ATR]."""
    median: float
    """Share of the way that costs eat [1]."""
    worst: float
    """The same for the dearest tenth of the signals, at least."""


def q_by_context(run: Run, outcomes: Outcomes, signals: Signals) -> list[ContextRow]:
    """Give what a run's trades tell of each context; the most frequent first."""
    rows: dict[tuple[str, MarketRegime], list[int]] = defaultdict(list)
    for number, entry in enumerate(outcomes.entries):
        rows[entry.series.symbol, signals.regimes[number]].append(number)
    table = []
    for (symbol, regime), numbers in rows.items():
        chosen = np.array(numbers)
        arms = run.arms[chosen]
        is_open = outcomes.is_open[chosen, arms]
        known = run.state.table.row(ContextKey(_ACCOUNT, symbol, regime)) if run.state else {}
        cells = []
        for column, arm in enumerate(outcomes.arms):
            values = outcomes.net_r[chosen, arms][(arms == column) & ~is_open]
            stats = known.get(arm, NO_REWARDS)
            cells.append(
                Cell(
                    values.size,
                    mean_interval(values) if values.size >= ENOUGH else None,
                    stats.ema_reward if stats.count else None,
                )
            )
        table.append(ContextRow(symbol, regime, len(numbers), int(is_open.sum()), cells))
    return sorted(table, key=lambda row: row.signals, reverse=True)


def all_strategies(outcomes: Outcomes, signals: Signals) -> list[ContextRow]:
    """Give what every strategy would have earned in each regime, on all of its signals."""
    regimes = np.array(signals.regimes)
    table = []
    for regime in dict.fromkeys(signals.regimes):
        chosen = regimes == regime
        values = outcomes.net_r[chosen]
        cells = [
            Cell(len(values), mean_interval(values[:, column]) if len(values) >= ENOUGH else None)
            for column in range(len(outcomes.arms))
        ]
        is_open = int(outcomes.is_open[chosen].any(axis=1).sum())
        table.append(ContextRow("", regime, len(values), is_open, cells))
    return sorted(table, key=lambda row: row.signals, reverse=True)


def ranking(outcomes: Outcomes, at_ms: int) -> list[RankRow]:
    """Rank the strategies by what is known at a moment; the best first.

    Those with a near stop and far targets lose first and win later: of their first trades to close
    nearly all are losses. So an open trade counts as it is marked, neither as zero nor left out.

    Args:
        outcomes: What every strategy earns.
        at_ms: Only bars that have closed by then are looked at [Unix ms].
    """
    bar_ms = np.array([entry.series.step_ms for entry in outcomes.entries])
    begun = np.flatnonzero(outcomes.opened_ms + bar_ms <= at_ms)
    rows = []
    for column, arm in enumerate(outcomes.arms):
        ended = outcomes.closed_ms[begun, column] <= at_ms
        closed = begun[ended & ~outcomes.is_open[begun, column]]
        running = np.setdiff1d(begun, closed)
        closed_r = outcomes.net_r[closed, column]
        marks = [outcomes.mark(int(number), column, at_ms) for number in running]
        total = float(closed_r.sum()) + sum(marks)
        rows.append(
            RankRow(
                arm,
                closed.size,
                running.size,
                float(closed_r.mean()) if closed.size else None,
                total / begun.size if begun.size else 0.0,
            )
        )
    return sorted(rows, key=lambda row: row.marked_r, reverse=True)


def costs(outcomes: Outcomes) -> list[CostRow]:
    """Compare the costs of the signals with each strategy's first target."""
    return [
        CostRow(
            arm,
            ladder.targets[0],
            float(np.median(outcomes.cost_r)) / ladder.targets[0],
            float(np.percentile(outcomes.cost_r, 90)) / ladder.targets[0],
        )
        for arm, ladder in zip(outcomes.arms, outcomes.ladders, strict=True)
    ]
