"""One process of a run: makes inputs, checks them, keeps what behaves in a new way."""

import faulthandler
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from consumer.domain.policies.catalog import PolicyName
from fuzz.coverage import Lines
from fuzz.mutate import Mutator, seeds
from fuzz.records import Input
from fuzz.targets import POLICIES, check_batch, decoded

BATCH = 32
"""Inputs of a batch: enough for them to meet, few enough to find the one to blame."""
HANG_S = 1.0
"""An input that takes longer is a finding: a batch holds a thousand."""
_STUCK_S = 60.0  # of a batch: the process ends with a traceback
_TRACE_EVERY = 64  # batches whose lines are looked at though nothing seems new: tracing is slow
_MOST_KEPT = 250  # of a job, so that a corpus stays a file to replay in seconds


@dataclass(slots=True)
class Report:
    """What a job found."""

    inputs: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    behaviours: set[str] = field(default_factory=set)
    kept: dict[str, Input] = field(default_factory=dict)
    """The first, or the smallest, input of each new behaviour."""
    slowest_s: float = 0.0
    slowest: Input | None = None
    lines: int = 0
    failures: list[tuple[str, list[Input]]] = field(default_factory=list)


def run_job(seed: str, inputs: int, corpus: list[Input], progress: Callable[[int], None]) -> Report:
    """Check so many inputs; the same seed, count and corpus check the same ones.

    Args:
        seed: Of all draws.
        inputs: How many.
        corpus: Checked first, and mutated like the golden messages.
        progress: Told how many more were checked.
    """
    job = _Job(seed, corpus)
    for one in corpus:
        job.note(one)
    while job.report.inputs < inputs and not job.report.failures:
        count = min(BATCH, inputs - job.report.inputs)
        job.check([job.mutator.next() for _ in range(count)])
        progress(count)
    faulthandler.cancel_dump_traceback_later()
    job.report.lines = len(job.lines)
    return job.report


class _Job:
    def __init__(self, seed: str, corpus: list[Input]) -> None:
        self.report = Report()
        self.lines = Lines()
        self.pool = [*seeds(), *corpus]
        self.mutator = Mutator(Random(seed), self.pool)
        self._batches = 0

    def note(self, one: Input) -> bool:
        """Decode an input alone; tell whether it behaves as none before it."""
        report = self.report
        started = time.thread_time()  # others' work is not to count
        shape = decoded(one)
        took_s = time.thread_time() - started
        if took_s > report.slowest_s:
            report.slowest_s, report.slowest = took_s, one
        report.codes[" ".join(shape.split(" ")[:2])] += 1
        if shape in report.behaviours:
            return False
        report.behaviours.add(shape)
        return True

    def check(self, inputs: list[Input]) -> None:
        faulthandler.dump_traceback_later(_STUCK_S, exit=True)
        report, self._batches = self.report, self._batches + 1
        policy = POLICIES[self._batches % len(POLICIES)]
        try:
            for one in inputs:
                report.inputs += 1
                if self.note(one):
                    self._keep(one)
            if report.slowest_s > HANG_S and report.slowest in inputs:
                report.failures.append((f"took {report.slowest_s:.1f} s", [report.slowest]))
            if self._batches % _TRACE_EVERY == 0:
                for one in inputs:
                    if self.lines.reaches_new(lambda one=one: check_batch([one], policy)):  # type: ignore[misc]
                        self._keep(one)
            report.answers += check_batch(inputs, policy)
        except Exception as error:  # noqa: BLE001  any at all is what is looked for
            report.failures.append(
                (f"{policy}: {type(error).__name__}: {error}", _blamed(inputs, policy))
            )

    def _keep(self, one: Input) -> None:
        if len(self.report.kept) < _MOST_KEPT and len(one.value or b"") < 20_000:
            self.report.kept[one.packed()] = one
            self.pool.append(one)


def _blamed(inputs: list[Input], policy: PolicyName) -> list[Input]:
    """Give the one input that fails alone; all, when none does."""
    for one in inputs:
        try:
            decoded(one)
            check_batch([one], policy)
        except Exception as error:  # noqa: BLE001  what it is was reported
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
            return [one]
    return inputs
