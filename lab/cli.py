"""`meta-strategy replay`."""

import asyncio

import click

from consumer import settings
from consumer.errors import RefusedError
from consumer.words import plural
from lab.replay import Replay
from lab.replay import replay as replay_decisions


@click.command()
@click.option(
    "--verify", is_flag=True, help="Exit code 1 unless every decision could be made again."
)
def replay(verify: bool) -> None:
    """Make all decisions again from the topics and compare them with those published."""
    loaded = settings.load()
    with click.progressbar(length=0, label="replaying", show_pos=True, show_eta=True) as bar:

        def grow(total: int) -> None:
            bar.length = (bar.length or 0) + total

        found = asyncio.run(replay_decisions(loaded, on_total=grow, on_progress=bar.update))
    for line in _lines(found):
        click.echo(line)
    if found.difference is not None:
        raise RefusedError(str(found.difference))
    if verify and (found.other_version or found.unsourced):
        raise RefusedError("not every decision was compared")


def _lines(found: Replay) -> list[str]:
    counts = {
        "the same to the byte": found.identical,
        "the same, written otherwise": found.equal,
        "of another policy_version, not compared": found.other_version,
        "whose signal was deleted, not compared": found.unsourced,
        "that no worker wrote": found.foreign,
    }
    lines = [
        f"{count} {plural(count, 'decision')} {text}" for text, count in counts.items() if count
    ]
    if found.unanswered:
        lines.append(
            f"{found.unanswered} {plural(found.unanswered, 'signal')} rightly without one: repeats and bad messages"
        )
    return lines or ["no decisions yet"]
