"""What a state has changed -> fields of Redis hashes to set and to delete."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, TypeVar

import orjson

from consumer.domain.following import Following, FollowingChanges
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.store import codec
from consumer.store.blocks import BLOCK_SIZE, BlockNames
from consumer.store.keys import HASHES, HashName, PartitionKeys, context_name

_WRITTEN: Final = HASHES[2:]
"""What a write puts in place by fields; the script moves the watermark itself."""
_ROW_FIELDS: Final = 60
"""Of a row's hash, about."""
_TEXT_PARTS: Final = 2_000
"""Fields and values of one JSON text, about: what becomes of it stays in the server's caches."""

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
        self.blocks: list[tuple[HashName, str, bytes]] = []
        """Hash, field and value."""

    @property
    def block_arguments(self) -> list[str | bytes]:
        """Give key, field and value of each block."""
        found: list[str | bytes] = []
        for name, field, text in self.blocks:
            found += (self.keys.key(name), field, text)
        return found

    @property
    def texts(self) -> list[bytes]:
        """Give what else is written as JSON texts: key, command, its arguments, ..."""
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

    def _commands(self) -> Iterator[tuple[str, str, list[str]]]:
        for name, one in self.hashes.items():
            key = self.keys.key(name)
            for command, arguments in (("HSET", one.sets), ("HDEL", one.deletes)):
                for start in range(0, len(arguments), _TEXT_PARTS):
                    yield key, command, arguments[start : start + _TEXT_PARTS]
        for key, row in self.rows.items():
            yield key, "HSET", row

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
        step = max(1, size // BLOCK_SIZE)
        for start in range(0, len(self.blocks), step):
            part = self.empty()
            part.blocks = self.blocks[start : start + step]
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
    for decision_id in changes.open:
        decision = open_.get(decision_id)
        text = None if decision is None else codec.encode_decision(decision)
        decisions.put(decision_id, text)
    _put_closed(delta, state, changes.since, blocks)
    _put_ids(delta, state, changes.since, blocks)
    _put_trades(delta, state, changes.since, blocks)
    revised = hashes["trades-revised"]
    for account, trade_id in changes.revised:
        trade = state.trades[account].by_key.get(trade_id)
        text = None if trade is None or not trade.revision else codec.encode_trade(trade)
        revised.put(codec.trade_field(account, trade_id), text)
    markets = hashes["markets"]
    for market in changes.markets:
        markets.put(codec.market_field(market), codec.encode_held(state.markets[market]))
    if state.following is not None:
        _put_following(delta, state.following, changes.following)
    return delta


# Each window knows its newest entries: those that came since are at its end


def _in_blocks(newest_first: list[T]) -> list[list[T]]:
    newest_first.reverse()
    return [
        newest_first[start : start + BLOCK_SIZE]
        for start in range(0, len(newest_first), BLOCK_SIZE)
    ]


def _put_closed(delta: RedisDelta, state: PartitionState, since: int, blocks: BlockNames) -> None:
    new: list[OpenDecision] = []
    for decision in reversed(state.decisions.closed.by_key.values()):
        if decision.closed_number <= since:
            break
        new.append(decision)
    for part in _in_blocks(new):
        field = blocks.add("decisions-closed", "", part[-1].closed_number, len(part))
        delta.blocks.append(("decisions-closed", field, codec.encode_decisions(part)))
    gone = blocks.take_older("decisions-closed", "", oldest_closed(state))
    delta.hashes["decisions-closed"].deletes += gone


def oldest_closed(state: PartitionState) -> int:
    """Give the number from which on closed decisions are remembered."""
    closed = state.decisions.closed
    return closed.oldest.closed_number if closed.by_key else state.totals.sequence + 1


def _put_ids(delta: RedisDelta, state: PartitionState, since: int, blocks: BlockNames) -> None:
    for account, ids in state.decisions.ids.items():
        new: list[tuple[str, int]] = []
        for decision_id, number in reversed(ids.by_key.items()):
            if number <= since:
                break
            new.append((decision_id, number))
        for part in _in_blocks(new):
            field = blocks.add("decision-ids", account, part[-1][1], len(part))
            delta.blocks.append(("decision-ids", field, codec.encode_ids(part)))
        gone = blocks.take_older("decision-ids", account, ids.oldest)
        delta.hashes["decision-ids"].deletes += gone


def _put_trades(delta: RedisDelta, state: PartitionState, since: int, blocks: BlockNames) -> None:
    for account, counted in state.trades.items():
        new: list[FoldedTrade] = []
        for trade in reversed(counted.by_key.values()):
            if trade.sequence <= since:
                break
            new.append(trade)
        for part in _in_blocks(new):
            field = blocks.add("trades", account, part[-1].sequence, len(part))
            delta.blocks.append(("trades", field, codec.encode_trades(part)))
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
