"""The view in Redis: one slot a partition, one script a write."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from time import perf_counter
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position, StoredPartition
from consumer.ports import WriteAnswer
from consumer.store.blocks import BLOCK_HASHES, BlockNames
from consumer.store.client import RedisClient, asking
from consumer.store.keys import PartitionKeys
from consumer.store.meta import Meta
from consumer.store.raw import RawPartition
from consumer.store.redis_delta import Part, RedisDelta, prepared
from consumer.store.snapshot import Snapshot

_PART = 5_000
"""Entries of one part of a rewrite: some milliseconds of the server's single thread."""

_WRITE, _CLEAR = (
    resources.files("consumer.store").joinpath(f"{name}.lua").read_text()
    for name in ("write", "clear")
)


class RedisView:
    """States of all partitions in Redis; see the View port.

    Args:
        client: For the quick commands.
        bulk: For whole partitions; a longer time limit.
        prefix: What every key starts with.
        meta: What the fold depends on.
        observe: Told the duration of each round trip [s].
    """

    def __init__(
        self,
        client: RedisClient,
        bulk: RedisClient,
        *,
        prefix: str,
        meta: Meta,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._bulk = bulk
        self._prefix = prefix
        self.meta = meta
        self._fingerprint = meta.fields["fingerprint"]  # a tenth of a millisecond, in every write
        self._observe = observe
        # what is read takes several times the memory of what becomes of it: not all partitions at
        # once, when a worker takes them over from another one
        self._loading = asyncio.Semaphore(1)
        self._blocks: dict[int, BlockNames] = {}
        """By partition; of those that were loaded or written."""

    def keys(self, partition: int) -> PartitionKeys:
        """Name the keys of a partition."""
        return PartitionKeys(self._prefix, partition)

    async def _run(
        self,
        client: RedisClient,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[str | bytes],
    ) -> Any:
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # Redis' own name
        with self._round_trip():
            try:
                return await client.evalsha(sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a server that is new, was restarted or failed over
                await self._load_script(client, script, keys[0])
                return await client.evalsha(sha, len(keys), *keys, *arguments)

    @contextmanager
    def _round_trip(self) -> Iterator[None]:
        started = perf_counter()
        try:
            with asking():
                yield
        finally:
            self._observe(perf_counter() - started)

    @staticmethod
    async def _load_script(client: RedisClient, script: str, key: str) -> None:
        if isinstance(client, RedisCluster):
            # to the one node that needs it: another may be away
            node = client.get_node_from_key(key)
            await client.execute_command("SCRIPT LOAD", script, target_nodes=node)
        else:
            await client.script_load(script)

    # Reading

    async def read_raw(self, partition: int) -> RawPartition:
        """Read all hashes of a partition as they stand at one moment."""
        with self._round_trip():
            if isinstance(self._bulk, RedisCluster):
                # a transaction's commands are told to a cluster's client in threads with loops of their own:
                # the connections that it made there would be of no use afterwards
                await self._bulk.initialize()
            # not a script: it would make tables of its own of all fields first
            pipeline = self._bulk.pipeline(transaction=True)
            for key in self.keys(partition).fixed:
                pipeline.hgetall(key)
            return RawPartition(*await pipeline.execute())

    async def load(self, partition: int) -> StoredPartition | None:
        """Read a partition's state; None when nothing, or nothing whole, is there.

        Raises:
            RefusedError: It was folded with other settings or from other topics.
        """
        async with self._loading:
            raw = await self.read_raw(partition)
            if not raw.is_whole:
                return None
            where = f"partition {partition} in Redis"
            self.meta.check(raw.meta, where)
            # seconds of work for a large one: partitions that are open go on meanwhile
            stored, self._blocks[partition] = await asyncio.to_thread(_decoded, raw, where)
            return stored

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        """Read where partitions stand, in one round trip; None where nothing whole is there."""
        with self._round_trip():
            pipeline = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipeline.hmget(self.keys(partition).key("watermark"), Position._fields)
            answers = await pipeline.execute()
        return {
            partition: None if None in found[:2] else Position(*(int(one or 0) for one in found))
            for partition, found in zip(partitions, answers, strict=True)
        }

    async def snapshot(self, partitions: int) -> Snapshot:
        """Read all partitions, each as it stands at one moment; ones that are not whole are left out."""
        found = {number: await self.read_raw(number) for number in range(partitions)}
        return Snapshot({number: raw for number, raw in found.items() if raw.is_whole})

    # Writing

    def prepare(self, partition: int, state: PartitionState, since: Position) -> RedisDelta:
        """Take a state's changes as a write; `since` is where the view is known to stand."""
        blocks = self._blocks.get(partition)
        if blocks is None or not state.written:
            blocks = self._blocks[partition] = BlockNames()
        return prepared(self.keys(partition), partition, state, since, blocks)

    def forget(self, partition: int) -> None:
        """Let go of what is known of a partition: nothing is written of it before it is loaded again."""
        self._blocks.pop(partition, None)

    async def write(self, delta: RedisDelta) -> WriteAnswer:
        """Apply a write if the view stands within its positions."""
        return await self._write(self._client, delta, delta.whole, token="", last=True)

    async def _write(
        self, client: RedisClient, delta: RedisDelta, part: Part, *, token: str, last: bool
    ) -> WriteAnswer:
        arguments = [
            self._fingerprint,
            token,
            "1" if last else "0",
            *map(str, delta.since),
            *map(str, delta.position),
            # few arguments: the client takes a microsecond and more for each
            *part.arguments,
        ]
        keys = [*delta.keys.fixed, *part.rows]
        return WriteAnswer(await self._run(client, _WRITE, keys, arguments))

    async def rewrite(self, delta: RedisDelta) -> WriteAnswer:
        """Replace all that is there by a write that holds everything; not whole until its end."""
        keys = self.keys(delta.partition)
        token = secrets.token_hex(8)
        meta = [text for pair in self.meta.fields.items() for text in pair]
        await self._run(self._bulk, _CLEAR, keys.fixed, [token, keys.row_prefix, *meta])
        for part in delta.parts(_PART):
            answer = await self._write(self._bulk, delta, part, token=token, last=False)
            if answer is not WriteAnswer.APPLIED:
                return answer
        return await self._write(self._bulk, delta, delta.last_part, token=token, last=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._bulk.aclose()


def _decoded(raw: RawPartition, where: str) -> tuple[StoredPartition, BlockNames]:
    stored = raw.decode(where, "run `meta-strategy qtable rebuild`")
    blocks = BlockNames()
    for name in BLOCK_HASHES:
        blocks.read(name, raw.blocks(name))
    return stored, blocks
