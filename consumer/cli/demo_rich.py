"""The demo's screen on a terminal: a bar that fills, tables that move."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from consumer.cli.demo_plain import (
    KEEP_HINT,
    LEARNED_HEADER,
    LEARNED_TITLE,
    STOP_HINT,
    STRATEGY_HEADER,
    learned_rows,
    pace,
    pointers,
    regimes,
    strategy_rows,
    timing,
    verdict,
)
from consumer.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from consumer.local.demo import Result
    from consumer.local.replay_tally import ReplayTally

_INDENT = (0, 0, 0, 2)
_BAR_CELLS = 20
_WIDE = 116  # columns that both tables need beside each other


class RichScreen:
    """Colours, a progress bar and live tables.

    Args:
        console: Where to draw; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    @contextlib.contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Turn a wheel while the step lasts, then tick it off."""
        began_at = time.monotonic()
        ended: list[str] = []
        with self._console.status(f"{doing} ..."):
            yield ended.append
        seconds = f"{time.monotonic() - began_at:.1f} s"
        for line in ended:
            self._console.print(Text.assemble(("✓ ", "green"), line, (f"  {seconds}", "dim")))

    def note(self, line: str) -> None:
        """Print a line."""
        self._console.print(Text(line))

    @contextlib.contextmanager
    def replaying(self, tally: ReplayTally) -> Iterator[Callable[[], None]]:
        """Redraw bar and tables in place, frame by frame; the last one stays."""
        progress = Progress(
            TextColumn("[bold]Replaying signals"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        task = progress.add_task("", total=tally.signals)
        # no thread of its own: it would read the tally while the replay writes it
        with Live(console=self._console, auto_refresh=False) as live:

            def frame() -> None:
                progress.update(task, completed=tally.decided)
                is_wide = self._console.width >= _WIDE
                live.update(_frame(progress, tally, is_wide=is_wide), refresh=True)

            yield frame

    def summary(self, result: Result) -> None:
        """Print what was learned, the verdict, and where to look next."""
        print_ = self._console.print
        print_()
        print_(Text(LEARNED_TITLE, "bold"))
        print_(Padding(_table(LEARNED_HEADER, learned_rows(result), left=3), _INDENT))
        if result.shortfalls:
            print_(Text("✗ Missing or wrong", "bold red"))
            for line in result.shortfalls:
                print_(Padding(Text(line, "red"), _INDENT))
        else:
            print_(Text.assemble(("✓ ", "green"), (verdict(result), "bold")))
        print_(Padding(Text(timing(result), "dim"), _INDENT))
        print_()
        if result.keep:
            grid = Table.grid(padding=(0, 2))
            for pointer in pointers(result):
                grid.add_row(Text(pointer.what, "dim"), Text(pointer.where, overflow="fold"))
            print_(Padding(grid, _INDENT))
        print_(Text(STOP_HINT if result.keep else KEEP_HINT, "yellow" if result.keep else ""))


def _frame(progress: Progress, tally: ReplayTally, *, is_wide: bool) -> RenderableType:
    tables = [_table(STRATEGY_HEADER, strategy_rows(tally), left=1), _regimes(tally)]
    grid = Table.grid(padding=(0, 4))
    if is_wide:
        grid.add_row(*tables)
    else:
        for table in tables:
            grid.add_row(table)
    facts = Text.assemble(
        pace(tally),
        f"; {tally.trades:,} {plural(tally.trades, 'trade')} closed, {tally.rewards:,} learned from",
        style="dim",
    )
    return Group(progress, Padding(grid, _INDENT), Padding(facts, _INDENT))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    for at, name in enumerate(header):
        table.add_column(name, justify="left" if at < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, _style(cell)) for cell in row))
    return table


def _regimes(tally: ReplayTally) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("regime", no_wrap=True)
    table.add_column("seen", justify="right")
    table.add_column("", no_wrap=True)
    for name, seen in regimes(tally):
        cells = round(_BAR_CELLS * seen / max(tally.decided, 1))
        table.add_row(name, f"{seen:,}", Text("▇" * cells, "cyan"))
    return table


def _style(cell: str) -> str:
    """Colour what was earned and what was lost: only R has a sign."""
    if cell.startswith("+"):
        return "green"
    return "red" if cell.startswith("-") and len(cell) > 1 else ""
