"""The table as a whole: read, kept in a file, folded anew."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import TopicPartition

from consumer.app import make_view
from consumer.domain.partition_state import PartitionState, Position, StoredPartition
from consumer.domain.summary import BestStrategy, entry
from consumer.errors import RefusedError
from consumer.ports import WriteAnswer
from consumer.rebuild import bounds_of, catch_up, logs_of
from consumer.settings import Settings
from consumer.store.client import BULK_TIMEOUT_S, connect
from consumer.store.redis_view import RedisView
from consumer.store.snapshot import load_snapshot
from consumer.store.table import TableReader
from consumer.stream.groups import has_members
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.stream.ownership import final_offsets
from consumer.stream.topics import check_topics


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
        for context, row in sorted(table.rows.items(), key=lambda item: str(item[0]))
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


async def import_table(settings: Settings, path: Path) -> int:
    """Replace the table by one from a file; give the number of partitions in it.

    Raises:
        RefusedError: It is no snapshot, was folded otherwise, or workers are running.
    """
    snapshot = load_snapshot(path)
    async with _view(settings) as (view, partitions):
        snapshot.check(view.meta)
        if beyond := [n for n in snapshot.partitions if n >= partitions]:
            raise RefusedError(f"{path}: has partition {beyond[0]}, the topics have {partitions}")
        await _refuse_while_served(settings)
        states = {
            number: _restored(settings, snapshot.get(number)) for number in snapshot.partitions
        }
        for number, state in states.items():
            await _rewrite(view, number, state)
    return len(states)


def _restored(settings: Settings, stored: StoredPartition | None) -> PartitionState:
    state = _empty_state(settings)
    if stored is not None:
        state.restore(stored)
    return state


def _empty_state(settings: Settings) -> PartitionState:
    return PartitionState(settings.fold)


async def _rewrite(view: RedisView, number: int, state: PartitionState) -> None:
    state.touch_all()
    answer = await view.rewrite(view.prepare(number, state, Position()))
    if answer is not WriteAnswer.APPLIED:
        raise RefusedError(f"partition {number}: somebody else is writing the table")


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
    async with _view(settings) as (view, partitions), LogEnds(settings.connection) as ends:
        await _refuse_while_served(settings)
        parts = [logs_of(settings.topics, number) for number in range(partitions)]
        worked_off = await final_offsets(
            settings.connection,
            settings.kafka_group_id,
            [log for logs in parts for log in logs.all if log != logs.decisions],
        )
        lines = []
        for number, logs in enumerate(parts):
            state = _empty_state(settings)
            async with LogReader(settings.connection, logs.all) as reader:
                # the markers of what a worker committed may come after it has gone
                await ends.settled(logs.decisions)
                first, last = await bounds_of(ends, logs)
                on_total(sum(last) - sum(first))
                found = await catch_up(
                    state,
                    reader,
                    logs,
                    signals_log=TopicPartition(settings.kafka_signals_topic, number),
                    upto=Position(
                        *(
                            end
                            if log is None or (offset := worked_off.get(log)) is None
                            else offset
                            for log, end in zip(logs, last, strict=True)
                        )
                    ),
                    ends=ends,
                    on_progress=on_progress,
                )
            await _rewrite(view, number, state)
            candles = "" if logs.candles is None else f", {found.candles} candles"
            lines.append(
                f"partition {number}: {found.decisions} decisions{candles} and {found.trades} closed "
                f"trades folded, {sum(map(len, state.table.rows.values()))} entries"
            )
    return lines
