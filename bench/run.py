"""`make bench`: the worker beside a plain one, in strictly interleaved rounds.

    make bench                                  # 3 rounds: drain 100,000 signals; 500/s for 15 s
    make bench ARGS="--quick"                   # one short round
    make bench ARGS="--rates 500,2000"          # another rate, too
    make bench ARGS="--profile"                 # where the worker's time goes
    make bench ARGS="--write-docs"              # and write docs/benchmark.md

Kafka and Redis are started for the run, unless KAFKA_BOOTSTRAP_SERVERS and REDIS_URL name some.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.broker import Broker
from bench.contender import NAMES, ContenderError, Run
from bench.drain import measure_drain
from bench.machine import describe_machine, describe_versions, supported
from bench.paced import measure_paced, now_text
from bench.page import write_page
from bench.profiling import profile_drain
from bench.report import as_text, compare, faults, one_line, summary
from bench.traffic import make_signals
from consumer.local.stack import Stack, StackError, running_stack

_RESULTS = Path(__file__).parent / "results"
_PAGE = Path(__file__).parent.parent / "docs" / "benchmark.md"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the worker.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--signals", type=int, default=100_000, help="backlog of a drain")
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rates", default="500", help="paced signals/s, such as 500,2000")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a paced run")
    parser.add_argument(
        "--warm", type=float, default=3.0, help="seconds before it that do not count"
    )
    parser.add_argument("--only", choices=["drain", "paced"], help="measure only this")
    parser.add_argument("--quick", action="store_true", help="1 round, 20,000 signals, 5 s")
    parser.add_argument("--profile", action="store_true", help="profile one drain instead")
    parser.add_argument("--contender", choices=NAMES, default="worker", help="whom to profile")
    parser.add_argument("--gate", action="store_true", help="fail when the worker is slower")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmark.md")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.signals, options.seconds = 1, 20_000, 5.0
    options.rates = [int(rate) for rate in options.rates.split(",") if rate]
    return options


async def measure(
    options: argparse.Namespace, stack: Stack, broker: Broker
) -> list[dict[str, Any]]:
    """Run all rounds, the contenders by turns, and print each result as it comes."""
    signals = make_signals(options.signals, ts=now_text(), symbols=options.symbols)
    results: list[dict[str, Any]] = []

    def note(measure_name: str, contender: str, number: int, result: dict[str, Any]) -> None:
        whole = {"measure": measure_name, "contender": contender, "round": number, **result}
        results.append(whole)
        print(one_line(whole), flush=True)

    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)
        # who goes first changes: what grows during a round must not always hit the same one
        order = NAMES if number % 2 else NAMES[::-1]
        if options.only != "paced":
            for name in order:
                async with Run(name, stack, broker) as run:
                    note("drain", name, number, await measure_drain(run, broker, signals))
        if options.only == "drain":
            continue
        for rate in options.rates:
            for name in order:
                async with Run(name, stack, broker) as run:
                    result = await measure_paced(
                        run, broker, rate=rate, seconds=options.seconds, warm_s=options.warm
                    )
                    note(f"paced-{rate}", name, number, result)
    return results


async def main(options: argparse.Namespace) -> int:
    """Measure, print, keep; give the exit code."""
    async with running_stack(report=print) as stack:
        broker = Broker(stack.bootstrap_servers)
        await broker.start()
        try:
            _RESULTS.mkdir(exist_ok=True)
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            if options.profile:
                signals = make_signals(options.signals, ts=now_text(), symbols=options.symbols)
                output = _RESULTS / f"profile-{options.contender}-{stamp}.txt"
                await profile_drain(options.contender, stack, broker, signals, output)
                return 0
            document: dict[str, Any] = {
                "made_at": now_text(),
                "machine": describe_machine(),
                "versions": await describe_versions(stack.redis_url),
                "settings": vars(options) | {"partitions": 8},
                "load_at_start": os.getloadavg(),
            }
            print(json.dumps(document["machine"] | document["versions"]), flush=True)
            document["results"] = await measure(options, stack, broker)
        finally:
            await broker.stop()
    comparisons = compare(document["results"], options.rates)
    print()
    print(as_text(comparisons))
    print()
    print("\n".join(summary(document["results"])))
    path = _RESULTS / f"{stamp}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"raw numbers: {path}")
    if options.write_docs:
        write_page(_PAGE, document, comparisons)
        print(f"page: {_PAGE}")
    is_slower = options.gate and any(c.holds is False for c in comparisons)
    return 1 if faults(document["results"]) or is_slower else 0


def run() -> None:
    """Run the command; an error is one line."""
    options = parse(sys.argv[1:])
    if reason := supported():
        sys.exit(f"bench: {reason}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # fresh topics have no leader yet
    try:
        sys.exit(uvloop.run(main(options)))
    except (ContenderError, StackError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
