"""What the worker is meant to reach, beside what was measured."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.contenders import PEERS
from bench.report import Key, Result, by_round, ratios, spread, values

_SPARE_CORES = 6
"""Two workers, their yardstick's broker, Redis and the harness need a core each, and one is left."""


class Target(NamedTuple):
    """A bound on a figure, told by the median over the rounds."""

    title: str
    found: list[float]
    """One value a round; empty when it was not measured."""
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    """What would be better still, in the same direction."""
    digits: int = 2

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None when nothing was measured."""
        return self._keeps(self.at_least if self.at_most is None else self.at_most)

    @property
    def reaches_aim(self) -> bool | None:
        """Whether the aim is reached; None when there is none, or nothing was measured."""
        return self._keeps(self.aim)

    def _keeps(self, bound: float | None) -> bool | None:
        if bound is None or not self.found:
            return None
        middle = median(self.found)
        return middle >= bound if self.at_most is None else middle <= bound

    @property
    def row(self) -> tuple[str, ...]:
        """Cells of its line."""
        bound = self.at_least if self.at_most is None else self.at_most
        word = "at least" if self.at_most is None else "at most"
        measured = (
            by_round(self.found) if self.digits == 2 and len(self.found) > 1 else ""
        ) or spread(self.found, self.digits)
        return (
            self.title,
            f"{word} {bound:,g}",
            measured,
            _word(self.holds),
            "-" if self.aim is None else f"{self.aim:,g}: {_word(self.reaches_aim)}",
        )


HEADER = ("target", "wanted", "measured (by round)", "holds", "aim")


def _word(answer: bool | None) -> str:
    return {True: "yes", False: "NO", None: "not measured"}[answer]


def targets(results: Sequence[Result], cores: int) -> list[Target]:
    """List all targets with what was measured for them.

    Args:
        results: All measurements.
        cores: Of the machine; with few, two workers can only share what there is.
    """

    def found(measure: str, key: Key, name: str) -> list[float]:
        return list(values(results, measure, key, name).values())

    def ratio(measure: str, key: Key, base: Key, name: str) -> list[float]:
        mine, theirs = (values(results, measure, k, name) for k in (key, base))
        return ratios(mine, theirs)

    starts = [
        value
        for measure in dict.fromkeys(r["measure"] for r in results)
        if measure.startswith("paced-")
        for value in found(measure, "worker", "first_decision_s")
    ]
    listed = [
        Target(
            "drain with trades, x plain",
            ratio("mixed", "worker", "plain", "rate"),
            at_least=2.2,
            aim=3.0,
        ),
        Target(
            "drain with trades, CPU x plain",
            ratio("mixed", "worker", "plain", "cpu_s_per_100k"),
            at_most=0.50,
            aim=0.35,
        ),
        Target(
            "drain of signals, x no work",
            ratio("drain", "worker", "floor", "rate"),
            at_least=0.6,
            aim=0.9,
        ),
        *(
            Target(
                f"drain with trades, x {peer.title}",
                ratio("mixed", "worker", peer.name, "rate"),
                at_least=1.0,
            )
            for peer in PEERS
        ),
    ]
    for rate, p50, p99 in ((500, 0.30, 0.20), (2000, 0.45, 0.45)):
        for name, bound in (("p50_ms", p50), ("p99_ms", p99)):
            listed.append(
                Target(
                    f"{name.removesuffix('_ms')} at {rate:,}/s, x plain",
                    ratio(f"paced-{rate}", "worker", "plain", name),
                    at_most=bound,
                )
            )
    listed += [
        Target(
            "p50 at 500/s, at least once, ms",
            found("paced-500", "worker-alo", "p50_ms"),
            at_most=3.0,
        ),
        Target(
            "drain with trades, default policy, x the rule of the others",
            ratio("mixed", "worker-default", "worker", "rate"),
            at_least=0.9,
        ),
        Target("cold start to the first decision, s", starts, at_most=1.5),
        Target(
            "sampled log lines, CPU x none",
            ratio("mixed", "worker-logs", "worker", "cpu_s_per_100k"),
            at_most=1.10,
        ),
        Target(
            "memory with 2,000 symbols, MiB",
            found("symbols", 2_000, "peak_rss_mib"),
            at_most=100.0,
            digits=0,
        ),
        Target("10,000 symbols, x 200", ratio("symbols", 10_000, 200, "rate"), at_least=0.85),
        Target("64 partitions, x 8", ratio("partitions", 64, 8, "rate"), at_least=0.75),
        Target("two workers, x one", ratio("workers", 2, 1, "rate"), at_least=1.6)
        if cores >= _SPARE_CORES
        else Target(
            f"CPU for a signal of two workers, x one ({cores} cores: none to spare)",
            ratio("workers", 2, 1, "cpu_s_per_100k"),
            at_most=1.10,
        ),
        Target(
            "rebuild, closed trades/s",
            [
                value
                for count in dict.fromkeys(r["at"] for r in results if r["measure"] == "rebuild")
                for value in found("rebuild", count, "rate")
            ],
            at_least=50_000.0,
            digits=0,
        ),
        Target(
            "opening a partition with 100,000 rows, s",
            found("opening", 100_000, "open_s"),
            at_most=1.0,
        ),
    ]
    return listed


def rows(listed: Sequence[Target]) -> list[tuple[str, ...]]:
    """Give header and lines."""
    return [HEADER, *(target.row for target in listed)]


def failed(listed: Sequence[Target]) -> list[str]:
    """List the targets that were measured and missed."""
    return [target.title for target in listed if target.holds is False]
