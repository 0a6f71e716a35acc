"""Results -> docs/chaos.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.report import RESULTS, invariants
from chaos.takeover import percentile

_JUDGED = ("run", "least", "storm", "brokers", "cluster", "soak", "stops")
_TITLES = {
    "run": "Faults of all kinds (`make chaos`)",
    "least": "At least once (`python -m chaos least`)",
    "storm": "Storm (`python -m chaos storm`)",
    "brokers": "Three brokers (`python -m chaos brokers`)",
    "cluster": "Redis Cluster (`python -m chaos cluster`)",
    "soak": "Soak (`python -m chaos soak`)",
    "stops": "Stops (`python -m chaos stops`)",
    "takeover": "Take-over (`python -m chaos takeover`)",
}
_INTRODUCTION = """\
# Chaos

Written by `python -m chaos docs` from the newest result of each kind; do not edit.

Whole workers as processes, on real brokers and real Redis servers, are killed, frozen and cut off while an
executor sends signals and closes trades. Then everything is read back: each decision and each dead letter
is compared with its input, each decision with the rules on the table it names, each cell of the table with
a fold of the logs written apart from the product (`chaos/oracle.py`), each hash in Redis with a rebuild, and
each decision is made again from the logs. In `make chaos` signals are followed on paper, too: a feed sends a
candle of each symbol every second, of a market whose time runs 300 times as fast as ours, and what each
strategy must have earned is compared.

Workers run through `chaos/worker.py`, which names places in their calls (before, during and after each step of
an opening and of a transaction) at which they strike themselves dead or frozen. Nothing of it is in the product.
They choose by `epsilon_greedy`, which the oracle has written anew; what they do with its choice is the same for each policy.
All runs were made on one machine with brokers, Redis, workers and harness on the same cores; times are those of
that machine and of what else ran on it. The session timeout is 6 s.
"""

_OF_MEMORY = """\
What a worker remembers is full after some minutes; from then on its memory goes with how many partitions
it has at the time, and with how many signals wait: the slope is one of these ups and downs.
"""


def write(path: Path) -> list[str]:
    """Write the page; give the kinds that have no result."""
    parts, missing = [_INTRODUCTION], []
    for what, title in _TITLES.items():
        found = sorted(RESULTS.glob(f"{what}-*.json"))
        if not found:
            missing.append(what)
            continue
        parts.append(_section(title, json.loads(found[-1].read_text())))
    path.write_text("\n".join(parts))
    return missing


def _section(title: str, result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    head = (
        f"## {title}\n\n{result['made_at']}, seed {result['seed']}, {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}\n"
    )
    return "\n".join([head, *_own(result), *(_judged(result) if result["what"] in _JUDGED else [])])


def _judged(result: Mapping[str, Any]) -> list[str]:
    faults = result["faults"]
    lines = [
        f"Faults: {_counts(faults['counts'])}.\n",
        f"Workers were struck: {_counts(faults['struck'])}.\n",
        "| | invariant | counts |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {'holds' if line.holds else '**violated**'} | {line.name} | {line.text} |"
        for line in invariants(result)
    ]
    if refusals := result.get("refusals"):
        lines += ["", "Starts that have to be refused:", ""]
        lines += [
            f"- {what}: exit code {found['exit_code']}, {code_span(found['line'])}"
            for what, found in refusals.items()
        ]
    return [*lines, ""]


def code_span(text: str) -> str:
    """Write a line as it is, also one with backticks of its own."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _own(result: Mapping[str, Any]) -> list[str]:
    """Give what a measure shows besides the invariants."""
    match result["what"]:
        case "takeover":
            lines = [
                (
                    f"Two workers, {result['rate']:g} signals/s, one killed. The longest silence of a "
                    f"partition around the kill, session timeout {result['session_s']:g} s:\n"
                ),
                "| contender | kills | p50 | p99 | longest |",
                "| --- | --- | --- | --- | --- |",
            ]
            lines += [
                f"| {name} | {len(gaps)} | {percentile(gaps, 0.5):.2f} s | "
                f"{percentile(gaps, 0.99):.2f} s | {max(gaps):.2f} s |"
                for name, gaps in result["gaps_s"].items()
            ]
            return [*lines, ""]
        case "soak":
            return [
                (
                    f"{result['minutes']:g} minutes at {result['signals_per_s']:g} signals/s and "
                    f"{result['trades_per_s']:g} trades/s ({result['tally']['signals']:,} and "
                    f"{result['tally']['trades']:,} sent). Memory of the worker that lived all through: "
                    f"{result['rss_start_mib']:.0f} MiB after a third of the time, "
                    f"{result['rss_end_mib']:.0f} MiB at the end, slope "
                    f"{result['rss_slope_mib_per_h']:+.1f} MiB an hour. Furthest behind: "
                    f"{result['behind_most']:,} signals.\n"
                ),
                _OF_MEMORY,
            ]
        case "storm":
            return [f"It took {result['took_s']:,.0f} s.\n"]
        case "stops":
            lines = [
                f"{result['in_time']} of {result['count']} within 10 s.\n",
                "| | stops | exit codes | median | longest |",
                "| --- | --- | --- | --- | --- |",
            ]
            for kind, took in result["exit_s"].items():
                codes = ", ".join(sorted({str(code) for code in result["exit_codes"][kind]}))
                if took:
                    lines.append(
                        f"| {kind} | {len(took)} | {codes} | {percentile(took, 0.5):.1f} s | "
                        f"{max(took):.1f} s |"
                    )
            return [*lines, ""]
        case "brokers":
            before, after = result["coordinators"]
            return [f"Leaders before: {_counts(before)}; after: {_counts(after)}.\n"]
        case _:
            return []


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items())) or "none"
