"""A migration from its beginning to its end."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from consumer.domain.context import ContextKey
from consumer.domain.qtable import Row
from consumer.errors import MetaStrategyError, RefusedError, TransientError
from consumer.migrate.copy import Copy, Counts
from consumer.migrate.old import OldPartition, open_old
from consumer.migrate.plan import Migration, logs_of_topic, refuse_while_served
from consumer.store.client import BULK_TIMEOUT_S, REDIS_ERRORS, connect
from consumer.store.keys import PartitionKeys
from consumer.store.table import TableReader
from consumer.stream.dense_producer import DenseProducer
from consumer.stream.groups import commit_offsets
from consumer.stream.log_reader import LogEnds
from consumer.stream.topics import check_topics, create_topics
from consumer.table_commands import rebuild_table
from consumer.words import plural

_CREATION_LIMIT_S = 10.0
"""Brokers hear of a new topic one after the other, within a second."""
_CREATION_POLL_S = 0.1


async def migrate(
    migration: Migration,
    *,
    on_total: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Create the new topics, send the logs to them, and fold the table from them.

    The old topics and the group's offsets in them stay as they are. The view in Redis is replaced
    as the last step; until then everything can be dropped, and done again under other names.

    Args:
        migration: As `plan_migration` gave it.
        on_total: Told how many more records there are.
        on_progress: Told how many were copied or folded.

    Returns:
        What was done, a line each.

    Raises:
        RefusedError: Somebody works on the old topics, or on the new ones.
        TransientError: Kafka or Redis does not answer.
    """
    old, new, connection = migration.old, migration.new, migration.old.connection
    lines = await create_topics(
        connection, new.topics, partitions=migration.partitions, replication=None
    )
    await _until_usable(migration)
    counts = Counts()
    async with AsyncExitStack() as stack:
        # these read nothing: an answer to them waits behind no fetch
        ends = await stack.enter_async_context(LogEnds(connection))
        parts = await open_old(migration, stack, ends)
        counts.deleted = sum(sum(part.start) for part in parts)
        producer = await stack.enter_async_context(DenseProducer(connection))
        copy = Copy(migration, producer, ends, counts, on_total, on_progress)
        await copy.worked_off(parts)
        folded = {
            log: producer.next_offset(log)
            for name in new.topics.memory
            if name != new.kafka_decisions_topic
            for log in logs_of_topic(name, migration.partitions)
        }
        await copy.waiting(parts)
        await refuse_while_served(old)
        for part in parts:
            log = part.logs.decisions
            if await copy.end(log) != part.end.decisions:
                raise RefusedError(
                    f"{log.topic}-{log.partition}: a worker decided meanwhile: stop the workers, and "
                    "start over with another --suffix"
                )
        signals = dict.fromkeys(logs_of_topic(new.kafka_signals_topic, migration.partitions), 0)
        await commit_offsets(connection, new.kafka_group_id, signals | folded)
        try:
            lines += await rebuild_table(new, on_total=on_total, on_progress=on_progress)
            lines += [*counts.lines(), await _clear_and_compare(migration, parts)]
        except MetaStrategyError as error:
            raise RefusedError(
                f"{error}. The new topics are complete, the table is not: run `meta-strategy "
                "qtable rebuild` with "
                + " ".join(f"{name}={value}" for name, value in migration.renamed.items())
            ) from error
        if grown := await copy.grown(parts):
            lines.append(
                f"warning: {grown} {plural(grown, 'record')} came to the old input topics at the very "
                f"end and {plural(grown, 'is', 'are')} not in the new ones: their producers were to be "
                "stopped before"
            )
    return lines


async def _until_usable(migration: Migration) -> None:
    """Wait until the new topics are known everywhere, and check what they are."""
    give_up_at = time.monotonic() + _CREATION_LIMIT_S
    while True:
        try:
            found = await check_topics(migration.new.connection, migration.new.topics)
        except RefusedError:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_CREATION_POLL_S)
        else:
            break
    if found != migration.partitions:
        raise RefusedError(
            f"the new topics have {found} {plural(found, 'partition')}, not {migration.partitions}"
        )


async def _clear_and_compare(migration: Migration, parts: Sequence[OldPartition]) -> str:
    """Delete what the view holds of partitions that are no more; compare the tables."""
    settings = migration.new
    client = connect(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        timeout_s=BULK_TIMEOUT_S,
    )
    try:
        for number in range(migration.partitions, max(migration.counts.values())):
            keys = PartitionKeys(settings.meta_strategy_key_prefix, number)
            rows = [
                keys.row_prefix + str(name) for name in await client.hkeys(keys.key("contexts"))
            ]
            await client.delete(keys.key("watermark"))  # not whole from here on
            for row in rows:
                await client.delete(row)
            await client.delete(*keys.fixed)
        reader = TableReader(client, settings.meta_strategy_key_prefix, migration.partitions)
        table = (await reader.table()).rows
    except REDIS_ERRORS as error:
        raise TransientError(f"Redis does not answer: {error}") from error
    finally:
        await client.aclose()
    before: dict[ContextKey, Row] = {}
    for part in parts:
        before |= part.state.table.rows
    differing = [key for key in before.keys() | table.keys() if before.get(key) != table.get(key)]
    if differing:
        return (
            f"warning: {len(differing)} of {len(before)} {plural(len(before), 'context')} "
            f"{plural(len(differing), 'differs', 'differ')} from the old fold, "
            f"{differing[0].symbol} among them: ids, or what a partition remembers at most, met "
            "otherwise than before"
        )
    many = len(before)
    return (
        f"{plural(many, 'the', 'all')} {many} {plural(many, 'context is', 'contexts are')} equal to "
        "the old fold's"
    )
