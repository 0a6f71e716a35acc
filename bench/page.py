"""Results -> docs/benchmark.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import Comparison, as_markdown, summary

_INTRODUCTION = """\
# Benchmark

Written by `make bench ARGS="--write-docs"`; do not edit.

The worker beside a plain one (`bench/plain_worker.py`): the same job, written as an ordinary user of
aiokafka, redis-py and pydantic writes it, exactly once, with one transaction and two Redis round trips
for each batch. Both read the same signals, write the same fields and learn the same rewards. They ran
by turns, each time with fresh topics, a fresh group and fresh keys, on one machine with Kafka, Redis
and the harness beside them. Absolute numbers are those of that machine and of what else ran on it;
the ratios, taken within each round, are what to compare. The local broker is set up to start quickly,
not for throughput.

- **drain**: a backlog is worked off. From 2 % of the decisions until the last offset is committed.
  CPU is user and system time of the process over that window.
- **at N/s**: signals at a steady rate; each decision leads to a closed trade 0.5 to 1 s later, which is
  learned from. Latency is from the producer being handed the signal until a `read_committed` consumer
  has handed out its decision.
- **start**: from the start of the process, with servers running and signals waiting, to the first
  decision read.

Each decision was read back and checked against its signal by code that shares nothing with the worker.
"""


def write_page(path: Path, document: Mapping[str, Any], comparisons: Sequence[Comparison]) -> None:
    """Write the page: table, conditions, all runs."""
    parts = [
        _INTRODUCTION,
        "## Results\n",
        f"Median (lowest - highest); rounds: {document['settings']['rounds']}.\n",
        as_markdown(comparisons) + "\n",
        "\n".join(f"- {line}" for line in summary(document["results"])) + "\n",
        "## Conditions\n",
        _conditions(document) + "\n",
        "## All runs\n",
        _runs(document["results"]) + "\n",
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(parts))


def _conditions(document: Mapping[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    lines = [
        f"- {document['made_at']}",
        (
            f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}"
        ),
        "- " + ", ".join(f"{k} {v}" for k, v in document["versions"].items()),
        (
            f"- {settings['partitions']} partitions, {settings['symbols']} symbols, drains of "
            f"{settings['signals']:,} signals, paced runs of {settings['seconds']:g} s after "
            f"{settings['warm']:g} s"
        ),
    ]
    return "\n".join(lines)


def _runs(results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| round | run | contender | numbers | load average |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        if result["measure"] == "drain":
            numbers = (
                f"{result['rate']:,.0f} signals/s, {result['cpu_s_per_100k']:.2f} CPU s per "
                f"100,000, {result['peak_rss_mib']:.0f} MiB"
            )
        else:
            numbers = (
                f"p50 {result['p50_ms']:.1f}, p99 {result['p99_ms']:.1f}, p99.9 "
                f"{result['p999_ms']:.1f} ms, {result['cores']:.2f} cores, start "
                f"{result['first_decision_s']:.2f} s"
            )
        cells = (
            str(result["round"]),
            result["measure"],
            result["contender"],
            numbers,
            f"{result['load']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
