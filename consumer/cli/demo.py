"""`meta-strategy demo`: the whole system at work, on this machine, within half a minute."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from consumer.errors import SettingsError

if TYPE_CHECKING:
    from consumer.local.demo import DemoOptions, Screen


@click.command()
@click.option(
    "--signals",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="How many signals to send.",
)
@click.option(
    "--bars",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Replay these bars: CSV or Parquet with time, open, high, low, close and, if known, volume;"
    " named after the symbol, such as BTCUSDT_15m.csv. May be given several times.",
)
@click.option("--keep", is_flag=True, help="Leave everything running after it, until Ctrl-C.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the signals.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Partitions of each topic.",
)
@click.option("--plain", is_flag=True, help="Plain lines; the way it is without a terminal.")
def demo(
    *, signals: int, bars: tuple[Path, ...], keep: bool, seed: int, partitions: int, plain: bool
) -> None:
    """Run a worker on a local Kafka and Redis against real market bars, and check its answers.

    A paper executor sends signals, trades the decisions on the bars that followed, and reports each
    trade back. With KAFKA_BOOTSTRAP_SERVERS and REDIS_URL set these servers are used, under
    names of its own. The exit code is 0 if every signal got exactly one decision and every trade
    its reward.
    """
    try:
        from consumer.local.demo import DemoOptions

        screen = _screen(is_plain=plain or not sys.stdout.isatty())
        options = DemoOptions(
            signals=signals, bars=bars, keep=keep, seed=seed, partitions=partitions
        )
        code = asyncio.run(_run(options, screen))
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: run `pip install '.[local]'` in a checkout"
        ) from None
    except KeyboardInterrupt:  # before the loop could listen to it
        code = 128 + signal.SIGINT
    sys.exit(code)


def _screen(*, is_plain: bool) -> Screen:
    if is_plain:
        from consumer.cli.demo_plain import PlainScreen

        return PlainScreen(click.echo)
    from consumer.cli.demo_rich import RichScreen

    return RichScreen()


async def _run(options: DemoOptions, screen: Screen) -> int:
    """Run the demo, end it on a signal, and give the exit code."""
    from aiokafka.errors import KafkaError
    from redis.exceptions import RedisError

    from consumer.local.demo import DemoError, Kept, run_demo
    from consumer.local.market_bars import BarsError, WrongUseError
    from consumer.local.stack import StackError

    # what goes wrong arrives as an exception; its retries would be drawn over the screen
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    kept = Kept()
    work = asyncio.create_task(run_demo(options, screen, kept))
    received: list[int] = []

    def end(number: int) -> None:
        if kept.has_begun and not kept.enough.is_set():
            kept.enough.set()
        else:
            received.append(number)
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return 0 if await work else 1
    except asyncio.CancelledError:
        if not received:
            raise
        click.echo("interrupted; everything is stopped", err=True)
        return 128 + received[0]
    except (SettingsError, WrongUseError) as error:
        click.echo(f"error: {error}", err=True)
        return 2
    except (BarsError, DemoError, StackError) as error:
        click.echo(f"error: {error}", err=True)
    except (KafkaError, RedisError, OSError) as error:
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
    return 1
