"""Does everything fit? Each check is a line."""

from collections.abc import AsyncIterator, Mapping
from typing import Literal, NamedTuple, cast

from consumer.domain.stored import Position
from consumer.errors import RefusedError, TransientError
from consumer.rebuild import beyond_end, logs_of
from consumer.settings import Settings
from consumer.store.client import BULK_TIMEOUT_S, REDIS_ERRORS, RedisClient, connect
from consumer.store.eviction import eviction_problem
from consumer.store.keys import PartitionKeys
from consumer.stream.clients import admin_client
from consumer.stream.log_reader import LogReader
from consumer.stream.topics import check_topics, topic_configs
from consumer.view import make_view
from consumer.words import plural


class Finding(NamedTuple):
    """One checked thing."""

    subject: str
    grade: Literal["ok", "warning", "error"]
    text: str


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Check Kafka, the topics and Redis, one after the other."""
    partitions: int | None = None
    try:
        async with admin_client(settings.connection) as admin:
            brokers = (await admin.describe_cluster())["brokers"]
            configs = await topic_configs(admin, settings.topics.kept)
        many = len(brokers)
        yield Finding("kafka", "ok", f"{many} {plural(many, 'broker answers', 'brokers answer')}")
        partitions = await check_topics(settings.connection, settings.topics)
        yield Finding("topics", "ok", f"{partitions} {plural(partitions, 'partition')} each")
        for name, config in configs.items():
            for limit in ("retention.ms", "retention.bytes"):
                if config.get(limit) != "-1":
                    yield Finding(
                        "topics",
                        "warning",
                        f"{name} has {limit}={config.get(limit)}: what it deletes cannot be folded "
                        "again; set -1",
                    )
    except TransientError as error:
        yield Finding("kafka", "error", str(error))
    except RefusedError as error:
        yield Finding("topics", "error", str(error))
    client = connect(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        timeout_s=BULK_TIMEOUT_S,
    )
    try:
        async for finding in _examine_redis(client):
            yield finding
        if partitions is not None:
            yield await _examine_view(settings, client, partitions)
    except (*REDIS_ERRORS, TransientError) as error:
        yield Finding("redis", "error", f"REDIS_URL: does not answer: {error}")
    finally:
        await client.aclose()


async def _examine_redis(client: RedisClient) -> AsyncIterator[Finding]:
    await client.ping()
    yield Finding("redis", "ok", "answers")
    is_wrong, text = await eviction_problem(client)
    if text:
        yield Finding("redis", "error" if is_wrong else "warning", text)
    else:
        yield Finding("redis", "ok", "maxmemory-policy is noeviction")


async def _refuse_beyond_ends(settings: Settings, positions: Mapping[int, Position | None]) -> None:
    folded = {
        log: offset
        for number, position in positions.items()
        if position is not None
        for log, offset in zip(logs_of(settings.topics, number), position, strict=True)
        if log is not None
    }
    async with LogReader(settings.connection, (), isolation="read_uncommitted") as reader:
        ends = await reader.ends(list(folded)) if folded else {}
    for log, offset in folded.items():
        if offset > ends[log]:
            raise beyond_end(log, offset, ends[log])


async def _examine_view(settings: Settings, client: RedisClient, partitions: int) -> Finding:
    view = make_view(settings, partitions)
    folded = 0
    try:
        for number in range(partitions):
            keys = PartitionKeys(settings.meta_strategy_key_prefix, number)
            if stored := cast("dict[str, str]", await client.hgetall(keys.key("meta"))):
                view.meta.check(stored, f"partition {number} in Redis")
                folded += 1
        positions = await view.positions(range(partitions))
        try:
            await _refuse_beyond_ends(settings, positions)
        except TransientError as error:
            return Finding("kafka", "error", str(error))
    except RefusedError as error:
        return Finding("table", "error", str(error))
    finally:
        await view.close()
    are = plural(partitions, "partition is", "partitions are")
    return Finding("table", "ok", f"{folded} of {partitions} {are} in Redis")
