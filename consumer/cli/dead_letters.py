"""`meta-strategy dead-letters`."""

import asyncio
import json

import click

from consumer import settings
from consumer.stream.dead_letter import DeadLetter, read_dead_letters, resend
from consumer.wire import printable
from consumer.words import plural
from schemas import DeadLetterCode


@click.group("dead-letters")
def dead_letters() -> None:
    """Read and re-send refused records."""


async def _read(loaded: settings.Settings, reason: str | None = None) -> list[DeadLetter]:
    letters = read_dead_letters(loaded.connection, loaded.kafka_dead_letters_topic)
    return [letter async for letter in letters if reason in {None, letter.reason}]


@dead_letters.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(as_json: bool) -> None:
    """List refused records: when, where from, why."""
    letters = asyncio.run(_read(settings.load()))
    for letter in sorted(letters, key=lambda found: found.ts):
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "ts": letter.ts,
                        "topic": letter.topic,
                        "partition": letter.partition,
                        "offset": letter.offset,
                        "reason": letter.reason,
                        "error": letter.error,
                        "key": _text(letter.record.key),
                        "value": _text(letter.record.value),
                    }
                )
            )
        else:
            # anybody may write to that topic, and for a terminal
            line = f"{letter.ts} {_place(letter):28} {letter.reason:20} {letter.error}"
            click.echo(printable(line))
    if not as_json:
        click.echo(f"{len(letters)} dead {plural(len(letters), 'letter')}")


def _place(letter: DeadLetter) -> str:
    partition, offset = ("?" if n is None else n for n in (letter.partition, letter.offset))
    return f"{letter.topic or '?'}-{partition}@{offset}"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


@dead_letters.command()
@click.option(
    "--reason", type=click.Choice([str(code) for code in DeadLetterCode]), help="Only these."
)
@click.option("--max", "limit", type=click.IntRange(1), help="At most so many, oldest first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(reason: str | None, limit: int | None, yes: bool) -> None:
    """Send refused records to their topics again, after their cause was mended."""
    loaded = settings.load()
    letters = sorted(asyncio.run(_read(loaded, reason)), key=lambda found: found.ts)
    whole = [found for found in letters if found.reason != DeadLetterCode.TOO_LARGE]
    if cut := len(letters) - len(whole):
        were = plural(cut, "was cut when it was", "were cut when they were")
        click.echo(f"{cut} {were} kept and cannot be sent again", err=True)
    inputs = loaded.topics.inputs
    # whoever may write a dead letter must not have a decision sent by it
    ours = [found for found in whole if found.topic in inputs]
    if others := len(whole) - len(ours):
        name = plural(others, "names", "name")
        click.echo(
            f"{others} {name} none of {', '.join(inputs)} and cannot be sent again", err=True
        )
    ours = ours[:limit]
    if not ours:
        click.echo("nothing to send")
        return
    if not yes:
        click.confirm(f"Send {len(ours)} {plural(len(ours), 'record')} again?", abort=True)
    sent = asyncio.run(resend(loaded.connection, ours))
    click.echo(f"{sent} {plural(sent, 'record')} sent")
