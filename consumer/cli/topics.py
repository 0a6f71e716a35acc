"""`meta-strategy topics`."""

import asyncio
import re

import click

from consumer import settings
from consumer.stream.topics import create_topics
from consumer.words import plural


@click.group()
def topics() -> None:
    """Create the topics; move to another partition count."""


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Partitions of each topic, fixed for its life; by default 8, or what is there.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    help="Copies of each new topic's partitions; by default 3, or as many as there are brokers.",
)
def create(partitions: int | None, replication: int | None) -> None:
    """Create what is missing; let an empty topic that is too small grow."""
    loaded = settings.load()
    lines = asyncio.run(
        create_topics(
            loaded.connection, loaded.topics, partitions=partitions, replication=replication
        )
    )
    for line in lines:
        click.echo(line)


def _check_suffix(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[a-zA-Z0-9._-]{1,100}", value):
        raise click.BadParameter("must be 1 to 100 letters, digits, '.', '_' or '-'")
    return value


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    required=True,
    help="Partitions of each new topic.",
)
@click.option(
    "--suffix",
    metavar="TEXT",
    callback=_check_suffix,
    help="What the new topics' names end with; by default -pN, N being the partitions.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def migrate(partitions: int, suffix: str | None, yes: bool) -> None:
    """Send the logs to new topics of another partition count.

    Stop workers and producers first. The old topics stay as they are; the table in Redis is
    replaced at the end. Then everybody goes on with the new names.
    """
    from consumer.migrate.plan import plan_migration
    from consumer.migrate.run import migrate as run

    loaded = settings.load()
    if suffix is None:
        suffix = f"-p{partitions}"
    plan = asyncio.run(plan_migration(loaded, partitions, suffix))
    for name, count in plan.counts.items():
        click.echo(
            f"{name} ({count} {plural(count, 'partition')}) -> {name}{suffix} ({partitions})"
        )
    if not yes:
        click.confirm(
            "Copy these topics and replace the table in Redis? Workers and producers must be "
            "stopped",
            abort=True,
        )
    with click.progressbar(length=0, label="copying", show_pos=True, show_eta=True) as bar:

        def grow(total: int) -> None:
            bar.length = (bar.length or 0) + total

        lines = asyncio.run(run(plan, on_total=grow, on_progress=bar.update))
    for line in lines:
        click.echo(line)
    click.echo("Set in worker, producers, routers and every other reader, then start them:")
    for name, value in plan.renamed.items():
        click.echo(f"{name}={value}")
    click.echo(
        f"A router has read {loaded.kafka_decisions_topic} to its end first: in the new topic it "
        "begins behind the copied decisions, or drops the ids that it has seen."
    )
    if (file := loaded.meta_strategy_state_file) is not None:
        click.echo(f"Remove {file} (META_STRATEGY_STATE_FILE): it is of the old topics.")
