"""Pictures of a backtest, drawn by Bokeh; readable on light and on dark ground."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    FactorRange,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from lab.backtest import Run, Signals
from lab.measures import Floats, Ints, drawdowns
from lab.outcomes import Outcomes
from lab.results import EXIT_KINDS, Comparison
from schemas import MarketRegime

# Colours that differ in lightness, too, and stand out on white and on black alike.
_COLOURS = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ef4444",
    "#a855f7",
    "#06b6d4",
    "#84cc16",
    "#ec4899",
    "#8b5a2b",
    "#64748b",
)
_EXIT_COLOURS = ("#b91c1c", "#ef4444", "#f59e0b", "#10b981", "#64748b", "#3b82f6")
_INK = "#757c86"  # contrast of 4 to 1 on white and on black: the page may be either
_GRID = "rgba(128, 128, 128, 0.18)"
_FONT = "system-ui, sans-serif"

# Signals that a point of choices sums up, at least: fewer are all chance. Points, at most.
_LEAST_POINT, _POINTS = 15, 40


def colours(names: Sequence[str]) -> dict[str, str]:
    """Give each name its colour; from the eleventh on they repeat."""
    return {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}


def exit_colours() -> dict[str, str]:
    """Give each kind of exit its colour."""
    return dict(zip(EXIT_KINDS, _EXIT_COLOURS, strict=True))


def library() -> str:
    """Give what the pictures need, to be put into the page itself: no network is asked."""
    return str(Resources(mode="inline", components=["bokeh"]).render_js())


def render(figures: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Give one script for all figures, and the place of each by its name."""
    script, places = components(dict(figures), wrap_script=True)
    return str(script), {str(name): str(place) for name, place in places.items()}


def equity(study: Comparison) -> dict[str, Any]:
    """Draw profit in R and, below it on the same times, how far it lies below its highest."""
    names = [result.run.name for result in study.results]
    columns = {f"equity{n}": result.equity for n, result in enumerate(study.results)}
    columns |= {f"down{n}": drawdowns(result.equity) for n, result in enumerate(study.results)}
    source = ColumnDataSource({"time": study.times_ms.astype("datetime64[ms]")} | columns)
    top = _over_time("profit [R]", 340)
    bottom = _over_time("below the high [R]", 190, x_range=top.x_range)
    for kind, plot in (("equity", top), ("down", bottom)):
        lines = [
            plot.line(
                "time",
                f"{kind}{n}",
                source=source,
                color=colour,
                line_width=2.2 if study.results[n].run.state else 1.4,
                line_dash="solid" if study.results[n].run.is_reachable else "dotted",
            )
            for n, colour in enumerate(colours(names).values())
        ]
        tips = [("", "@time{%F %H:%M}")]
        tips += [(name, f"@{kind}{n}{{+0.0}}") for n, name in enumerate(names)]
        _hover(plot, tips, lines[:1])
    return {"equity": top, "drawdown": bottom}


def strategies(times_ms: Ints, curves: Mapping[str, Floats]) -> Any:
    """Draw what each strategy would have earned on all signals."""
    source = ColumnDataSource({"time": times_ms.astype("datetime64[ms]")} | dict(curves))
    plot = _over_time("profit [R]", 300)
    lines = [
        plot.line("time", name, source=source, color=colour, line_width=1.6)
        for name, colour in colours(list(curves)).items()
    ]
    tips = [("", "@time{%F %H:%M}")] + [(name, f"@{{{name}}}{{+0.0}}") for name in curves]
    _hover(plot, tips, lines[:1])
    return plot


def choices(run: Run, outcomes: Outcomes, signals: Signals) -> dict[MarketRegime, Any]:
    """Draw which strategies a policy chose over time, for each regime with enough signals.

    Each point sums up as many signals, since they do not come evenly.
    """
    regimes = np.array(signals.regimes)
    span = Range1d(start=outcomes.opened_ms.min(), end=outcomes.opened_ms.max())
    drawn = {}
    for regime in sorted(set(signals.regimes), key=lambda one: -int((regimes == one).sum())):
        numbers = np.flatnonzero(regimes == regime)
        if numbers.size < 2 * _LEAST_POINT:
            continue
        points = np.array_split(numbers, min(_POINTS, numbers.size // _LEAST_POINT))
        shares = np.array(
            [np.bincount(run.arms[p], minlength=len(outcomes.arms)) / p.size for p in points]
        )
        middles = np.array([np.median(outcomes.opened_ms[point]) for point in points])
        columns = {arm: shares[:, n] for n, arm in enumerate(outcomes.arms)}
        source = ColumnDataSource({"time": middles} | columns)
        plot = _over_time("share", 170, x_range=span, y_range=Range1d(start=0, end=1))
        plot.yaxis.formatter = NumeralTickFormatter(format="0%")
        plot.varea_stack(
            list(columns), x="time", source=source, color=list(colours(outcomes.arms).values())
        )
        drawn[regime] = plot
    return drawn


def exits(study: Comparison) -> Any:
    """Draw how the trades of each policy ended."""
    results = list(reversed(study.results))
    names = [result.run.name for result in results]
    totals = [sum(result.exits) for result in results]
    columns: dict[str, Any] = {"name": names}
    for number, kind in enumerate(EXIT_KINDS):
        columns[kind] = [r.exits[number] / t for r, t in zip(results, totals, strict=True)]
    plot = _plain(
        figure(
            y_range=FactorRange(factors=names),
            x_range=Range1d(start=0, end=1),
            height=60 + 34 * len(names),
            **_LOOK,
        )
    )
    plot.hbar_stack(
        list(EXIT_KINDS), y="name", height=0.7, source=columns, color=list(_EXIT_COLOURS)
    )
    plot.xaxis.axis_label = "share of trades"
    plot.xaxis.formatter = NumeralTickFormatter(format="0%")
    tips = [("", "@name")] + [(kind, f"@{{{kind}}}{{0.0%}}") for kind in EXIT_KINDS]
    plot.add_tools(HoverTool(tooltips=tips))
    return plot


_LOOK: dict[str, Any] = {
    "sizing_mode": "stretch_width",
    "tools": "xbox_zoom,xpan,reset,save",
    # a finger on the page must scroll it
    "active_drag": None,
    "active_scroll": None,
    "background_fill_alpha": 0,
    "border_fill_alpha": 0,
    "outline_line_alpha": 0,
}


def _over_time(label: str, height: int, **options: Any) -> Any:
    plot = _plain(figure(x_axis_type="datetime", height=height, **_LOOK, **options))
    plot.yaxis.axis_label = label
    return plot


def _plain(plot: Any) -> Any:
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    for axis in plot.axis:
        axis.major_label_text_color = axis.axis_label_text_color = _INK
        axis.major_label_text_font = axis.axis_label_text_font = _FONT
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
        axis.axis_line_color = axis.major_tick_line_color = _GRID
        axis.minor_tick_line_color = None
    for grid in plot.grid:
        grid.grid_line_color = _GRID
    return plot


def _hover(plot: Any, tips: list[tuple[str, str]], renderers: list[Any]) -> None:
    plot.add_tools(
        HoverTool(
            renderers=renderers,
            tooltips=tips,
            formatters={"@time": "datetime"},
            mode="vline",
            point_policy="snap_to_data",
        ),
        CrosshairTool(dimensions="height", line_color=_INK, line_alpha=0.5),
    )
