"""`meta-strategy qtable`."""

import asyncio
import json
import os
from pathlib import Path

import click

from consumer import settings
from consumer.domain.summary import BestStrategy
from consumer.table_commands import (
    export_table,
    import_table,
    plan_import,
    plan_rebuild,
    read_table,
    rebuild_table,
)
from consumer.words import plural


@click.group()
def qtable() -> None:
    """Show, export, import or rebuild what was learned."""


@qtable.command()
@click.argument("symbol", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show(symbol: str | None, as_json: bool) -> None:
    """Show the Q-table, or the part of one SYMBOL."""
    entries = asyncio.run(read_table(settings.load(), symbol))
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    if not entries:
        click.echo("no rewards yet" + (f" for {symbol}" if symbol else ""))
        return
    click.echo(
        f"{'account':10} {'symbol':14} {'regime':16} {'strategy':20} "
        f"{'Q [R]':>9} {'mean [R]':>9} {'rewards':>8} {'wins':>6} {'total [R]':>10}"
    )
    for e in entries:
        click.echo(
            f"{e['account']:10} {e['symbol']:14} {_context(e):16} {e['strategy']:20} "
            f"{e['ema_reward']:+9.3f} {e['avg_reward']:+9.3f} {e['count']:8d} "
            f"{e['win_rate']:6.0%} {e['total_r']:+10.2f}"
        )


def _context(entry: BestStrategy) -> str:
    """Name a regime, and the variant that it is told apart by."""
    regime, variant = entry["regime"], entry["variant"]
    return regime if variant is None else f"{regime}:{variant}"


@qtable.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(file: Path) -> None:
    """Write the whole table, with its watermarks, to a JSON FILE."""
    count = asyncio.run(export_table(settings.load(), file))
    click.echo(f"{file}: {count} {plural(count, 'partition')}")


@qtable.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(file: Path, yes: bool) -> None:
    """Replace the table by an exported FILE; workers fold the logs on from there.

    Without a terminal nothing is asked.
    """
    loaded = settings.load()
    snapshot = asyncio.run(plan_import(loaded, file))
    if not yes and os.isatty(0):  # a script has nobody who could answer
        click.confirm(f"Replace the table in Redis by {file}? Workers must be stopped", abort=True)
    count = asyncio.run(import_table(loaded, snapshot))
    click.echo(f"{count} {plural(count, 'partition')} imported")


@qtable.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Fold the logs from their beginning; for new settings, too."""
    loaded = settings.load()
    asyncio.run(plan_rebuild(loaded))
    if not yes:
        click.confirm("Replace the table in Redis by a fold of the logs?", abort=True)
    with click.progressbar(length=0, label="folding", show_pos=True, show_eta=True) as bar:

        def grow(total: int) -> None:
            bar.length = (bar.length or 0) + total

        lines = asyncio.run(rebuild_table(loaded, on_total=grow, on_progress=bar.update))
    for line in lines:
        click.echo(line)
