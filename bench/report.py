"""Rounds -> medians, spreads and ratios within each round, as tables."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.contenders import BY_NAME

Result = Mapping[str, Any]
"""One measurement: `measure`, `contender`, `round`, and what was measured or its `error`; in a growth
measurement also `at`, the size it was made at."""

Key = str | int
"""What the rows of a table differ by: a contender's name or a size."""


class Figure(NamedTuple):
    """A number that a measurement gives."""

    name: str
    title: str
    digits: int
    is_compared: bool = False
    """Whether its ratio to the base is shown."""


class Measure(NamedTuple):
    """A table: one kind of measurement."""

    title: str
    figures: tuple[Figure, ...]
    base: Key
    """Row that the others are compared with."""
    is_growth: bool = False
    """Whether rows are sizes of the worker's task instead of contenders."""


_RATE = Figure("rate", "signals/s", 0, is_compared=True)
_CPU = Figure("cpu_s_per_100k", "CPU s per 100,000", 2, is_compared=True)
_MEMORY = Figure("peak_rss_mib", "peak MiB", 0)
_DRAIN = (_RATE, _CPU, Figure("broker_cpu_s_per_100k", "broker's CPU s", 2), _MEMORY)
_PACED = (
    Figure("p50_ms", "p50 ms", 1, is_compared=True),
    Figure("p99_ms", "p99 ms", 1, is_compared=True),
    Figure("p999_ms", "p99.9 ms", 1),
    Figure("cores", "cores used", 2),
    Figure("broker_cores", "broker's cores", 2),
    _MEMORY,
    Figure("first_decision_s", "start s", 2),
)


def measure_of(name: str) -> Measure:
    """Describe a kind of measurement by its name."""
    if name.startswith("paced-"):
        return Measure(f"at {int(name.removeprefix('paced-')):,}/s", _PACED, "plain")
    return _MEASURES[name]


_MEASURES = {
    "drain": Measure("drain of signals alone", _DRAIN, "plain"),
    "mixed": Measure("drain of signals, with a closed trade for each", _DRAIN, "plain"),
    "symbols": Measure("symbols", _DRAIN, 200, is_growth=True),
    "partitions": Measure("partitions", _DRAIN, 8, is_growth=True),
    "workers": Measure("workers in one group", _DRAIN, 1, is_growth=True),
    "opening": Measure(
        "rows in the view of a partition that opens",
        (
            Figure("open_s", "s from assignment to open", 2),
            Figure("cpu_s", "CPU s of it", 2),
            _MEMORY,
        ),
        0,
        is_growth=True,
    ),
    "remembering": Measure(
        "closed trades in the history of a worker that remembers all it may",
        (
            Figure("open_s", "s until all partitions are open", 2),
            Figure("rss_mib", "MiB then", 0),
            _MEMORY,
            Figure("redis_mib", "MiB in Redis", 0),
        ),
        0,
        is_growth=True,
    ),
    "rebuild": Measure(
        "closed trades to rebuild the table from",
        (
            Figure("rate", "trades/s", 0),
            Figure("cpu_s_per_100k", "CPU s per 100,000", 2),
            _MEMORY,
        ),
        0,
        is_growth=True,
    ),
}


def key_of(result: Result) -> Key:
    """Tell which row of its table a result belongs to."""
    key: Key = result["at"] if measure_of(result["measure"]).is_growth else result["contender"]
    return key


def values(results: Sequence[Result], measure: str, key: Key, name: str) -> dict[int, float]:
    """Give a number by round."""
    return {
        result["round"]: float(result[name])
        for result in results
        if result["measure"] == measure and name in result and key_of(result) == key
    }


def ratios(mine: Mapping[int, float], base: Mapping[int, float]) -> list[float]:
    """Divide within each round that has both: between rounds the machine changes."""
    return [mine[n] / base[n] for n in sorted(mine.keys() & base.keys()) if base[n]]


def spread(found: Sequence[float], digits: int) -> str:
    """Give median and range; nothing for nothing."""
    if not found:
        return "-"
    middle, low, high = (f"{v:,.{digits}f}" for v in (median(found), min(found), max(found)))
    return middle if len(found) == 1 else f"{middle} ({low} - {high})"


def by_round(found: Sequence[float]) -> str:
    """Give the median of ratios and each of them; nothing for nothing."""
    if not found:
        return "-"
    each = " ".join(f"{value:.2f}" for value in found)
    return each if len(found) == 1 else f"{median(found):.2f} ({each})"


def label(key: Key) -> str:
    """Name a row."""
    return f"{key:,}" if isinstance(key, int) else BY_NAME[key].title


def measures_in(results: Sequence[Result]) -> list[str]:
    """List the kinds of measurement, in the order they were made."""
    return list(dict.fromkeys(result["measure"] for result in results))


def keys_in(results: Sequence[Result], name: str) -> list[Key]:
    """List the rows of a table, in order."""
    found = list(dict.fromkeys(key_of(r) for r in results if r["measure"] == name))
    if measure_of(name).is_growth:
        return sorted(found)
    order = list(BY_NAME)
    return sorted(found, key=lambda key: order.index(str(key)))


def table(results: Sequence[Result], name: str) -> list[tuple[str, ...]]:
    """Give header and rows of one kind of measurement: medians, ranges, ratios by round."""
    measure = measure_of(name)
    header = ["" if not measure.is_growth else measure.title]
    for figure in measure.figures:
        header.append(figure.title)
        if figure.is_compared:
            header.append("x " + label(measure.base))
    rows = [tuple(header)]
    for key in keys_in(results, name):
        cells = [label(key)]
        for figure in measure.figures:
            found = values(results, name, key, figure.name)
            cells.append(spread(list(found.values()), figure.digits))
            if figure.is_compared:
                base = values(results, name, measure.base, figure.name)
                cells.append("1" if key == measure.base else by_round(ratios(found, base)))
        rows.append(tuple(cells))
    return rows


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay a table out for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay a table out for a page."""
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def faults(results: Sequence[Result]) -> list[str]:
    """List the runs in which a signal had not exactly one right decision, or a trade no reward.

    A run of our own that did not come to its end is one; a peer that cannot keep up is none.
    """
    found = []
    for result in results:
        if result["is_clean"] or ("error" in result and BY_NAME[result["contender"]].package):
            continue
        text = f"{_where(result)}: "
        if "error" in result:
            found.append(text + result["error"])
            continue
        text += ", ".join(f"{k} {v}" for k, v in result["verdict"].items() if v)
        if result.get("trades") != result.get("rewards"):
            text += f" {result['rewards']} rewards of {result['trades']} trades"
        found.append(text)
    return found


def unfinished(results: Sequence[Result]) -> list[str]:
    """List the runs of peers that did not come to their end, with the first line of the reason."""
    return [
        f"{_where(result)}: {result['error'].splitlines()[0]}"
        for result in results
        if "error" in result and BY_NAME[result["contender"]].package
    ]


def _where(result: Result) -> str:
    at = f" {result['at']}" if "at" in result else ""
    who = "" if "error" in result else f", {result['contender']}"  # an error names it itself
    return f"round {result['round']}, {result['measure']}{at}{who}"


def one_line(result: Result) -> str:
    """Give one measurement in a line."""
    name = result["measure"] + (f" {result['at']}" if "at" in result else "")
    head = f"{name:16} {result['contender']:11}"
    if "error" in result:
        return f"{head} {result['error']}"
    cells = [
        f"{result[figure.name]:,.{figure.digits}f} {figure.title}"
        for figure in measure_of(result["measure"]).figures
        if figure.name in result
    ]
    cells.append(f"load {result['load']:.1f}" + ("" if result["is_clean"] else "  WRONG DECISIONS"))
    return f"{head} {', '.join(cells)}"


def summary(results: Sequence[Result]) -> list[str]:
    """Say what is in no table."""
    lines = []
    late = [r["harness_late_p99_ms"] for r in results if "harness_late_p99_ms" in r]
    if late:
        lines.append(
            f"the harness itself sent signals up to {max(late):.1f} ms late (p99 of its worst run)"
        )
    loads = [r["load"] for r in results if "load" in r]
    if loads:
        lines.append(f"load average before the runs: {min(loads):.1f} to {max(loads):.1f}")
    lines += [f"did not finish: {text}" for text in unfinished(results)]
    wrong = faults(results)
    lines.append(
        "each signal had exactly one decision, the right one; each closed trade one reward"
        if not wrong
        else "WRONG: " + "; ".join(wrong)
    )
    return lines
