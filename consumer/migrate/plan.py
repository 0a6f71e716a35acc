"""Whether a migration may begin, and under which names."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from consumer.errors import RefusedError
from consumer.settings import Settings
from consumer.stream.clients import admin_client
from consumer.stream.groups import has_members
from consumer.stream.topics import ever_written, partition_counts
from consumer.view import make_view
from consumer.words import plural


def moved(settings: Settings, suffix: str) -> Settings:
    """Give the settings with which everybody goes on afterwards: the topics bear a suffix."""
    names = ["kafka_signals_topic", "kafka_trade_closed_topic", "kafka_decisions_topic"]
    if settings.kafka_candles_topic:
        names.append("kafka_candles_topic")
    return settings.model_copy(update={name: getattr(settings, name) + suffix for name in names})


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration that may begin.

    Args:
        old: The settings that held so far.
        new: The same with the names of the new topics; see `moved`.
        partitions: Of each new topic.
        counts: Partitions of each old topic.
    """

    old: Settings
    new: Settings
    partitions: int
    counts: Mapping[str, int]

    @property
    def renamed(self) -> dict[str, str]:
        """The variables to change, with their new values."""
        old, new = self.old.model_dump(), self.new.model_dump()
        return {name.upper(): str(new[name]) for name in new if new[name] != old[name]}


async def plan_migration(settings: Settings, partitions: int, suffix: str) -> Migration:
    """Find out whether a migration may begin; nothing is changed.

    Raises:
        RefusedError: Workers run, old topics are missing, or new ones hold records.
        TransientError: Kafka or Redis does not answer.
    """
    new = moved(settings, suffix)
    await refuse_while_served(settings)
    connection, old_names, new_names = settings.connection, settings.topics, new.topics
    async with admin_client(connection) as admin:
        found = await partition_counts(
            admin, [*old_names.co_partitioned, *new_names.co_partitioned]
        )
    counts = {name: found[name] or 0 for name in old_names.co_partitioned}
    if missing := [name for name, count in counts.items() if not count]:
        raise RefusedError(
            f"{plural(len(missing), 'topic')} {', '.join(missing)} "
            f"{plural(len(missing), 'is', 'are')} missing: there is nothing to migrate; run "
            "`meta-strategy topics create`"
        )
    if taken := {*new_names.co_partitioned} & {*counts, old_names.dead_letters}:
        raise RefusedError(f"topic {min(taken)} is one of the old ones: choose another --suffix")
    logs = [
        log for name in new_names.co_partitioned for log in logs_of_topic(name, found[name] or 0)
    ]
    if written := await ever_written(connection, logs):
        raise RefusedError(
            f"topic {written[0].topic} holds records already: of a migration that was broken off, or "
            "of somebody else; choose other names with --suffix, or delete it"
        )
    view = make_view(settings, partitions)
    try:
        await view.positions([0])  # it is written last: better to know now that it is away
    finally:
        await view.close()
    return Migration(settings, new, partitions, counts)


async def refuse_while_served(settings: Settings) -> None:
    """Make sure that no worker is a member of the group.

    Raises:
        RefusedError: One is.
        TransientError: Kafka does not answer.
    """
    if await has_members(settings.connection, settings.kafka_group_id):
        raise RefusedError(
            f"the group {settings.kafka_group_id} has members: stop the workers first, what they "
            "decide meanwhile would be missing from the new topics"
        )


def logs_of_topic(topic: str, partitions: int) -> list[TopicPartition]:
    """Name the logs of a topic."""
    return [TopicPartition(topic, number) for number in range(partitions)]
