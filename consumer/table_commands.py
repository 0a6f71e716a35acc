"""The table as a whole: read, kept in a file, folded anew."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import StoredPartition
from consumer.domain.summary import BestStrategy, entry
from consumer.errors import RefusedError
from consumer.rebuild import bounds_of, logs_of
from consumer.refold import refold_all
from consumer.settings import Settings
from consumer.store.client import BULK_TIMEOUT_S, connect
from consumer.store.keys import context_name
from consumer.store.redis_view import RedisView
from consumer.store.snapshot import Snapshot, load_snapshot
from consumer.store.table import TableReader
from consumer.stream.groups import has_members
from consumer.stream.log_reader import LogEnds
from consumer.stream.ownership import final_offsets
from consumer.stream.topics import check_topics
from consumer.view import make_view, rewrite


@asynccontextmanager
async def _view(settings: Settings) -> AsyncIterator[tuple[RedisView, int]]:
    partitions = await check_topics(settings.connection, settings.topics)
    view = make_view(settings, partitions)
    try:
        yield view, partitions
    finally:
        await view.close()


async def read_table(settings: Settings, symbol: str | None) -> list[BestStrategy]:
    """Give the entries of the table, or of one symbol, in order."""
    partitions = await check_topics(settings.connection, settings.topics)
    client = connect(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        timeout_s=BULK_TIMEOUT_S,
    )
    try:
        reader = TableReader(client, settings.meta_strategy_key_prefix, partitions)
        table = await reader.table(symbol)
    finally:
        await client.aclose()
    order = list(settings.all_profiles)
    return [
        entry(context, strategy, row[strategy])
        for context, row in sorted(table.rows.items(), key=lambda item: context_name(item[0]))
        for strategy in sorted(row, key=lambda s: (order.index(s) if s in order else 99, s))
    ]


async def export_table(settings: Settings, path: Path) -> int:
    """Write the table with its watermarks to a file; give the number of partitions in it.

    Raises:
        RefusedError: The file cannot be written.
    """
    async with _view(settings) as (view, partitions):
        snapshot = await view.snapshot(partitions)
    try:
        snapshot.save(path)
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}") from error
    return len(snapshot.partitions)


async def _refuse_while_served(settings: Settings) -> None:
    if await has_members(settings.connection, settings.kafka_group_id):
        raise RefusedError(
            f"the group {settings.kafka_group_id} has members: stop the workers first, they would "
            "write their own table over it"
        )


async def plan_import(settings: Settings, path: Path) -> Snapshot:
    """Read a file, and find out whether the table may be replaced by it; nothing is changed.

    Raises:
        RefusedError: It is no snapshot, was folded otherwise, or workers are running.
    """
    snapshot = load_snapshot(path)
    async with _view(settings) as (view, partitions):
        snapshot.check(view.meta)
    if beyond := [n for n in snapshot.partitions if n >= partitions]:
        raise RefusedError(f"{path}: has partition {beyond[0]}, the topics have {partitions}")
    await _refuse_while_served(settings)
    return snapshot


async def import_table(settings: Settings, snapshot: Snapshot) -> int:
    """Replace the table by one from a file; give the number of partitions in it.

    Args:
        settings: All settings.
        snapshot: As `plan_import` gave it.

    Raises:
        RefusedError: The file is broken inside, or workers are running.
    """
    async with _view(settings) as (view, _):
        await _refuse_while_served(settings)  # they may have been started since
        states = {
            number: _restored(settings, snapshot.get(number)) for number in snapshot.partitions
        }
        for number, state in states.items():
            await rewrite(view, number, state)
    return len(states)


def _restored(settings: Settings, stored: StoredPartition | None) -> PartitionState:
    state = PartitionState(settings.fold)
    if stored is not None:
        state.restore(stored)
    return state


async def plan_rebuild(settings: Settings) -> None:
    """Find out whether a rebuild may begin; nothing is changed.

    Raises:
        RefusedError: Topics do not fit, or workers are running.
        TransientError: Kafka does not answer.
    """
    await check_topics(settings.connection, settings.topics)
    await _refuse_while_served(settings)


async def rebuild_table(
    settings: Settings,
    *,
    on_total: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> list[str]:
    """Fold the logs from their beginning and replace the table by it.

    Closed trades are folded to where the group has worked them off, so that the workers go on
    from there, dead letters included.

    Returns:
        What was folded, a line a partition.

    Raises:
        RefusedError: Workers are running.
    """
    partitions = await check_topics(settings.connection, settings.topics)
    await _refuse_while_served(settings)  # whatever was found before somebody was asked
    inputs = [
        log
        for number in range(partitions)
        for log in logs_of(settings.topics, number).all
        if log.topic != settings.kafka_decisions_topic
    ]
    worked_off = await final_offsets(settings.connection, settings.kafka_group_id, inputs)
    sizes = {}
    async with LogEnds(settings.connection) as ends:
        for number in range(partitions):
            first, last = await bounds_of(ends, logs_of(settings.topics, number))
            sizes[number] = sum(last) - sum(first)
    on_total(sum(sizes.values()))
    return await refold_all(settings, sizes, worked_off, on_progress=on_progress)
