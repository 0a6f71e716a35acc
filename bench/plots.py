"""Results -> pictures: `python -m bench.plots DIRECTORY RESULTS.json ...`, in the bench environment.

Colours are readable on white and on black, and the background is left open, for pages of either kind.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.report import Key, Result, keys_in, label, measures_in, values

_TEXT = "#7d8590"
_OURS, _OTHERS = "#e8590c", "#4c8dd6"
_STYLE = {
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlecolor": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "grid.alpha": 0.35,
    "grid.color": _TEXT,
    "savefig.transparent": True,
    "svg.hashsalt": "bench",  # the same numbers give the same file
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}


def main() -> None:
    """Draw what the results hold."""
    directory = Path(sys.argv[1])
    results = [r for path in sys.argv[2:] for r in json.loads(Path(path).read_text())["results"]]
    with mpl.rc_context(_STYLE):
        for name, figure in (
            ("drain", draw_drains(results)),
            ("latency", draw_latencies(results)),
            ("growth", draw_growth(results)),
        ):
            if figure is not None:
                figure.savefig(directory / f"{name}.svg", metadata={"Date": None})


def draw_drains(results: Sequence[Result]) -> Figure | None:
    """Draw rate and CPU seconds of all contenders, of each kind of drain."""
    kinds = [name for name in ("drain", "mixed") if name in measures_in(results)]
    if not kinds:
        return None
    heights = [len(keys_in(results, kind)) for kind in kinds]
    figure = Figure(figsize=(9, 1.3 * len(kinds) + 0.32 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(kinds), 2, squeeze=False, height_ratios=heights)
    titles = {"drain": "signals alone", "mixed": "a closed trade for each signal"}
    for row, kind in zip(axes, kinds, strict=True):
        for place, name in enumerate(("rate", "cpu_s_per_100k")):
            _rows(row[place], results, kind, name, with_bars=True)
            row[place].xaxis.set_major_locator(MaxNLocator(5))
        row[0].set_xlabel("signals/s (more is better)")
        row[1].set_xlabel("CPU s per 100,000 signals (less is better)")
        row[0].set_title(titles[kind], loc="left")
        row[1].set_yticklabels([])
    return figure


def draw_latencies(results: Sequence[Result]) -> Figure | None:
    """Draw the median and the 99th percentile of all contenders, at each rate."""
    kinds = [name for name in measures_in(results) if name.startswith("paced-")]
    if not kinds:
        return None
    heights = [len(keys_in(results, kind)) for kind in kinds]
    figure = Figure(figsize=(9, 1.3 * len(kinds) + 0.32 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(kinds), 2, squeeze=False, height_ratios=heights)
    for row, kind in zip(axes, kinds, strict=True):
        for place, (name, title) in enumerate(
            (("p50_ms", "median"), ("p99_ms", "99th percentile"))
        ):
            # no bars: on this scale they would begin nowhere
            _rows(row[place], results, kind, name, with_bars=False)
            row[place].set_xscale("log")
            row[place].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            row[place].xaxis.set_minor_locator(NullLocator())
            row[place].xaxis.set_major_formatter(FuncFormatter(_plainly))
            row[place].set_xlabel(f"{title} ms (less is better)")
        row[0].set_title(f"{int(kind.removeprefix('paced-')):,} signals/s", loc="left")
        row[1].set_yticklabels([])
    return figure


def draw_growth(results: Sequence[Result]) -> Figure | None:
    """Draw rate and CPU seconds of the worker by the size of its task."""
    there = measures_in(results)
    kinds = [name for name in ("symbols", "partitions", "workers") if name in there]
    if not kinds:
        return None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False, sharex="col", sharey="row")
    for column, kind in enumerate(kinds):
        for row, (name, title) in enumerate(
            (("rate", "signals/s"), ("cpu_s_per_100k", "CPU s per 100,000 signals"))
        ):
            _line(axes[row][column], results, kind, name)
            if column == 0:
                axes[row][column].set_ylabel(title)
        axes[1][column].set_xlabel(kind)
    return figure


def _numbers(results: Sequence[Result], kind: str, key: Key, name: str) -> list[float]:
    return list(values(results, kind, key, name).values())


def _rows(axes: Axes, results: Sequence[Result], kind: str, name: str, *, with_bars: bool) -> None:
    """Draw the median and each round, a contender a line."""
    keys = keys_in(results, kind)[::-1]
    for place, key in enumerate(keys):
        found = _numbers(results, kind, key, name)
        if not found:
            axes.annotate("did not finish", (0.02, place), xycoords=("axes fraction", "data"))
            continue
        colour = _OURS if str(key).startswith("worker") else _OTHERS
        if with_bars:
            axes.barh(place, median(found), height=0.62, color=colour, alpha=0.75)
        else:
            axes.hlines(place, min(found), max(found), color=colour, linewidth=1.5)
            axes.plot(median(found), place, "o", markersize=7, color=colour)
        axes.plot(found, [place] * len(found), "o", markersize=3, color=_TEXT)
    axes.set_yticks(range(len(keys)), [label(key) for key in keys])
    axes.set_ylim(-0.6, len(keys) - 0.4)
    axes.xaxis.set_major_formatter(FuncFormatter(_plainly))
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _line(axes: Axes, results: Sequence[Result], kind: str, name: str) -> None:
    """Draw a line through the medians, and a dot for each round."""
    keys = [int(key) for key in keys_in(results, kind)]
    found = {key: _numbers(results, kind, key, name) for key in keys}
    measured = [key for key in keys if found[key]]
    axes.plot(measured, [median(found[key]) for key in measured], color=_OURS)
    for key in measured:
        axes.plot([key] * len(found[key]), found[key], "o", markersize=3.5, color=_OURS)
    axes.set_xscale("log")
    axes.set_xticks(keys, [label(key) for key in keys])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(_plainly))
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.set_axisbelow(True)


def _plainly(value: float, _: Any) -> str:
    return f"{value:,g}"


if __name__ == "__main__":
    main()
