"""What a state has changed -> fields of Redis hashes to set and to delete."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Final, TypeVar

import orjson

from consumer.domain.following import Following, FollowingChanges
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.domain.window import Window
from consumer.store import codec
from consumer.store.blocks import BLOCK_HASHES, BLOCK_SIZE, SMALL_BLOCK, BlockHash, BlockNames
from consumer.store.keys import HASHES, HashName, PartitionKeys, context_name

_WRITTEN: Final = HASHES[2:]
"""What a write puts in place by fields; the script moves the watermark itself."""
_ROW_FIELDS: Final = 60
"""Of a row's hash, about."""
_TEXT_PARTS: Final = 2_000
"""Fields and values of one JSON text, about: what becomes of it stays in the server's caches."""
_MERGED: Final = 5_000
"""Entries of blocks in one write from which no small blocks are written anew."""
_INDEX: Final = {name: number for number, name in enumerate(HASHES, 1)}
"""By hash: which of the script's keys it is."""

T = TypeVar("T")


class HashDelta:
    """Fields of one hash to set and to delete.

    Args:
        sets: Field, value, ..., each field once.
    """

    __slots__ = ("deletes", "sets")

    def __init__(self, sets: list[str]) -> None:
        self.sets = sets
        self.deletes: list[str] = []

    def put(self, name: str, value: str | None) -> None:
        """Set a field, or delete it when there is no value."""
        if value is None:
            self.deletes.append(name)
        else:
            self.sets += (name, value)

    def parts(self, size: int) -> "Iterator[HashDelta]":
        """Cut the sets into pieces of at most `size` fields."""
        for start in range(0, len(self.sets), 2 * size):
            yield HashDelta(self.sets[start : start + 2 * size])


class RedisDelta:
    """A prepared write.

    Args:
        keys: Of the partition.
        partition: Its number.
        since: Where the view is known to stand.
        position: Where it will stand.
    """

    def __init__(
        self, keys: PartitionKeys, partition: int, since: Position, position: Position
    ) -> None:
        self.keys = keys
        self.partition = partition
        self.since = since
        self.position = position
        self.hashes: dict[HashName, HashDelta] = {name: HashDelta([]) for name in _WRITTEN}
        self.rows: dict[str, list[str]] = {}
        """What to set in the hashes of contexts, by key."""
        self.blocks: list[tuple[BlockHash, str, bytes, int]] = []
        """Hash, field, value, and how many entries it has."""
        self.entries = 0
        """Of all blocks."""

    def put_block(self, name: BlockHash, field: str, text: bytes, count: int) -> None:
        """Set a block of so many entries."""
        self.blocks.append((name, field, text, count))
        self.entries += count

    @property
    def all_keys(self) -> list[str]:
        """Give all keys that the script touches, in its order: a cluster has to know them while it moves them."""
        return [*self.keys.fixed, *self.rows]

    @property
    def block_arguments(self) -> list[str | bytes]:
        """Give each large block: number of its key, field and value."""
        found: list[str | bytes] = []
        for name, field, text, count in self.blocks:
            if count >= SMALL_BLOCK:
                found += (str(_INDEX[name]), field, text)
        return found

    @property
    def texts(self) -> list[bytes]:
        """Give what else is written as JSON texts: number of a key, command, its arguments, ..."""
        found: list[bytes] = []
        held: list[Any] = []
        size = 0
        for key, command, arguments in self._commands():
            held += (key, command, arguments)
            size += len(arguments)
            if size >= _TEXT_PARTS:
                found.append(orjson.dumps(held))
                held, size = [], 0
        if held:
            found.append(orjson.dumps(held))
        return found

    def _commands(self) -> Iterator[tuple[int, str, list[str]]]:
        small: dict[BlockHash, list[str]] = {name: [] for name in BLOCK_HASHES}
        for block, field, text, count in self.blocks:
            if count < SMALL_BLOCK:  # with many accounts they are many
                small[block] += (field, text.decode())
        for block, fields in small.items():
            for start in range(0, len(fields), _TEXT_PARTS):
                yield _INDEX[block], "HSET", fields[start : start + _TEXT_PARTS]
        for name, one in self.hashes.items():
            for command, arguments in (("HSET", one.sets), ("HDEL", one.deletes)):
                for start in range(0, len(arguments), _TEXT_PARTS):
                    yield _INDEX[name], command, arguments[start : start + _TEXT_PARTS]
        for number, row in enumerate(self.rows.values(), len(HASHES) + 1):
            yield number, "HSET", row

    def empty(self) -> "RedisDelta":
        """Give one of the same positions that writes nothing."""
        return RedisDelta(self.keys, self.partition, self.since, self.position)

    def parts(self, size: int) -> "Iterator[RedisDelta]":
        """Cut all but the totals into writes of at most about `size` entries."""
        for name, whole in self.hashes.items():
            if name == "totals":
                continue
            for piece in whole.parts(size):
                part = self.empty()
                part.hashes[name] = piece
                yield part
        part = self.empty()
        for block in self.blocks:
            if part.entries and part.entries + block[3] > size:
                yield part
                part = self.empty()
            part.put_block(*block)
        if part.blocks:
            yield part
        rows = list(self.rows.items())
        step = max(1, size // _ROW_FIELDS)
        for start in range(0, len(rows), step):
            part = self.empty()
            part.rows = dict(rows[start : start + step])
            yield part


def prepared(
    keys: PartitionKeys,
    partition: int,
    state: PartitionState,
    since: Position,
    blocks: BlockNames,
) -> RedisDelta:
    """Take a state's changes as a write.

    Args:
        keys: Of the partition.
        partition: Its number.
        state: Its changes are taken.
        since: Where the view is known to stand.
        blocks: What the view holds; what it will hold afterwards.
    """
    changes, table = state.take_changes(), state.table
    delta = RedisDelta(keys, partition, since, state.position)
    hashes, rows, prefix = delta.hashes, delta.rows, keys.row_prefix
    hashes["totals"].sets = _totals_fields(state)
    contexts = hashes["contexts"].sets
    for context, strategy in changes.table.arms:
        name, known = context_name(context), table.rows[context]
        key, fields = prefix + name, codec.arm_fields(strategy, known[strategy])
        row = rows.get(key)
        if row is None:
            rows[key] = fields
            contexts += (name, codec.encode_row(context, known))
        else:
            row += fields
    parents = hashes["parents"]
    for parent, strategy in changes.table.parents:
        stats = table.parents[parent][strategy]
        parents.put(
            codec.parent_field(parent, strategy), codec.encode_parent(parent, strategy, stats)
        )
    decisions, open_ = hashes["decisions"], state.decisions.open
    if changes.all_open:  # not one by one: most are packed
        for decision_id, decision in open_.oldest_first():
            decisions.put(decision_id, codec.encode_decision(decision))
    for decision_id in changes.open:
        found = open_.get(decision_id)
        if found is None:
            decisions.put(decision_id, None)
        elif not changes.all_open:
            decisions.put(decision_id, codec.encode_decision(found))
    _put_closed(delta, state, changes.since, blocks)
    for account in sorted(changes.accounts):
        if (ids := state.decisions.ids.get(account)) is not None:
            _put_ids(delta, account, ids, changes.since, blocks)
        if (counted := state.trades.get(account)) is not None:
            _put_trades(delta, account, counted, changes.since, blocks)
    revised = hashes["trades-revised"]
    for account, trade_id in changes.revised:
        trade = state.trades[account].get(trade_id)
        text = None if trade is None or not trade.revision else codec.encode_trade(trade)
        revised.put(codec.trade_field(account, trade_id), text)
    markets = hashes["markets"]
    for market in changes.markets:
        markets.put(codec.market_field(market), codec.encode_held(state.markets[market]))
    if state.following is not None:
        _put_following(delta, state.following, changes.following)
    return delta


# Each window knows its newest entries: those that came since are at its end


def _start(delta: RedisDelta, blocks: BlockNames, name: BlockHash, account: str, since: int) -> int:
    """Give the number after which a window that has new entries is written."""
    if delta.entries >= _MERGED:
        return since
    start, gone = blocks.take_small(name, account, since)
    delta.hashes[name].deletes += gone
    return start


def _new(
    window: Window[T], number_of: Callable[[T], int], since: int
) -> Iterator[list[tuple[str, T]]]:
    """Give what came after a number, cut into blocks; 0: all there is."""
    entries = window.oldest_first()
    if since:
        found: list[tuple[str, T]] = []
        for entry in window.newest_first():
            if number_of(entry[1]) <= since:
                break
            found.append(entry)
        entries = reversed(found)
    while part := list(islice(entries, BLOCK_SIZE)):
        yield part


def _number_of_closed(decision: OpenDecision) -> int:
    return decision.closed_number


def _put_closed(delta: RedisDelta, state: PartitionState, since: int, blocks: BlockNames) -> None:
    closed = state.decisions.closed
    if closed and closed.newest.closed_number > since:
        since = _start(delta, blocks, "decisions-closed", "", since)
    for part in _new(closed, _number_of_closed, since):
        decisions = [decision for _, decision in part]
        field = blocks.add("decisions-closed", "", decisions[-1].closed_number, len(part))
        delta.put_block("decisions-closed", field, codec.encode_decisions(decisions), len(part))
    gone = blocks.take_older("decisions-closed", "", oldest_closed(state))
    delta.hashes["decisions-closed"].deletes += gone


def oldest_closed(state: PartitionState) -> int:
    """Give the number from which on closed decisions are remembered."""
    closed = state.decisions.closed
    return closed.oldest.closed_number if closed else state.totals.sequence + 1


def _number_of_id(number: int) -> int:
    return number


def _put_ids(
    delta: RedisDelta, account: str, ids: Window[int], since: int, blocks: BlockNames
) -> None:
    if ids.newest > since:
        since = _start(delta, blocks, "decision-ids", account, since)
    for part in _new(ids, _number_of_id, since):
        field = blocks.add("decision-ids", account, part[-1][1], len(part))
        delta.put_block("decision-ids", field, codec.encode_ids(part), len(part))
    gone = blocks.take_older("decision-ids", account, ids.oldest)
    delta.hashes["decision-ids"].deletes += gone


def _number_of_trade(trade: FoldedTrade) -> int:
    return trade.sequence


def _put_trades(
    delta: RedisDelta, account: str, counted: Window[FoldedTrade], since: int, blocks: BlockNames
) -> None:
    if counted.newest.sequence > since:
        since = _start(delta, blocks, "trades", account, since)
    for part in _new(counted, _number_of_trade, since):
        trades = [trade for _, trade in part]
        field = blocks.add("trades", account, trades[-1].sequence, len(part))
        delta.put_block("trades", field, codec.encode_trades(trades), len(part))
    gone = blocks.take_older("trades", account, counted.oldest.sequence)
    delta.hashes["trades"].deletes += gone


def _totals_fields(state: PartitionState) -> list[str]:
    # open and followed ones for pages, which cannot count them cheaply
    followed = 0 if state.following is None else state.following.open_count
    counts = {
        **asdict(state.totals),
        "open": len(state.decisions.open),
        "followed": followed,
        "closed_from": oldest_closed(state),
    }
    return [text for name, count in counts.items() for text in (name, str(count))]


def _put_following(delta: RedisDelta, following: Following, changes: FollowingChanges) -> None:
    followed, series = delta.hashes["followed"], delta.hashes["series"]
    for decision_id in changes.followed:
        one = following.followed.get(decision_id)
        followed.put(decision_id, None if one is None else codec.encode_followed(one))
    for one_series in changes.series:
        text = codec.encode_last_candle(following.series[one_series])
        series.put(codec.series_field(one_series), text)
