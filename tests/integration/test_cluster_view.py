"""A view in a Redis Cluster: a slot is moved while a partition is written, and nothing is lost, nothing crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot

from chaos.redis_nodes import SECRET, ChaosRedis, ask, form_cluster
from consumer.connection import TopicNames
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import TransientError
from consumer.local.server import HOST, free_port
from consumer.ports import WriteAnswer
from consumer.store import redis_view
from consumer.store.client import connect
from consumer.store.keys import HASHES, HashName, PartitionKeys
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView
from tests.support.folds import pair, remembered_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

SETTINGS = FoldSettings()
TOPICS = TopicNames(signals="s", trades="t", decisions="d", dead_letters="l")
KEYS = PartitionKeys("ms", 0)
SLOT = key_slot(KEYS.key("watermark").encode())


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[ChaosRedis]]:
    """Give the node that will hold the partition's slot, and another one; both have started."""
    found = [
        ChaosRedis(
            tmp_path / f"redis-{number}",
            tmp_path / f"redis-{number}.log",
            is_node=True,
            proxy_port=free_port(),
        )
        for number in range(2)
    ]
    try:
        for node in found:
            await node.start()
        yield found
    finally:
        for node in found:
            node.abandon()


class Move:
    """Moves the partition's slot, key by key, as the cluster's own tools do."""

    def __init__(self, source: ChaosRedis, target: ChaosRedis) -> None:
        self._source = source
        self._target = target

    async def begin(self) -> list[str]:
        """Announce it; give the keys that are to be moved."""
        source, target = self._source, self._target
        await ask(target, "SCRIPT LOAD", redis_view._WRITE)  # it serves other partitions
        await ask(target, "CLUSTER SETSLOT", SLOT, "IMPORTING", await ask(source, "CLUSTER MYID"))
        await ask(source, "CLUSTER SETSLOT", SLOT, "MIGRATING", await ask(target, "CLUSTER MYID"))
        found: list[str] = await ask(source, "CLUSTER GETKEYSINSLOT", SLOT, 1_000)
        return found

    async def take(self, keys: Sequence[str]) -> None:
        """Move some of the keys."""
        port = self._target.port
        for key in keys:
            await ask(self._source, "MIGRATE", HOST, port, key, 0, 5_000, "AUTH", SECRET)

    async def end(self) -> None:
        """Give the slot away."""
        owner = await ask(self._target, "CLUSTER MYID")
        for node in (self._target, self._source):
            await ask(node, "CLUSTER SETSLOT", SLOT, "NODE", owner)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "new"])
@pytest.mark.parametrize(
    "first",
    [
        ("watermark", "meta"),
        ("trades", "contexts"),
        ("watermark", "meta", "trades", "contexts"),
        HASHES,
    ],
    ids=["mark", "rest", "mixed", "hashes"],
)
async def test_a_write_waits_for_the_end_of_a_move(
    nodes: list[ChaosRedis], first: Sequence[HashName], is_known: bool
) -> None:
    """Half of the keys are on the other node: a script that ran there would make the rest anew."""
    if is_known:
        await form_cluster(nodes, holders=2)
        target, source = nodes if SLOT >= 8_192 else nodes[::-1]
    else:  # it has no slots yet, and the client has not heard of it
        await form_cluster(nodes, holders=1)
        source, target = nodes
    client = connect(source.url, cluster=True, timeout_s=15.0)
    view = RedisView(client, client, prefix="ms", meta=Meta(SETTINGS, 1, TOPICS))
    try:
        state = PartitionState(SETTINGS)
        for number in range(5):
            pair(state, f"n{number}")
        state.touch_all()
        assert await view.rewrite(view.prepare(0, state, Position())) is WriteAnswer.APPLIED
        move = Move(source, target)
        keys = await move.begin()
        moved = {KEYS.key(name) for name in first}
        await move.take([key for key in keys if key in moved])
        since = state.position
        pair(state, "during")
        delta = view.prepare(0, state, since)

        with pytest.raises(TransientError):
            await view.write(delta)
        with pytest.raises(TransientError):  # a part of it would be taken for the whole
            await view.load(0)

        await move.take([key for key in keys if key not in moved])
        await move.end()
        assert await view.write(delta) is WriteAnswer.APPLIED
        found = await view.load(0)
        assert found is not None
        again = PartitionState(SETTINGS)
        again.restore(found)
        assert remembered_by(again) == remembered_by(state)
        assert again.table.rows == state.table.rows
    finally:
        await view.close()


async def test_a_view_that_begins_by_reading_is_closed_like_any_other(
    nodes: list[ChaosRedis],
) -> None:
    """What the client makes while it reads for the first time has to be of this loop."""
    await form_cluster(nodes, holders=2)
    client, bulk = (connect(nodes[0].url, cluster=True, timeout_s=15.0) for _ in range(2))
    view = RedisView(client, bulk, prefix="ms", meta=Meta(SETTINGS, 1, TOPICS))

    assert await view.load(0) is None
    state = PartitionState(SETTINGS)
    pair(state, "n")
    assert await view.rewrite(view.prepare(0, state, Position())) is WriteAnswer.APPLIED
    assert await view.load(0) is not None

    await view.close()
