"""The view in Redis: one slot a partition, one script a write."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from itertools import chain
from time import perf_counter
from typing import Any

import orjson
from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from consumer.domain.following import Following, FollowingChanges
from consumer.domain.partition_state import PartitionState, Position, StoredPartition
from consumer.ports import WriteAnswer
from consumer.store import codec
from consumer.store.client import RedisClient, asking
from consumer.store.keys import PartitionKeys, context_name
from consumer.store.meta import Meta
from consumer.store.raw import RawPartition
from consumer.store.snapshot import Snapshot

_PART = 5_000
"""Entries of one part of a rewrite: some milliseconds of the server's single thread."""

_WRITE, _CLEAR, _READ = (
    resources.files("consumer.store").joinpath(f"{name}.lua").read_text()
    for name in ("write", "clear", "read")
)


@dataclass(slots=True)
class HashDelta:
    """Fields of one hash to set and to delete."""

    sets: dict[str, str] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)

    def put(self, name: str, value: str | None) -> None:
        """Set a field, or delete it when there is no value."""
        if value is None:
            self.deletes.append(name)
        else:
            self.sets[name] = value

    def __len__(self) -> int:
        return len(self.sets) + len(self.deletes)

    @property
    def lists(self) -> tuple[list[str], list[str]]:
        """Give it as the script takes it: field, value, ...; fields to delete."""
        return list(chain.from_iterable(self.sets.items())), self.deletes

    def parts(self, size: int) -> Iterator["HashDelta"]:
        """Cut the sets into pieces of at most `size` fields."""
        items = list(self.sets.items())
        for start in range(0, len(items), size):
            yield HashDelta(dict(items[start : start + size]))


@dataclass(slots=True)
class RedisDelta:
    """A prepared write."""

    partition: int
    since: Position
    position: Position
    contexts: HashDelta = field(default_factory=HashDelta)
    decisions: HashDelta = field(default_factory=HashDelta)
    decision_ids: HashDelta = field(default_factory=HashDelta)
    trades: HashDelta = field(default_factory=HashDelta)
    totals: HashDelta = field(default_factory=HashDelta)
    parents: HashDelta = field(default_factory=HashDelta)
    markets: HashDelta = field(default_factory=HashDelta)
    followed: HashDelta = field(default_factory=HashDelta)
    series: HashDelta = field(default_factory=HashDelta)
    rows: dict[str, HashDelta] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(h) for h in (self.decisions, self.decision_ids, self.trades)) + len(
            self.rows
        )

    @property
    def hashes(self) -> list[HashDelta]:
        """Give the fixed hashes in the order of the script's keys."""
        return [
            self.contexts,
            self.decisions,
            self.decision_ids,
            self.trades,
            self.totals,
            self.parents,
            self.markets,
            self.followed,
            self.series,
        ]


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


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
        keys = self.keys(partition)
        found = await self._run(self._bulk, _READ, keys.fixed, [])
        return RawPartition(*map(_pairs, found))

    async def load(self, partition: int) -> StoredPartition | None:
        """Read a partition's state; None when nothing, or nothing whole, is there.

        Raises:
            RefusedError: It was folded with other settings or from other topics.
        """
        async with self._loading:
            raw = await self.read_raw(partition)
            if not raw.is_whole:
                return None
            self.meta.check(raw.meta, f"partition {partition} in Redis")
            # seconds of work for a large one: partitions that are open go on meanwhile
            return await asyncio.to_thread(raw.decode)

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        """Read where partitions stand, in one round trip; None where nothing whole is there."""
        with self._round_trip():
            pipeline = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipeline.hmget(self.keys(partition).watermark, Position._fields)
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
        keys = self.keys(partition)
        changes = state.take_changes()
        delta = RedisDelta(
            partition, since, state.position, totals=HashDelta(_totals_fields(state))
        )
        rows, contexts, prefix = delta.rows, delta.contexts.sets, keys.row_prefix
        for context, strategy in changes.table.arms:
            name = context_name(context)
            row = rows.get(prefix + name)
            if row is None:
                row = rows[prefix + name] = HashDelta()
                contexts[name] = codec.encode_row(context, state.table.rows[context])
            row.sets.update(codec.arm_fields(strategy, state.table.rows[context][strategy]))
        for parent, strategy in changes.table.parents:
            delta.parents.sets[codec.parent_field(parent, strategy)] = codec.encode_parent(
                parent, strategy, state.table.parents[parent][strategy]
            )
        remembered = state.decisions
        for decision_id in changes.decisions.decisions:
            decision = remembered.find(decision_id)
            delta.decisions.put(
                decision_id, None if decision is None else codec.encode_decision(decision)
            )
        for account, decision_id in changes.decisions.ids:
            number = remembered.lone_number(account, decision_id)
            delta.decision_ids.put(
                decision_id, None if number is None else codec.encode_decision_id(account, number)
            )
        for account, trade_id in changes.trades:
            trade = state.trades[account].get(trade_id)
            delta.trades.put(
                codec.trade_field(account, trade_id),
                None if trade is None else codec.encode_trade(trade),
            )
        for market in changes.markets:
            delta.markets.sets[codec.market_field(market)] = codec.encode_held(
                state.markets[market]
            )
        if state.following is not None:
            _put_following(delta, state.following, changes.following)
        return delta

    async def write(self, delta: RedisDelta) -> WriteAnswer:
        """Apply a write if the view stands within its positions."""
        return await self._write(self._client, delta, token="", last=True)

    async def _write(
        self, client: RedisClient, delta: RedisDelta, *, token: str, last: bool
    ) -> WriteAnswer:
        keys = [*self.keys(delta.partition).fixed, *delta.rows]
        arguments = [
            self._fingerprint,
            token,
            "1" if last else "0",
            *map(str, delta.since),
            *map(str, delta.position),
            # as one argument: the client takes a microsecond and more for each
            orjson.dumps([one.lists for one in (*delta.hashes, *delta.rows.values())]),
        ]
        return WriteAnswer(await self._run(client, _WRITE, keys, arguments))

    async def rewrite(self, delta: RedisDelta) -> WriteAnswer:
        """Replace all that is there by a write that holds everything; not whole until its end."""
        keys = self.keys(delta.partition)
        token = secrets.token_hex(8)
        meta = [text for pair in self.meta.fields.items() for text in pair]
        await self._run(self._bulk, _CLEAR, keys.fixed, [token, keys.row_prefix, *meta])
        for part in _parts(delta):
            answer = await self._write(self._bulk, part, token=token, last=False)
            if answer is not WriteAnswer.APPLIED:
                return answer
        end = _empty(delta)
        end.totals = delta.totals
        return await self._write(self._bulk, end, token=token, last=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._bulk.aclose()


def _totals_fields(state: PartitionState) -> dict[str, str]:
    fields = {name: str(count) for name, count in asdict(state.totals).items()}
    # for pages, which cannot count them cheaply
    followed = 0 if state.following is None else state.following.open_count
    return fields | {"open": str(len(state.decisions.open)), "followed": str(followed)}


def _put_following(delta: RedisDelta, following: Following, changes: FollowingChanges) -> None:
    for decision_id in changes.followed:
        one = following.followed.get(decision_id)
        delta.followed.put(decision_id, None if one is None else codec.encode_followed(one))
    for series in changes.series:
        delta.series.sets[codec.series_field(series)] = codec.encode_last_candle(
            following.series[series]
        )


def _empty(delta: RedisDelta) -> RedisDelta:
    return RedisDelta(delta.partition, delta.since, delta.position)


def _parts(delta: RedisDelta) -> Iterator[RedisDelta]:
    for name in (
        "contexts",
        "decisions",
        "decision_ids",
        "trades",
        "parents",
        "markets",
        "followed",
        "series",
    ):
        for piece in getattr(delta, name).parts(_PART):
            part = _empty(delta)
            setattr(part, name, piece)
            yield part
    rows = list(delta.rows.items())
    # a row has some sixty fields
    for start in range(0, len(rows), _PART // 60):
        part = _empty(delta)
        part.rows = dict(rows[start : start + _PART // 60])
        yield part
