"""Runs schedules: many of them, one with its trace, or with bugs planted."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.planted import PLANTED, find
from tests.simulation.schedule import FoundError, run_seed
from tests.simulation.worker import simulated_clients

_CHUNK = 500
_BAR = 30


def run_seeds(first: int, count: int) -> list[str]:
    """Run schedules one after the other; give what was found, a line a seed."""
    found = []
    with simulated_clients():
        for seed in range(first, first + count):
            try:
                run_seed(seed)
            except FoundError as error:
                found.append(str(error))
    return found


def _chunks(first: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(first, first + count, _CHUNK):
        yield start, min(_CHUNK, first + count - start)


def _many(first: int, count: int, jobs: int) -> int:
    started, done, found = time.monotonic(), 0, 0
    with ProcessPoolExecutor(jobs) as pool:
        chunks = {pool.submit(run_seeds, *chunk): chunk[1] for chunk in _chunks(first, count)}
        for chunk in as_completed(chunks):
            done += chunks[chunk]
            for line in chunk.result():
                found += 1
                print(f"\r{line}".ljust(_BAR + 50))
            seconds = time.monotonic() - started
            bar = "#" * (_BAR * done // count)
            print(
                f"\r[{bar:<{_BAR}}] {done}/{count}  {done / seconds:.0f}/s  {found} found ",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(file=sys.stderr)
    print(f"{count} schedules from {first} in {seconds:.0f} s, {found} found something")
    if found:
        print("replay one: python -m tests.simulation --seed N --trace")
    return 1 if found else 0


def _one(seed: int, *, trace: bool) -> int:
    with simulated_clients():
        try:
            run_seed(seed, (lambda at_s, text: print(f"{at_s:9.4f} {text}")) if trace else None)
        except FoundError as error:
            print(error)
            return 1
    print(f"seed {seed}: nothing found")
    return 0


def _plant(name: str, seeds: int) -> int:
    missed = 0
    for bug in PLANTED if name == "all" else (name,):
        started = time.monotonic()
        seed, what = find(bug, range(seeds))
        seconds = time.monotonic() - started
        if seed is None:
            missed += 1
            print(f"{bug:38} NOT found in {seeds} schedules ({seconds:.0f} s)", flush=True)
        else:
            print(f"{bug:38} found after {seed + 1:5} schedules: {what:.110}", flush=True)
    return 1 if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seeds", type=int, default=5_000, help="how many schedules")
    what.add_argument("--seed", type=int, help="only this one")
    what.add_argument("--plant", choices=["all", *PLANTED], help="plant bugs, one at a time")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument("--trace", action="store_true", help="print every step of --seed")
    parser.add_argument(
        "--within", type=int, default=2_000, help="schedules a planted bug may take"
    )
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, trace=options.trace)
    if options.plant is not None:
        return _plant(options.plant, options.within)
    return _many(options.first, options.seeds, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
