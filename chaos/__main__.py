"""`make chaos`, and the measures of reliability: `python -m chaos --help`."""

import argparse
import logging
import sys
import time
from dataclasses import replace
from typing import Any

import uvloop

from chaos import page, report, soak, stops, storm, takeover
from chaos.storm import Plan

_RATE = 400.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help="write docs/chaos.md")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--seed", type=int, default=7, help="of all draws")
        return added

    run = command("run", "Faults of all kinds, mixed.")
    run.add_argument("--minutes", type=float, default=5.0)
    run.add_argument("--rate", type=float, default=_RATE, help="signals a second")
    big = command("storm", "Kills, pauses and losses under much traffic.")
    big.add_argument("--signals", type=int, default=500_000)
    big.add_argument("--trades", type=int, default=200_000)
    big.add_argument("--kills", type=int, default=200)
    big.add_argument("--pauses", type=int, default=50)
    big.add_argument("--broker-kills", type=int, default=20)
    big.add_argument("--redis-losses", type=int, default=20)
    big.add_argument("--rate", type=float, default=1_200.0, help="signals a second, at most")
    for name, text in (
        ("brokers", "Three brokers, killed and frozen in turn."),
        ("cluster", "A Redis Cluster of three nodes, each lost in turn."),
    ):
        kin = command(name, text)
        kin.add_argument("--minutes", type=float, default=5.0)
        kin.add_argument("--rate", type=float, default=200.0, help="signals a second")
    least = command("least", "Faults of all kinds but standing still, workers at least once.")
    least.add_argument("--minutes", type=float, default=5.0)
    least.add_argument("--rate", type=float, default=_RATE, help="signals a second")
    takeover = command("takeover", "How long answers stay away after a kill.")
    takeover.add_argument("--kills", type=int, default=20, help="of each contender")
    takeover.add_argument("--rate", type=float, default=200.0, help="signals a second")
    soak = command("soak", "Steady traffic with random faults: memory and lag.")
    soak.add_argument("--minutes", type=float, default=30.0)
    soak.add_argument("--signals-per-s", type=float, default=1_000.0)
    soak.add_argument("--trades-per-s", type=float, default=500.0)
    stops = command("stops", "SIGTERM while servers are well, frozen or dead: exit times.")
    stops.add_argument("--count", type=int, default=100)
    commands.add_parser("docs", help="Write docs/chaos.md from the results there are.")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """Make the plan of a run that is judged as a whole."""
    if options.command == "storm":
        return Plan(
            what="storm",
            seed=options.seed,
            signals=options.signals,
            # some are repeated, corrected or closed twice: a little more than asked for
            share=min(1.0, options.trades / options.signals),
            rate=options.rate,
            kills=options.kills,
            pauses=options.pauses,
            broker_kills=options.broker_kills,
            redis_losses=options.redis_losses,
        )
    minutes: float = options.minutes
    signals = round(minutes * 60 * options.rate)

    def often(a_minute: float) -> int:
        return max(1, int(minutes * a_minute + 0.5))

    if options.command == "brokers":
        return Plan(
            what="brokers",
            seed=options.seed,
            signals=signals,
            share=0.5,
            rate=options.rate,
            workers=2,
            brokers=3,
            kills=often(1),
            pauses=often(0.5),
            broker_kills=often(2),
            broker_freezes=often(1),
        )
    if options.command == "cluster":
        return Plan(
            what="cluster",
            seed=options.seed,
            signals=signals,
            share=0.5,
            rate=options.rate,
            workers=2,
            redis_nodes=3,
            kills=often(1),
            redis_losses=often(4),
            redis_freezes=often(1),
        )
    whole = Plan(
        what="run",
        seed=options.seed,
        signals=signals,
        share=0.5,
        rate=options.rate,
        kills=often(6),
        pauses=often(2),
        broker_kills=often(0.8),
        broker_freezes=often(0.4),
        redis_losses=often(1.6),
        redis_freezes=often(0.6),
        network=often(3),
        clock_jumps=often(2),
        candles=True,
        has_refusals=True,
    )
    if options.command == "least":
        # a worker that stood still sends what the group has not refused yet: no part of what is promised
        return replace(
            whole,
            what="least",
            guarantee="at_least_once",
            kills=often(8),
            pauses=0,
            broker_freezes=0,
            has_refusals=False,
        )
    return whole


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    match options.command:
        case "takeover":
            return await takeover.measure(
                kills=options.kills, rate=options.rate, seed=options.seed, say=say
            )
        case "soak":
            return await soak.measure(
                minutes=options.minutes,
                signals_per_s=options.signals_per_s,
                trades_per_s=options.trades_per_s,
                seed=options.seed,
                say=say,
            )
        case "stops":
            return await stops.measure(count=options.count, seed=options.seed, say=say)
        case _:
            return await storm.run(plan_of(options), say)


def main() -> None:
    """Run a command; exit code 1 when an invariant was violated."""
    options = parse(sys.argv[1:])
    # the clients of the harness see every fault, too: that is no news
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    is_well = True
    if options.command != "docs":
        result = uvloop.run(_measure(options))
        report.show(result)
        print(report.save(result))
        is_well = report.holds(result)
    if options.command == "docs" or options.write_docs:
        missing = page.write(report.PAGE)
        print(f"{report.PAGE}; no result of: {', '.join(missing) or 'none'}")
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
