"""`make bench`: the worker beside a plain one and a floor, in strictly interleaved rounds.

    make bench                                  # 3 rounds: two drains; 500/s and 2,000/s for 15 s
    make bench ARGS="--quick"                   # one short round
    make bench ARGS="--peers"                   # other libraries, too, and variants of the worker
    make bench ARGS="--growth"                  # only: symbols, partitions, workers, opening, rebuild
    make bench ARGS="--all --write-docs"        # everything, and docs/benchmark.md
    python -m bench.page RESULTS.json ...       # the page of one run, or of two of different kinds
    make bench ARGS="--core"                    # only: a decision, a trade, a candle, without servers
    make bench ARGS="--profile"                 # where the worker's time goes

Kafka and Redis are started for the run, unless KAFKA_BOOTSTRAP_SERVERS and REDIS_URL name some.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import uvloop

from bench.broker import PARTITIONS, Broker
from bench.contender import ContenderError, Run, attempt
from bench.contenders import (
    AT_LEAST,
    BY_NAME,
    DEFAULT_POLICY,
    FLOOR,
    IS_COMPILED,
    LOGGING,
    NATIVE,
    PEERS,
    PLAIN,
    ROOT,
    SOURCES,
    WORKER,
    Contender,
    missing_peers,
    peer_versions,
)
from bench.drain import measure_drain
from bench.growth import ROWS, measure_history, measure_opening, measure_sizes
from bench.machine import describe_machine, describe_versions, supported
from bench.paced import measure_paced, now_text
from bench.page import publish
from bench.profiling import profile_drain
from bench.report import as_text, faults, measures_in, one_line, summary, table
from bench.targets import failed, rows, targets
from bench.traffic import make_backlog
from consumer.local.stack import Stack, StackError, running_stack

_RESULTS = Path(__file__).parent / "results"

_WARM_UP_S = 15.0
_MOST_WARM_UPS = 20
_COOLER = 0.97
"""Below this share of the least CPU before, the broker is still getting cheaper."""
_WARM_AFTER = 3
"""Runs without such a gain."""

Note = Callable[..., None]
"""Keeps and prints a result."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the worker.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--signals", type=int, default=100_000, help="backlog of a drain")
    parser.add_argument("--rates", default="500,2000", help="paced signals/s")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a paced run")
    parser.add_argument(
        "--warm", type=float, default=3.0, help="seconds before it that do not count"
    )
    parser.add_argument("--history", type=int, default=1_000_000, help="trades of a rebuild")
    parser.add_argument("--peers", action="store_true", help="measure other libraries, too")
    parser.add_argument(
        "--growth", action="store_true", help="measure how the worker grows instead"
    )
    parser.add_argument("--all", action="store_true", help="measure everything")
    parser.add_argument("--only", choices=["drain", "paced"], help="measure only this")
    parser.add_argument(
        "--quick", action="store_true", help="1 round, 20,000 signals, 5 s, 50,000 trades"
    )
    parser.add_argument("--core", action="store_true", help="measure the core alone instead")
    parser.add_argument("--profile", action="store_true", help="profile one drain instead")
    parser.add_argument("--contender", choices=BY_NAME, default="worker", help="whom to profile")
    parser.add_argument("--gate", action="store_true", help="fail when a target is missed")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmark.md")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.signals, options.seconds = 1, 20_000, 5.0
        options.history = 50_000
    options.rates = [int(rate) for rate in options.rates.split(",") if rate]
    return options


async def warm_up(options: argparse.Namespace, stack: Stack, broker: Broker) -> None:
    """Let the broker compile what it runs often, until it gets no cheaper; nothing of it is kept.

    A cold one takes more than twice the CPU for the same transactions, most of it from the worker, which
    makes the most of them: a broker in production is warm.
    """
    print("the broker is warmed up", flush=True)
    async with Run(FLOOR, stack, broker) as run:
        backlog = make_backlog(options.signals, ts=now_text(), with_trades=False)
        await measure_drain(run, broker, backlog)
    least, since = inf, 0
    for _ in range(1 if options.quick else _MOST_WARM_UPS):
        async with Run(WORKER, stack, broker) as run:
            found = await measure_paced(run, broker, rate=500, seconds=_WARM_UP_S, warm_s=0.0)
        cores = found["broker_cores"]
        print(f"  it takes {cores:.2f} cores at 500/s", flush=True)
        since = 0 if cores < _COOLER * least else since + 1
        least = min(least, cores)
        if since == _WARM_AFTER:
            return


async def measure_contenders(
    options: argparse.Namespace, stack: Stack, broker: Broker, note: Note
) -> None:
    """Run all rounds, the contenders by turns."""
    signals_alone = make_backlog(options.signals, ts=now_text(), with_trades=False)
    with_trades = make_backlog(options.signals, ts=now_text())
    others: list[Contender] = []
    if options.peers or options.all:
        others = [peer for peer in PEERS if peer not in missing_peers()]
    variants = [AT_LEAST, LOGGING] if options.peers or options.all else []
    sources = [SOURCES] if IS_COMPILED else []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)

        def in_turn(found: Sequence[Contender], number: int = number) -> Sequence[Contender]:
            # who goes first changes: what grows in a round must not always hit the same one
            return found if number % 2 else found[::-1]

        if options.only != "paced":
            for measure, backlog, all_of_them in (
                ("drain", signals_alone, [WORKER, PLAIN, FLOOR]),
                (
                    "mixed",
                    with_trades,
                    [WORKER, PLAIN, *sources, DEFAULT_POLICY, *variants, *others],
                ),
            ):
                for contender in in_turn(all_of_them):
                    async with Run(contender, stack, broker) as run:
                        found = await attempt(measure_drain(run, broker, backlog))
                        note(measure, contender, number, found)
        if options.only == "drain":
            continue
        for place, rate in enumerate(options.rates):
            # the variants answer a question of their own: one rate of each will do
            every = [WORKER, PLAIN, *([] if place else variants), *others]
            for contender in in_turn(every):
                async with Run(contender, stack, broker) as run:
                    found = await attempt(
                        measure_paced(
                            run, broker, rate=rate, seconds=options.seconds, warm_s=options.warm
                        )
                    )
                    note(f"paced-{rate}", contender, number, found)


async def measure_growth(
    options: argparse.Namespace, stack: Stack, broker: Broker, note: Note
) -> None:
    """Measure the worker at other sizes, and with a long history."""
    for number in range(1, options.rounds + 1):
        print(f"growth, round {number} of {options.rounds}", flush=True)
        async for measure, size, found in measure_sizes(
            stack, broker, signals=options.signals, number=number
        ):
            note(measure, WORKER, number, found, at=size)
    for count in ROWS:
        opening = measure_opening(stack, broker, rows=count, times=options.rounds)
        await note_each("opening", count, opening, note)
    history = measure_history(stack, broker, trades=options.history, times=options.rounds)
    await note_each("rebuild", options.history, history, note)


async def note_each(
    measure: str, size: int, measuring: AsyncIterator[tuple[str, dict[str, Any]]], note: Note
) -> None:
    """Note what is measured one after the other, and an end before the last.

    Args:
        measure: What is told to be broken, if anything is.
        size: At which size.
        measuring: Gives each measure with what was found.
        note: Takes it.
    """
    made: Counter[str] = Counter()
    try:
        async for name, found in measuring:
            made[name] += 1
            note(name, WORKER, made[name], found, at=size)
    except ContenderError as error:
        broken = {"error": str(error), "is_clean": False}
        note(measure, WORKER, made[measure] + 1, broken, at=size)


async def main(options: argparse.Namespace) -> int:
    """Measure, print, keep; give the exit code."""
    results: list[dict[str, Any]] = []

    def note(
        measure: str, contender: Contender, number: int, found: dict[str, Any], **at: int
    ) -> None:
        whole = {"measure": measure, "contender": contender.name, "round": number, **at, **found}
        results.append(whole)
        print(one_line(whole), flush=True)

    async with running_stack(report=print, is_long_lived=True) as stack:
        broker = Broker(stack.bootstrap_servers)
        await broker.start()
        try:
            _RESULTS.mkdir(exist_ok=True)
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            if options.profile:
                contender = BY_NAME[options.contender]
                output = _RESULTS / f"profile-{contender.name}-{stamp}.txt"
                backlog = make_backlog(options.signals, ts=now_text())
                await profile_drain(contender, stack, broker, backlog, output)
                return 0
            is_with_peers = options.peers or options.all
            document: dict[str, Any] = {
                "made_at": now_text(),
                "machine": describe_machine(),
                "versions": await describe_versions(stack.redis_url),
                "peer_versions": peer_versions() if is_with_peers else {},
                "missing": [p.title for p in missing_peers()] if is_with_peers else [],
                "settings": vars(options) | {"partitions": PARTITIONS, "symbols": 200},
                "load_at_start": os.getloadavg(),
                "results": results,
            }
            print(json.dumps(document["machine"] | document["versions"]), flush=True)
            for title in document["missing"]:
                print(f"not installed, and left out: {title}", flush=True)
            await warm_up(options, stack, broker)
            if options.all or not options.growth:
                await measure_contenders(options, stack, broker, note)
            if options.all or options.growth:
                await measure_growth(options, stack, broker, note)
        finally:
            await broker.stop()
            if results:  # an hour's work is not lost to the error that ends it
                path = _RESULTS / f"{stamp}.json"
                path.write_text(json.dumps(document, indent=1) + "\n")
                print(f"raw numbers: {path}")
    wanted = targets(results, document["machine"]["cores"])
    for name in measures_in(results):
        print(f"\n{name}\n{as_text(table(results, name))}")
    print(f"\n{as_text(rows([target for target in wanted if target.found]))}\n")
    print("\n".join(summary(results)))
    if options.write_docs:
        print(publish([path]))
    missed = failed(wanted) if options.gate else []
    for title in missed:
        print(f"missed: {title}")
    return 1 if faults(results) or missed else 0


def run() -> None:
    """Run the command; an error is one line."""
    options = parse(sys.argv[1:])
    if reason := supported():
        sys.exit(f"bench: {reason}")
    if options.core:
        print(json.dumps(describe_machine()), flush=True)
        for title, tree in (("compiled", NATIVE), ("not compiled", ROOT)):
            if tree is ROOT or IS_COMPILED:
                print(f"{title}:", flush=True)
                subprocess.run([sys.executable, "-m", "bench.core"], cwd=tree, check=True)
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # fresh topics have no leader yet
    try:
        sys.exit(uvloop.run(main(options)))
    except (ContenderError, StackError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
