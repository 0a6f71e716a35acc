"""The topics: made right, and checked before anything is read."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from consumer.connection import KafkaConnection, TopicNames
from consumer.errors import RefusedError, TransientError
from consumer.stream.clients import admin_client
from consumer.stream.log_reader import LogReader
from consumer.words import plural

_TIMEOUT_S = 30.0
_KNOWN_POLL_S = 0.05
_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""The memory of the system: never compacted, never deleted (contract, section 1)."""
_OF_THE_TOPIC = 1
"""Source of a setting that was made for the topic itself; others are a broker's, or Kafka's defaults."""


async def partition_counts(
    admin: AIOKafkaAdminClient, topics: Sequence[str]
) -> dict[str, int | None]:
    """Count the partitions of topics; None for one that is not there.

    Raises:
        RefusedError: This Kafka user may not know of one.
    """
    found = await _copies(admin, topics)
    return {name: None if copies is None else len(copies) for name, copies in found.items()}


async def _copies(
    admin: AIOKafkaAdminClient, topics: Sequence[str]
) -> dict[str, Sequence[int] | None]:
    """Count the copies of each partition of topics; None for one that is not there."""
    found: dict[str, Sequence[int] | None] = dict.fromkeys(topics)
    for description in await admin.describe_topics(list(topics)):
        if description["error_code"] == TopicAuthorizationFailedError.errno:
            raise RefusedError(
                f"topic {description['topic']}: KAFKA_SASL_USERNAME may neither read nor write it: "
                "a rule is missing, or it is another user's (docs/deployment.md, access rules)"
            )
        if description["error_code"] == 0:
            found[description["topic"]] = [
                len(partition["replicas"]) for partition in description["partitions"]
            ]
    return found


async def topic_configs(
    admin: AIOKafkaAdminClient, topics: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Read the settings of topics; one that may not be read is left out."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for error_code, _, _, name, entries in response.resources:
            if error_code == 0:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def check_topics(connection: KafkaConnection, names: TopicNames) -> int:
    """Check that the topics fit each other, before anything is read.

    Returns:
        Their partition count.

    Raises:
        RefusedError: One is missing, counts differ, or one of the memory is compacted.
        TransientError: Kafka does not answer.
    """
    async with admin_client(connection) as admin:
        counts = await partition_counts(admin, [*names.co_partitioned, *names.lone])
        if missing := [name for name, count in counts.items() if count is None]:
            raise RefusedError(
                f"{plural(len(missing), 'topic')} {', '.join(missing)} "
                f"{plural(len(missing), 'is', 'are')} missing: run `meta-strategy topics create`"
            )
        wanted = {name: counts[name] for name in names.co_partitioned}
        if len(set(wanted.values())) > 1:
            text = ", ".join(f"{name} has {count}" for name, count in wanted.items())
            raise RefusedError(
                f"partition counts differ ({text}): one partition number must own a symbol "
                "everywhere; run `meta-strategy topics create` while the smaller ones are empty, "
                "else `meta-strategy topics migrate`"
            )
        configs = await topic_configs(admin, names.kept)
    for name, config in configs.items():
        if "compact" in config.get("cleanup.policy", ""):
            raise RefusedError(
                f"topic {name} is compacted: the table could not be folded from it again; set "
                "cleanup.policy=delete and retention.ms=-1"
            )
        # a candle tells its own times
        if config.get("message.timestamp.type") == "LogAppendTime" and name != names.candles:
            raise RefusedError(
                f"topic {name} has message.timestamp.type=LogAppendTime: ages go by the time that "
                "the writer gave; set it to CreateTime"
            )
    return counts[names.signals] or 0


async def create_topics(
    connection: KafkaConnection,
    names: TopicNames,
    *,
    partitions: int | None,
    replication: int | None,
) -> list[str]:
    """Create what is missing, and let an empty topic that is too small grow.

    Args:
        connection: How to reach Kafka.
        names: The topics.
        partitions: Count wanted; that of the largest one there, else 8, when None.
        replication: Copies of each new one; 3, or as many as there are brokers, when None.

    Returns:
        What was done, a line each.

    Raises:
        RefusedError: A topic holds records and has too few partitions.
        TransientError: Kafka does not answer, or does not tell of what it made.
    """
    async with admin_client(connection) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = min(3, brokers) if replication is None else replication
        found = await _copies(admin, [*names.co_partitioned, *names.lone])
        counts = {name: None if each is None else len(each) for name, each in found.items()}
        there = [counts[name] or 0 for name in names.co_partitioned]
        wanted = partitions or max(there) or 8
        if max(there) > wanted:
            largest = max(names.co_partitioned, key=lambda name: counts[name] or 0)
            raise RefusedError(
                f"topic {largest} has {max(there)} partitions already: Kafka takes none away; use "
                "other names, or `meta-strategy topics migrate`"
            )
        lines = [
            await _make_right(admin, connection, name, names, counts[name], size, copies)
            for name, size in (
                dict.fromkeys([*names.co_partitioned, names.dead_letters], wanted)
                # one log, whose offsets number what was told
                | dict.fromkeys(filter(None, [names.pool]), 1)
            ).items()
        ]
        if replication is not None:
            lines += [
                f"{name}: its copies stay at {min(each)}, not {replication}: "
                "kafka-reassign-partitions.sh changes them"
                for name, each in found.items()
                if each and min(each) != replication
            ]
        await _until_known(
            admin, dict.fromkeys(names.co_partitioned, wanted) | dict.fromkeys(names.lone, 1)
        )
        return lines


async def _make_right(
    admin: AIOKafkaAdminClient,
    connection: KafkaConnection,
    name: str,
    names: TopicNames,
    count: int | None,
    wanted: int,
    copies: int,
) -> str:
    if count is None:
        configs: dict[str, str] = dict(_FOREVER) if name in names.kept else {}
        if copies >= 3:
            configs["min.insync.replicas"] = "2"
        await _create(admin, NewTopic(name, wanted, copies, topic_configs=configs))
        return (
            f"{name}: created with {wanted} {plural(wanted, 'partition')}, "
            f"{copies} {plural(copies, 'copy', 'copies')}"
        )
    text = f"{name}: has {count} {plural(count, 'partition')}"
    if count < wanted and name != names.dead_letters:
        if await ever_written(connection, [TopicPartition(name, n) for n in range(count)]):
            raise RefusedError(
                f"topic {name} has {count} of {wanted} partitions and holds records, which growing "
                "would part from their symbols: run `meta-strategy topics migrate`"
            )
        _raise_on_error(await admin.create_partitions({name: NewPartitions(wanted)}), name)
        text = f"{name}: grew from {count} to {wanted} {plural(wanted, 'partition')}"
    if name in names.kept and name != names.candles:  # a feed that is there is somebody else's
        current = (await topic_configs(admin, [name])).get(name, {})
        if any(current.get(key) != value for key, value in _FOREVER.items()):
            # the client has no request that changes some alone: what is not named would be lost
            kept = await _own_configs(admin, name) | _FOREVER
            resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=kept)
            for response in await admin.alter_configs([resource]):
                _raise_on_error(response, name)
            text += f"; set {', '.join(f'{k}={v}' for k, v in _FOREVER.items())}"
    return text


async def _own_configs(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    """Read the settings that were made for a topic itself.

    Raises:
        RefusedError: They may not be read.
    """
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    _raise_on_error(response, name)
    ((_, _, _, _, entries),) = response.resources
    return {entry[0]: entry[1] for entry in entries if entry[3] == _OF_THE_TOPIC}


async def _until_known(admin: AIOKafkaAdminClient, least: Mapping[str, int]) -> None:
    """Wait until brokers know of topics and partitions: they are told after the answer."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while True:
                counts = await partition_counts(admin, list(least))
                if all((counts[name] or 0) >= count for name, count in least.items()):
                    return
                await asyncio.sleep(_KNOWN_POLL_S)
    except TimeoutError:
        raise TransientError(
            f"Kafka: topics were made, but no broker tells of all of them after {_TIMEOUT_S:.0f} s"
        ) from None


async def _create(admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
    # another process may be faster: the counts are checked at every start
    with contextlib.suppress(TopicAlreadyExistsError):
        _raise_on_error(await admin.create_topics([topic]), topic.name)


def _raise_on_error(response: object, name: str) -> None:
    errors: Sequence[tuple[object, ...]] = (
        getattr(response, "topic_errors", None)
        or getattr(response, "topic_error_codes", None)
        # of settings
        or [(entry[3], *entry[:2]) for entry in getattr(response, "resources", ())]
    )
    for entry in errors:
        if entry[0] == name and entry[1] != 0:
            error = for_code(entry[1])
            message = entry[2] if len(entry) > 2 else ""
            if error is TopicAlreadyExistsError:
                raise error
            raise RefusedError(f"topic {name}: {message or error.__name__}")


async def ever_written(
    connection: KafkaConnection, partitions: Sequence[TopicPartition]
) -> list[TopicPartition]:
    """Name the logs that something was ever written to, be it committed or not.

    Raises:
        TransientError: Kafka does not answer.
    """
    async with LogReader(connection, (), isolation="read_uncommitted") as reader:
        ends = await reader.ends(partitions)
    return [log for log, end in ends.items() if end]
