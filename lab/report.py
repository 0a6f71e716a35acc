"""The report of a backtest: one HTML file that needs no network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consumer.words import plural
from lab import charts
from lab.backtest import Run, Signals
from lab.bars import DataDescription
from lab.measures import LEAST_WEEKS, Interval
from lab.outcomes import Outcomes
from lab.results import Comparison, Result, equity_of
from lab.spells import Dwell
from lab.tables import ENOUGH, all_strategies, costs, q_by_context, ranking


@dataclass(frozen=True, slots=True)
class Study:
    """All that a report is made from."""

    outcomes: Outcomes
    signals: Signals
    comparison: Comparison
    data: Sequence[DataDescription]
    dwell: Sequence[Dwell]
    settings: Mapping[str, str]
    """What makes the same figures again, by name."""


def verdict(study: Study, result: Result) -> str:
    """Say in one sentence whether a policy did better than the default strategy."""
    baseline = study.comparison.baseline
    name = result.run.name
    earned = f"{name} earned {result.mean_r:+.2f} R a trade"
    if result.gain is None:
        return (
            f"{earned}. Too few weeks to compare with {baseline}: {study.comparison.weeks}, taken "
            f"{_weeks(result.gain_weeks)} at a time."
        )
    gain, low, high = result.gain
    against = f"{abs(gain):.2f} R {'more' if gain > 0 else 'less'} than {baseline}"
    width = (
        f"95 % interval of the difference {low:+.2f} .. {high:+.2f} R, {_weeks(result.gain_weeks)} "
        "at a time"
    )
    if low > 0.0:
        found = "better on these bars, whatever the next ones bring."
    elif high < 0.0:
        found = "worse on these bars."
    else:
        found = "no difference that these bars can show."
    return f"{earned}, {against} ({width}): {found}"


def render(study: Study) -> str:
    """Write the page."""
    outcomes, comparison = study.outcomes, study.comparison
    policies = [result.run for result in comparison.results if result.run.state is not None]
    first_ms, last_ms = int(comparison.times_ms[0]), int(comparison.times_ms[-1])
    curves = {
        arm: equity_of(outcomes, column, comparison.times_ms)
        for column, arm in enumerate(outcomes.arms)
    }
    choices = {run.name: charts.choices(run, outcomes, study.signals) for run in policies}
    figures: dict[str, Any] = charts.equity(comparison) | {
        "strategies": charts.strategies(comparison.times_ms, curves),
        "exits": charts.exits(comparison),
    }
    for number, drawn in enumerate(choices.values()):
        figures |= {f"choices {number} {regime}": plot for regime, plot in drawn.items()}
    script, places = charts.render(figures)
    early_ms = first_ms + (last_ms - first_ms) // 10
    names = [result.run.name for result in comparison.results]
    page = _environment().get_template("report.html")
    return page.render(
        library=Markup(charts.library()),  # noqa: S704 - the library's own page parts
        script=Markup(script),  # noqa: S704
        places={name: Markup(place) for name, place in places.items()},  # noqa: S704
        study=study,
        results=comparison.results,
        verdicts=[verdict(study, r) for r in comparison.results if r.run.state is not None],
        arms=outcomes.arms,
        colours=charts.colours(outcomes.arms),
        run_colours=charts.colours(names),
        exit_colours=charts.exit_colours(),
        choices=choices,
        contexts={run.name: _contexts(run, study) for run in policies},
        overview=all_strategies(outcomes, study.signals),
        early=ranking(outcomes, early_ms),
        early_ms=early_ms,
        costs=costs(outcomes),
        mix=_mix(study.signals),
        median_cost=float(np.median(outcomes.cost_r)),
        first_ms=first_ms,
        last_ms=last_ms,
        enough=ENOUGH,
        least_weeks=LEAST_WEEKS,
    )


def _contexts(run: Run, study: Study) -> Sequence[Any]:
    return q_by_context(run, study.outcomes, study.signals)


def _mix(signals: Signals) -> dict[str, float]:
    regimes = [str(regime) for regime in signals.regimes]
    return {regime: regimes.count(regime) / len(regimes) for regime in set(regimes)}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lab", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "r": lambda value: "-" if value is None else f"{value:+.2f}",
        "r0": lambda value: f"{value:+,.0f}",
        "pct": lambda value: f"{value:.1%}",
        "interval": _interval,
        "day": lambda ms: _moment(ms).strftime("%Y-%m-%d"),
        "minute": lambda ms: _moment(ms).strftime("%Y-%m-%d %H:%M"),
        "words": lambda text: str(text).replace("_", " "),
        "span": _span,
        "weeks": _weeks,
    }
    environment.filters |= filters
    return environment


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:+.2f} .. {interval.high:+.2f}"


def _weeks(count: int) -> str:
    return f"{count} {plural(count, 'week')}"


def _span(length_ms: int) -> str:
    for size_ms, unit in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if length_ms >= 2 * size_ms:
            return f"{length_ms / size_ms:.3g} {unit}"
    return f"{length_ms / 1000:.3g} seconds"
