"""Rounds -> medians, paired ratios, and whether the worker is at least as fast as the plain one."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

Result = Mapping[str, Any]
"""One measurement: `measure`, `contender`, `round`, and what was measured."""

COLD_START_TARGET_S = 3.0


class Figure(NamedTuple):
    """A number that both contenders give in each round."""

    measure: str
    name: str
    title: str
    digits: int
    is_more_better: bool | None
    """None: no better or worse is claimed."""


class Comparison(NamedTuple):
    """A figure over all rounds."""

    figure: Figure
    worker: list[float]
    plain: list[float]
    ratios: list[float]
    """Worker to plain, in each round."""

    @property
    def holds(self) -> bool | None:
        """Whether the worker is not slower, by the median of the ratios."""
        if self.figure.is_more_better is None or not self.ratios:
            return None
        middle = median(self.ratios)
        return middle >= 1.0 if self.figure.is_more_better else middle <= 1.0

    @property
    def answer(self) -> str:
        """Say whether the worker is not slower, and whether that is so in each round."""
        if self.holds is None:
            return "-"
        more = self.figure.is_more_better
        in_each = all((r >= 1.0 if more else r <= 1.0) == self.holds for r in self.ratios)
        return ("yes" if self.holds else "NO") + ("" if in_each else " (not in each round)")


def figures(rates: Sequence[int]) -> list[Figure]:
    """List what is compared."""
    found = [
        Figure("drain", "rate", "drain, signals/s", 0, is_more_better=True),
        Figure("drain", "cpu_s_per_100k", "drain, CPU s per 100,000", 2, is_more_better=False),
        Figure("drain", "broker_cpu_s_per_100k", "drain, broker's CPU s", 2, is_more_better=None),
        Figure("drain", "peak_rss_mib", "drain, peak memory MiB", 0, is_more_better=None),
    ]
    for rate in rates:
        at, measure = f"at {rate}/s", f"paced-{rate}"
        found += [
            Figure(measure, "p50_ms", f"{at}, p50 ms", 1, is_more_better=False),
            Figure(measure, "p99_ms", f"{at}, p99 ms", 1, is_more_better=False),
            Figure(measure, "p999_ms", f"{at}, p99.9 ms", 1, is_more_better=None),
            Figure(measure, "cores", f"{at}, cores used", 2, is_more_better=None),
            Figure(measure, "broker_cores", f"{at}, broker's cores", 2, is_more_better=None),
        ]
    if rates:
        found.append(
            Figure(f"paced-{rates[0]}", "first_decision_s", "start, s", 2, is_more_better=None)
        )
    return found


def compare(results: Sequence[Result], rates: Sequence[int]) -> list[Comparison]:
    """Pair the contenders' results round by round."""
    found = []
    for figure in figures(rates):
        values: dict[str, dict[int, float]] = {"worker": {}, "plain": {}}
        for result in results:
            if result["measure"] == figure.measure:
                values[result["contender"]][result["round"]] = float(result[figure.name])
        worker, plain = values["worker"], values["plain"]
        ratios = [worker[n] / plain[n] for n in sorted(worker.keys() & plain.keys()) if plain[n]]
        if worker or plain:
            found.append(Comparison(figure, list(worker.values()), list(plain.values()), ratios))
    return found


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle, low, high = (f"{v:,.{digits}f}" for v in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} - {high})"


def _ratios(values: Sequence[float]) -> str:
    if not values:
        return "-"
    each = " ".join(f"{value:.2f}" for value in values)
    return each if len(values) == 1 else f"{median(values):.2f} ({each})"


HEADER = ("figure", "worker", "plain", "worker / plain (by round)", "not slower")


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Give the table's cells: medians, ranges, ratios, answers."""
    return [
        (
            c.figure.title,
            _spread(c.worker, c.figure.digits),
            _spread(c.plain, c.figure.digits),
            _ratios(c.ratios),
            c.answer,
        )
        for c in comparisons
    ]


def as_text(comparisons: Sequence[Comparison]) -> str:
    """Give the table for a terminal."""
    table = [HEADER, *rows(comparisons)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Give the table for a page."""
    table = [HEADER, tuple("---" for _ in HEADER), *rows(comparisons)]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def faults(results: Sequence[Result]) -> list[str]:
    """List the runs in which a signal had not exactly one right decision, or a trade no reward."""
    found = []
    for result in results:
        if result["is_clean"]:
            continue
        text = f"round {result['round']}, {result['measure']}, {result['contender']}: "
        text += ", ".join(f"{k} {v}" for k, v in result["verdict"].items() if v)
        if result.get("trades") != result.get("rewards"):
            text += f" {result['rewards']} rewards of {result['trades']} trades"
        found.append(text)
    return found


def one_line(result: Result) -> str:
    """Give one measurement in a line."""
    head = f"{result['measure']:11} {result['contender']:7}"
    tail = f"load {result['load']:.1f}" + ("" if result["is_clean"] else "  WRONG DECISIONS")
    if result["measure"] == "drain":
        return (
            f"{head} {result['rate']:8,.0f} signals/s  {result['cpu_s_per_100k']:6.2f} CPU s "
            f"per 100,000  {result['peak_rss_mib']:5.0f} MiB  {tail}"
        )
    return (
        f"{head} p50 {result['p50_ms']:7.1f}  p99 {result['p99_ms']:7.1f}  "
        f"p99.9 {result['p999_ms']:7.1f} ms  {result['cores']:.2f} cores  "
        f"start {result['first_decision_s']:.2f} s  {tail}"
    )


def summary(results: Sequence[Result]) -> list[str]:
    """Say what is not in the table."""
    starts = [r["first_decision_s"] for r in results if "first_decision_s" in r]
    mine = [r["first_decision_s"] for r in results if r["contender"] == "worker" and "p50_ms" in r]
    lines = []
    if starts and mine:
        word = "yes" if median(mine) < COLD_START_TARGET_S else "NO"
        lines.append(
            f"first decision after the worker's start: {median(mine):.2f} s "
            f"(under {COLD_START_TARGET_S:.0f} s: {word})"
        )
    late = [r["harness_late_p99_ms"] for r in results if "harness_late_p99_ms" in r]
    if late:
        lines.append(
            f"the harness itself sent signals up to {max(late):.1f} ms late (p99 of its worst run)"
        )
    loads = [r["load"] for r in results]
    lines.append(f"load average before the runs: {min(loads):.1f} to {max(loads):.1f}")
    wrong = faults(results)
    lines.append(
        "each signal had exactly one decision, the right one; each closed trade one reward"
        if not wrong
        else "WRONG: " + "; ".join(wrong)
    )
    return lines
