"""`meta-strategy stack`: Kafka and Redis to work against, without installing either."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from consumer.local.stack import Stack, StackError


@click.group()
def stack() -> None:
    """Run a local Kafka broker and a Redis server, for development."""


@stack.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep topics, keys and logs here between runs. Default: a temporary directory.",
)
@click.option(
    "--kafka-port",
    type=click.IntRange(1, 65535),
    help="Port of the broker. Default: any free one.",
)
@click.option(
    "--redis-port",
    type=click.IntRange(1, 65535),
    help="Port of the Redis server. Default: any free one.",
)
def up(directory: Path | None, kafka_port: int | None, redis_port: int | None) -> None:
    """Start both servers, print how to reach them, and run until Ctrl-C or SIGTERM.

    The first start fetches the broker (40 MB); later ones need no network.
    """
    servers = Stack(
        directory,
        kafka_port=kafka_port or 0,
        redis_port=redis_port or 0,
        report=lambda line: click.echo(line, err=True),
    )
    try:
        asyncio.run(_run(servers))
    except StackError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


async def _run(servers: Stack) -> None:
    """Run the stack until a signal asks for its end, also while it still starts."""
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)

    end = asyncio.create_task(asked.wait())
    life = asyncio.create_task(_live(servers))
    await asyncio.wait({end, life}, return_when=asyncio.FIRST_COMPLETED)
    if not life.done():
        life.cancel()
    end.cancel()
    try:
        await life
    except asyncio.CancelledError:
        if not asked.is_set():
            raise


async def _live(servers: Stack) -> None:
    async with servers:
        click.echo(f"export KAFKA_BOOTSTRAP_SERVERS={servers.bootstrap_servers}")
        click.echo(f"export REDIS_URL={servers.redis_url}")
        click.echo(f"# logs: {servers.logs}; Ctrl-C stops both servers")
        await servers.watch()
