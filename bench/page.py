"""Results -> docs/benchmark.md and its pictures."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.contenders import BY_NAME, PEER_PYTHON, ROOT
from bench.report import as_markdown, keys_in, measure_of, measures_in, one_line, summary, table
from bench.targets import rows, targets

PAGE = ROOT / "docs" / "benchmark.md"

_INTRODUCTION = """\
# Benchmark

Written by `make bench ARGS="--all --write-docs"`; do not edit.

The worker beside what its users might write or take instead, on the same job: the same signals read,
the same fields written, the same rewards learned, with the same message models, which the worker reads by
structs made from them ([how](decisions/0026-structs-read-messages.md)), and, but for the worker itself, the
same code for the job (`bench/ordinary_job.py`). All choose by epsilon-greedy over a moving
average; what the worker's default policy costs more has a row of its own. The worker runs as its image has
it, the modules that every record goes through compiled ([how](decisions/0021-native.md)); from its sources
it has a row of its own, too. All ran by turns, each time with fresh topics, a fresh group and fresh keys,
on one machine with Kafka, Redis and the harness beside them.
Absolute numbers are those of that machine and of what else ran on it; the ratios, taken within each
round, are what to compare.

- **drain**: a backlog is worked off, of signals alone or with a closed trade for each, which is learned
  from. From 2 % of the records until the last offset is committed. CPU is user and system time of the
  process over that window; a signal and its trade count as one. All messages of a backlog tell the same
  time, as signals of the end of a bar do.
- **at N/s**: signals at a steady rate; each decision leads to a closed trade 0.5 to 1 s later, which is
  learned from. Latency is from the producer being handed the signal until a `read_committed` consumer
  has handed out its decision.
- **start**: from the start of the process, with servers running and signals waiting, to the first
  decision read.
- **growth**: drains with trades, at other numbers of symbols, partitions, and workers in one group; with
  several workers the window begins when each has its share of the partitions.
- **opening**: from when the group has given a partition to a worker until it says that it is open; its
  view in Redis holds that many rows, and its logs nothing that is not folded.
- **rebuild**: the whole command `meta-strategy qtable rebuild`, over closed trades and their decisions.
- **remembering**: a worker takes over what a rebuild made: of each of its eight partitions the last 100,000
  decisions, ids and closed trades, as many as by default may be. The peak is while it reads them.

The broker runs with all of Java's compilers, as in production, and is warmed up by runs that do not
count, until it takes no less CPU for the same traffic; the one of demo and tests starts faster and stays
slower. Each decision was read back and checked against its signal by code that shares nothing with the
worker.
"""

_NOT_MEASURED = """\
One broker without replicas, on the same machine: no network, no wait for followers. Nothing here tells
what a machine with idle cores would do. The peers are as their users write them, not tuned; the order of
records was not compared. Kafka Streams and faust are not among them. A slow peer gets a smaller backlog.
"""

_PICTURES = {
    "mixed": ("drain.svg", "Signals a second and CPU seconds of each contender"),
    "paced": ("latency.svg", "Latency of each contender at each rate"),
    "growth": ("growth.svg", "Rate and CPU seconds by symbols, partitions and workers"),
}


def publish(raw: Sequence[Path]) -> str:
    """Write docs/benchmark.md and its pictures from raw numbers; say what was written.

    Args:
        raw: Files of runs that measured different things; conditions are the first one's.
    """
    documents = [json.loads(path.read_text()) for path in raw]
    whole = documents[0] | {
        "made_at": ", ".join(document["made_at"] for document in documents),
        "results": [result for document in documents for result in document["results"]],
    }
    for name in ("peer_versions", "missing"):
        whole[name] = next((d[name] for d in documents if d[name]), documents[0][name])
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(whole, PAGE.stem))
    is_drawn = _draw(raw, PAGE.with_suffix(""))
    return f"page: {PAGE}" + ("" if is_drawn else "; its pictures could not be drawn")


def page(document: Mapping[str, Any], pictures: str) -> str:
    """Give the page: targets, contenders, tables, conditions, all runs.

    Args:
        document: Raw numbers, and what they were measured on.
        pictures: Directory of the pictures, beside the page.
    """
    results = document["results"]
    wanted = targets(results, document["machine"]["cores"])
    parts = [
        _INTRODUCTION,
        "## Targets\n",
        f"By the median of {document['settings']['rounds']} rounds.\n",
        as_markdown(rows(wanted)) + "\n",
        "## Contenders\n",
        _contenders(document) + "\n",
        "## Results\n",
        (
            "Median (lowest - highest); ratios: median (each round). In the pictures a bar, a large dot "
            "or a line stands for the median, a small dot for a round.\n"
        ),
    ]
    shown = set()
    for name in measures_in(results):
        group = picture_of(name)
        if group is not None and group not in shown:
            shown.add(group)
            file, text = _PICTURES[group]
            parts.append(f"![{text}]({pictures}/{file})\n")
        parts += [f"### {measure_of(name).title.capitalize()}\n", as_markdown(table(results, name))]
        parts.append("")
    parts += [
        "\n".join(f"- {line}" for line in summary(results)) + "\n",
        "## Conditions\n",
        _conditions(document) + "\n",
        "## Not measured\n",
        _NOT_MEASURED,
        "## All runs\n",
        "```",
        *(f"{result['round']} {one_line(result).splitlines()[0]}" for result in results),
        "```\n",
    ]
    return "\n".join(parts)


def picture_of(measure: str) -> str | None:
    """Name the picture that shows a kind of measurement."""
    if measure.startswith("paced-"):
        return "paced"
    if measure in {"symbols", "partitions", "workers"}:
        return "growth"
    return "mixed" if measure in {"drain", "mixed"} else None


def _draw(raw: Sequence[Path], directory: Path) -> bool:
    """Draw the pictures, by the bench environment, which has the library for it.

    Returns:
        Whether it could; else its own output says why.
    """
    if not PEER_PYTHON.exists():
        return False
    directory.mkdir(exist_ok=True)
    paths = [path.resolve() for path in (directory, *raw)]
    done = subprocess.run([PEER_PYTHON, "-m", "bench.plots", *paths], cwd=ROOT, check=False)
    return done.returncode == 0


def _contenders(document: Mapping[str, Any]) -> str:
    names = dict.fromkeys(
        key
        for measure in measures_in(document["results"])
        if not measure_of(measure).is_growth
        for key in keys_in(document["results"], measure)
    )
    lines = ["| contender | guarantee | version | remark |", "| --- | --- | --- | --- |"]
    for name in (name for name in BY_NAME if name in names):
        contender = BY_NAME[name]
        version = document["peer_versions"].get(contender.package, "")
        text = f"{contender.title} | {contender.guarantee} | {version} | {contender.remark}"
        lines.append(f"| {text} |")
    lines += [f"\nNot installed, and left out: {title}." for title in document["missing"]]
    return "\n".join(lines)


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
            f"{settings['warm']:g} s; load averages beside all runs"
        ),
    ]
    if document["peer_versions"]:
        versions = ", ".join(f"{k} {v}" for k, v in document["peer_versions"].items())
        lines.insert(3, f"- the peers' environment: {versions}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(publish([Path(name) for name in sys.argv[1:]]))
