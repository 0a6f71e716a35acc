"""A run: hostile input until an invariant breaks, or so many inputs were checked."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from multiprocessing.managers import ValueProxy
from pathlib import Path
from threading import Lock

import click

from fuzz import records
from fuzz.job import Report, run_job
from fuzz.records import Input

_LOOK_S = 0.5
_MOST_OF_CORPUS = 400
_FAILURES = Path("fuzz-failures.jsonl")


class _Progress:
    """Counts inputs of all jobs; picklable."""

    def __init__(self, counter: "ValueProxy[int]", lock: Lock) -> None:
        self._counter = counter
        self._lock = lock
        self._held = 0

    def __call__(self, count: int) -> None:
        self._held += count
        if self._held >= 1_000:  # each call asks another process
            with self._lock:
                self._counter.value += self._held
            self._held = 0


@click.command()
@click.option("--inputs", default=100_000, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
def main(inputs: int, seed: int, jobs: int) -> None:
    """Check decoders and a batch's whole way with hostile input; exit code 1 for a finding."""
    corpus = records.load()
    started = time.perf_counter()
    reports = list(_reports(inputs, seed, jobs, corpus))
    took_s = time.perf_counter() - started
    _keep(reports, corpus)
    _tell(reports, took_s)
    failures = [failure for report in reports for failure in report.failures]
    if failures:
        found = [one for _, inputs_ in failures for one in inputs_]
        records.save(found, _FAILURES)
        for text, inputs_ in failures:
            click.echo(f"\nFINDING (--seed {seed} --jobs {jobs}): {text}", err=True)
            for one in inputs_[:3]:
                click.echo(
                    f"  {one.topic} key={one.key!r} timestamp={one.timestamp} "
                    f"headers={str(one.headers)[:200]}\n  {one.value!r:.2000}",
                    err=True,
                )
        click.echo(f"\nkept in {_FAILURES}", err=True)
        sys.exit(1)


def _reports(inputs: int, seed: int, jobs: int, corpus: list[Input]) -> Iterator[Report]:
    context = get_context("spawn")
    with context.Manager() as manager:
        progress = _Progress(manager.Value("q", 0), manager.Lock())
        with (
            ProcessPoolExecutor(jobs, mp_context=context) as pool,
            click.progressbar(length=inputs, label="inputs", file=sys.stderr) as bar,
        ):
            share = [inputs // jobs + (number < inputs % jobs) for number in range(jobs)]
            running = {
                pool.submit(run_job, f"{seed}:{number}", count, corpus, progress)
                for number, count in enumerate(share)
            }
            shown, left = 0, set(running)
            while left:
                _, left = wait(left, timeout=_LOOK_S)
                now = progress._counter.value  # noqa: SLF001  its own module's
                bar.update(now - shown)
                shown = now
            for job in running:
                yield job.result()


def _keep(reports: list[Report], corpus: list[Input]) -> None:
    """Add what behaved in a new way to the corpus, the smallest first."""
    known = {one.packed() for one in corpus}
    new = {line: one for report in reports for line, one in report.kept.items()}
    fresh = sorted((line for line in new if line not in known), key=len)
    room = max(0, _MOST_OF_CORPUS - len(corpus))
    records.save([*corpus, *(new[line] for line in fresh[:room])])


def _tell(reports: list[Report], took_s: float) -> None:
    count = sum(report.inputs for report in reports)
    behaviours = set[str]().union(*(report.behaviours for report in reports))
    click.echo(f"{count:,} inputs in {took_s:.0f} s: {count / took_s:,.0f} a second")
    click.echo(f"behaviours {len(behaviours)}, lines {max(r.lines for r in reports)}")
    slowest = max(reports, key=lambda report: report.slowest_s)
    if slowest.slowest is not None:
        value = slowest.slowest.value or b""
        click.echo(
            f"slowest input {slowest.slowest_s * 1000:.1f} ms, {len(value):,} bytes: {value!r:.60}"
        )
    for title, counts in (
        ("decoders", sum((r.codes for r in reports), Counter[str]())),
        ("batches", sum((r.answers for r in reports), Counter[str]())),
    ):
        click.echo(f"{title}:")
        for name, number in counts.most_common():
            click.echo(f"  {number:>9,}  {name}")
