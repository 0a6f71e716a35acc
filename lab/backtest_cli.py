"""`meta-strategy backtest`."""

import json
import os
import shlex
import sys
from pathlib import Path

import click

from consumer.errors import RefusedError
from consumer.local.market_bars import BarsError, WrongUseError
from consumer.local.paper_signals import EntryRule
from lab import progress


def _check_out(_: click.Context, __: click.Parameter, out: Path) -> Path:
    """Refuse a place that cannot be written before minutes of calculations, not after them."""
    is_new = not os.path.lexists(out)  # a link to what is not there yet is not ours to remove
    try:
        out.open("a").close()
        if is_new:
            out.unlink()
    except OSError as error:
        raise click.BadParameter(f"{out}: cannot be written: {error.strerror}") from None
    return out


@click.command()
@click.option(
    "--bars",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="CSV or Parquet with time, open, high, low, close and, if known, volume; named after the "
    "symbol, such as BTCUSDT_15m.csv. May be given several times. Default: the shipped bars.",
)
@click.option("--symbol", help="Symbol of the bars, instead of the file's name.")
@click.option("--timeframe", help="Merge the bars to this length first, such as 4h.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="As in META_STRATEGY_POLICY, which is the default. May be given several times.",
)
@click.option(
    "--signals",
    default="breakout",
    show_default=True,
    metavar="RULE|FILE",
    help=f"{', '.join(EntryRule)}: the demo's rules; or a CSV file with time, symbol and side "
    "(LONG or SHORT).",
)
@click.option(
    "--fees-bps",
    type=click.FloatRange(0, 1000),
    help="Fees of a round trip [basis points]. Default: 0.8 for currencies, 1 for stocks, 4 for "
    "coins.",
)
@click.option(
    "--spread-bps",
    type=click.FloatRange(0, 1000),
    default=0.0,
    show_default=True,
    help="Spread, paid once a round trip [basis points].",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of signals, draws and resampling."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    callback=_check_out,
    show_default=True,
    help="Where the report is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def backtest(
    *,
    bars: tuple[Path, ...],
    symbol: str | None,
    timeframe: str | None,
    policies: tuple[str, ...],
    signals: str,
    fees_bps: float | None,
    spread_bps: float,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Try policies on market bars, and write a report.

    Signals and closed trades go through the worker's own pipeline, without servers. The settings
    are the worker's: the same environment, the same choices.
    """
    try:
        from lab import report, study

        asked = study.Asked(
            bars=bars,
            symbol=symbol,
            timeframe=timeframe,
            policies=policies,
            signals=signals,
            fees_bps=fees_bps,
            spread_bps=spread_bps,
            seed=seed,
            command=shlex.join(["meta-strategy", *sys.argv[1:]]),
        )
        found = study.make(asked, track=progress.bar)
        page = report.render(found)
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: run `pip install '.[lab]'` in a checkout"
        ) from None
    except WrongUseError as error:
        raise click.UsageError(str(error)) from None
    except BarsError as error:
        raise RefusedError(str(error)) from None
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{out}: cannot be written: {error.strerror}") from None
    if as_json:
        click.echo(json.dumps(study.figures(found), indent=2))
        return
    for line in study.lines(found):
        click.echo(line)
    click.echo(f"report: {out}")
