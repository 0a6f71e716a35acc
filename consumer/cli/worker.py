"""`meta-strategy worker`."""

import click
import uvloop

from consumer import settings
from consumer.app import run_worker


@click.command()
def worker() -> None:
    """Decide signals and learn from closed trades until SIGTERM or SIGINT."""
    run_worker(settings.load(), uvloop.run)
