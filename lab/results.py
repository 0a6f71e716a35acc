"""What the policies of a backtest earned, side by side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from consumer.domain.ladder import Outcome
from lab.backtest import Run
from lab.measures import (
    Floats,
    Interval,
    Ints,
    block_weeks,
    cvar,
    downside_deviation,
    drawdown,
    sharpe,
    sharpe_annual,
    weekly_interval,
    weeks_of,
)
from lab.outcomes import Outcomes
from lab.progress import Track
from schemas import CloseReason

# Points of an equity curve: finer than a screen shows, and few enough to mark all open trades at.
_POINTS = 500

EXIT_KINDS = (
    "stop, no target before",
    "stop after TP1",
    "stop after TP2",
    "all targets",
    "time limit",
    "still open",
)


@dataclass(frozen=True, slots=True)
class Result:
    """One policy, or one baseline."""

    run: Run
    net_r: Floats
    """Of each trade [R]; of an open one as marked."""
    equity: Floats
    """Profit so far [R] at each point of the study: closed trades, and open ones as marked then."""
    mean_r: float
    mean_interval: Interval | None
    mean_weeks: int
    """Weeks that its interval takes together: what nine of ten of its trades live through."""
    gain: Interval | None
    """Mean R less that of the default strategy on the same signals."""
    gain_weeks: int
    """Weeks that its interval takes together: the longer of both."""
    total_r: float
    open_r: float
    """The part of `total_r` that is only marked [R]."""
    open: int
    """Trades that the bars do not show the end of."""
    sharpe: float | None
    """Of a trade [1]."""
    sharpe_annual: float | None
    drawdown: float
    """Largest loss of the equity from a high [R]."""
    cvar: float
    """Mean of the worst 5 % of trades [R]."""
    downside: float
    """Downside deviation [R]."""
    win_rate: float
    """Share of trades with a profit [1]."""
    cost_of_tp1: float
    """Mean share of the way to the first target that costs eat [1]."""
    exits: tuple[int, ...]
    """Trades by `EXIT_KINDS`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All policies of a study over the same signals."""

    times_ms: Ints
    """Points of the equity curves [Unix ms]."""
    step_ms: int
    weeks: int
    """Weeks that the study spans."""
    baseline: str
    """Name of the run that the others are compared with."""
    results: Sequence[Result]
    """Policies first, then baselines; the default strategy is among the latter."""


def compare(
    outcomes: Outcomes, runs: Sequence[Run], baseline: Run, seed: int, *, track: Track
) -> Comparison:
    """Measure all runs on the signals that every one of them answered.

    Args:
        outcomes: What every strategy earns.
        runs: In the order they are shown in, `baseline` among them.
        baseline: What the others are compared with.
        seed: Of the resampling.
        track: Shows how many runs are done.
    """
    times_ms, step_ms = _points(outcomes)
    weeks = weeks_of(outcomes.opened_ms)
    rows = np.arange(len(outcomes))
    base_r = outcomes.net_r[rows, baseline.arms]

    def length_of(run: Run) -> int:
        return block_weeks(outcomes.closed_ms[rows, run.arms] - outcomes.opened_ms)

    results, baseline_length = [], length_of(baseline)
    for run in track(runs, "equity", len(runs)):
        net_r, is_open = outcomes.net_r[rows, run.arms], outcomes.is_open[rows, run.arms]
        equity = _equity(outcomes, run.arms, times_ms)
        wins = float((net_r > 0.0).mean())
        length = length_of(run)
        longer = max(length, baseline_length)
        tp1 = np.array([ladder.targets[0] for ladder in outcomes.ladders])[run.arms]
        results.append(
            Result(
                run=run,
                net_r=net_r,
                equity=equity,
                mean_r=float(net_r.mean()),
                mean_interval=weekly_interval(net_r, weeks, seed, length),
                mean_weeks=length,
                gain=(
                    None
                    if run is baseline
                    else weekly_interval(net_r - base_r, weeks, seed, longer)
                ),
                gain_weeks=longer,
                total_r=float(net_r.sum()),
                open_r=float(net_r[is_open].sum()),
                open=int(is_open.sum()),
                sharpe=sharpe(net_r),
                sharpe_annual=sharpe_annual(net_r, weeks),
                drawdown=drawdown(equity),
                cvar=cvar(net_r),
                downside=downside_deviation(net_r),
                win_rate=wins,
                cost_of_tp1=float((outcomes.cost_r / tp1).mean()),
                exits=_exits(outcomes, run.arms),
            )
        )
    return Comparison(times_ms, step_ms, int(weeks.max()) + 1, baseline.name, results)


def equity_of(outcomes: Outcomes, arm: int, times_ms: Ints) -> Floats:
    """Give the profit so far of one strategy on all signals [R], open trades as marked."""
    return _equity(outcomes, np.full(len(outcomes), arm, dtype=np.int64), times_ms)


def _points(outcomes: Outcomes) -> tuple[Ints, int]:
    bar_ms = min(entry.series.step_ms for entry in outcomes.entries)
    first, last = int(outcomes.opened_ms.min()), int(outcomes.closed_ms.max())
    step_ms = bar_ms * max(1, ceil((last - first) / bar_ms / _POINTS))
    return np.append(np.arange(first, last, step_ms), last), step_ms


def _equity(outcomes: Outcomes, arms: Ints, times_ms: Ints) -> Floats:
    rows = np.arange(len(outcomes))
    net_r, closed_ms = outcomes.net_r[rows, arms], outcomes.closed_ms[rows, arms]
    order = np.argsort(closed_ms, kind="stable")
    closed = np.append(0.0, np.cumsum(net_r[order]))
    equity = closed[np.searchsorted(closed_ms[order], times_ms, side="right")]
    bar_ms = np.array([entry.series.step_ms for entry in outcomes.entries])
    # a trade is marked at each point after its first bar has closed, and before it is over itself
    begins = np.searchsorted(times_ms, outcomes.opened_ms + bar_ms, side="left")
    ends = np.searchsorted(times_ms, closed_ms, side="left")
    for number in np.flatnonzero(begins < ends):
        for point in range(begins[number], ends[number]):
            equity[point] += outcomes.mark(int(number), int(arms[number]), int(times_ms[point]))
    return equity


def _exits(outcomes: Outcomes, arms: Ints) -> tuple[int, ...]:
    kinds = Counter(
        "still open"
        if outcomes.is_open[number, arm]
        else _exit_kind(outcomes.walked[number][int(arm)])
        for number, arm in enumerate(arms)
    )
    return tuple(kinds[kind] for kind in EXIT_KINDS)


def _exit_kind(outcome: Outcome) -> str:
    if outcome.close_reason is CloseReason.TAKE_PROFIT:
        return "all targets"
    if outcome.close_reason is CloseReason.TIMEOUT:
        return "time limit"
    # with a fraction of 0 a target has no fill; the stop is the last one
    return EXIT_KINDS[min(len(outcome.fills) - 1, 2)]
