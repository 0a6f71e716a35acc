"""`meta-strategy evaluate`."""

import asyncio
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer import settings
from consumer.settings import Settings
from consumer.words import plural

if TYPE_CHECKING:
    from lab.estimators import Objectives
    from lab.evaluate import Evaluation
    from lab.logged import Log
    from lab.measures import Interval


@click.command()
@click.option("--policy", metavar="NAME", help="As in META_STRATEGY_POLICY, which is the default.")
@click.option("--from-topics", is_flag=True, help="Read the topics; the default.")
@click.option(
    "--decisions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of decisions instead: one JSON message a line.",
)
@click.option(
    "--trades",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of closed trades, likewise.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the resampling.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    *,
    policy: str | None,
    from_topics: bool,
    decisions: Path | None,
    trades: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Judge a policy by logged decisions and what became of them, without trading it.

    The policy is made from the settings as the worker's is, so that other settings can be judged,
    too. It is asked before each logged decision, with the table as it was then.
    """
    if (decisions is None) != (trades is None) or (from_topics and decisions is not None):
        raise click.UsageError("give both --decisions and --trades, or neither (--from-topics)")
    loaded = settings.load(**({} if policy is None else {"meta_strategy_policy": policy}))
    try:
        from lab.evaluate import evaluate as judge

        log = _read(loaded, decisions, trades)
        found = judge(log, seed)
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: run `pip install '.[lab]'` in a checkout"
        ) from None
    name = (
        loaded.selector.policy.name
        if loaded.meta_strategy_enabled
        else f"always {loaded.default_strategy}"
    )
    if as_json:
        click.echo(json.dumps({"policy": name, "evaluation": _figures(found)}, indent=2))
        return
    if found is None:
        many = len(log.decisions)
        click.echo(
            f"{many} {plural(many, 'decision')}, fewer than 2 with a closed trade: nothing yet"
        )
        return
    for line in _lines(name, found, loaded.meta_strategy_reward_unit):
        click.echo(line)


def _figures(found: "Evaluation | None") -> dict[str, Any] | None:
    if found is None:
        return None
    from lab.estimators import Objectives
    from lab.measures import Interval

    figures = {one.name: getattr(found, one.name) for one in fields(found)}
    plain = {
        name: value._asdict() if isinstance(value, Interval | Objectives) else value
        for name, value in figures.items()
    }
    return plain | {"is_enough": found.is_enough}


def _read(loaded: Settings, decisions: Path | None, trades: Path | None) -> "Log":
    from lab import sources
    from lab.progress import bar as track

    if decisions is not None and trades is not None:
        return sources.from_files(loaded, decisions, trades, track=track)
    with click.progressbar(length=0, label="decisions", file=sys.stderr, show_pos=True) as bar:

        def grow(total: int) -> None:
            bar.length = (bar.length or 0) + total

        return asyncio.run(sources.from_topics(loaded, on_total=grow, on_progress=bar.update))


_HEADER = (
    f"{'objective [R]':<26}{'profit':>9}{'Sharpe':>9}{'downside':>10}{'CVaR 5 %':>10}"
    f"{'drawdown':>10}{'95 %':>8}"
)


def _lines(name: str, found: "Evaluation", unit: str) -> list[str]:
    closed = found.decisions - found.open
    risk = "ATR" if unit == "atr" else "initial risk"
    lines = [
        f"{found.decisions} {plural(found.decisions, 'decision')}: {closed} with a closed trade, {found.open} open or never taken",
        f"not judged: {found.excluded} closed by hand or outside, {found.unreadable} unreadable",
        f"1 R is one {risk}; 95 % intervals, as if trades were independent",
        "",
        _row("as decided", found.logged),
        _row(f"{name}: IPS", found.ips),
        _row(f"{name}: SNIPS", found.snips),
        _row(f"{name}: SNIPS, resampled", found.snips_bootstrap),
        _row(f"{name}: DR", found.doubly_robust),
        _row(f"{name}: DR, gain", found.gain),
        "",
        f"effective sample size: {found.effective:.0f} of {closed}",
        f"no support: {found.unsupported:.1%} of its choices could not have been made",
    ]
    if found.open and found.worst is not None and found.best is not None:
        lines.append(
            f"open trades: if all ended by their stop, SNIPS would be {found.worst:+.3f} R; if all "
            f"reached every target, {found.best:+.3f} R; DR takes them as its model expects"
        )
    lines += [
        "",
        _HEADER,
        _objectives("as decided", found.was),
    ]
    if found.would is not None:
        lines.append(_objectives(name, found.would))
    return [*lines, "", _verdict(name, found)]


def _row(label: str, interval: "Interval | None") -> str:
    if interval is None:
        return f"{label:<42}  takes none of the logged arms"
    return f"{label:<42}  {interval.value:+.3f} R   {interval.low:+.3f} .. {interval.high:+.3f}"


def _objectives(label: str, one: "Objectives") -> str:
    sharpe = "-" if one.sharpe is None else f"{one.sharpe:+.3f}"
    return (
        f"{label:<26}{one.profit:>+9.3f}{sharpe:>9}{one.downside:>10.3f}{one.cvar:>+10.2f}"
        f"{one.drawdown:>10.1f}{one.drawdown_95:>8.1f}"
    )


def _verdict(name: str, found: "Evaluation") -> str:
    if not found.is_enough:
        return (
            f"too little overlap to say: {name} and the policy that was at work agree in as much "
            f"as {found.effective:.0f} decisions"
        )
    if found.gain.low > 0.0:
        return f"{name} would have earned more than what was decided"
    if found.gain.high < 0.0:
        return f"{name} would have earned less than what was decided"
    return f"no difference between {name} and what was decided that these decisions can show"
