"""`meta-strategy topics`."""

import asyncio

import click

from consumer import settings
from consumer.app import topic_names
from consumer.stream.topics import create_topics


@click.group()
def topics() -> None:
    """Create the topics."""


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Partitions of each topic, fixed for its life; by default 8, or what is there.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    help="Copies of each partition; by default 3, or as many as there are brokers.",
)
def create(partitions: int | None, replication: int | None) -> None:
    """Create what is missing; let an empty topic that is too small grow."""
    loaded = settings.load()
    lines = asyncio.run(
        create_topics(
            loaded.connection, topic_names(loaded), partitions=partitions, replication=replication
        )
    )
    for line in lines:
        click.echo(line)
