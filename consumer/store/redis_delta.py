"""What a state has changed -> fields of Redis hashes to set and to delete."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from consumer.domain.context import ContextKey
from consumer.domain.following import Following, FollowingChanges
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.domain.window import Window
from consumer.store import codec
from consumer.store.blocks import BLOCK_SIZE, SMALL_BLOCK, BlockHash, BlockNames
from consumer.store.keys import HASHES, HashName, PartitionKeys, context_name

_TEXT_PARTS: Final = 2_000
"""Fields and values of one JSON text, about: what becomes of it stays in the server's caches, and here what it is made of."""
_MERGED: Final = 5_000
"""Entries of blocks in one write from which no small blocks are written anew."""
_INDEX: Final = {name: number for number, name in enumerate(HASHES, 1)}
"""By hash: which of the script's keys it is."""

T = TypeVar("T")


class Text(NamedTuple):
    """Commands as JSON: number of a key, HSET or HDEL, its arguments, ..."""

    text: bytes
    rows: list[str]
    """Keys of its rows, which it numbers from -1 downwards; other keys by their place among all of a partition."""
    fields: int
    """That it sets or deletes."""


class Block(NamedTuple):
    """A field that holds many entries."""

    name: BlockHash
    field: str
    text: bytes
    entries: int


class Part(NamedTuple):
    """What one call of the script puts in place."""

    rows: list[str]
    """Keys of rows that it touches."""
    arguments: list[str | bytes]
    """Number of blocks, for each the number of its key, its field and value; then for each text how many keys
    come before those of its rows, and the text."""
    entries: int


class HashDelta:
    """Fields of one hash to set and to delete.

    Args:
        number: Which of the script's keys it is.
        texts: Where to put them whenever they are many.
    """

    __slots__ = ("_deletes", "_number", "_sets", "_texts")

    def __init__(self, number: int, texts: list[Text]) -> None:
        self._number = number
        self._texts = texts
        self._sets: list[str] = []
        self._deletes: list[str] = []

    def put(self, name: str, value: str | None) -> None:
        """Set a field, or delete it when there is no value; each field once."""
        if value is None:
            self._deletes.append(name)
        else:
            self._sets += (name, value)
        if len(self._sets) + len(self._deletes) >= _TEXT_PARTS:
            commands, fields = self.take()
            self._texts.append(Text(orjson.dumps(commands), [], fields))

    def take(self) -> tuple[list[Any], int]:
        """Give the commands for what is not in a text yet, and how many fields they touch."""
        commands: list[Any] = []
        if self._sets:
            commands += (self._number, "HSET", self._sets)
        if self._deletes:
            commands += (self._number, "HDEL", self._deletes)
        fields = len(self._sets) // 2 + len(self._deletes)
        self._sets, self._deletes = [], []
        return commands, fields


class RedisDelta:
    """A prepared write, as it is sent: what it was made of is let go while it is made.

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
        self.entries = 0
        """Of all blocks."""
        self._blocks: list[Block] = []
        self._texts: list[Text] = []
        self._totals = Text(b"[]", [], 0)
        self.hashes: dict[HashName, HashDelta] = {
            name: HashDelta(number, self._texts) for name, number in _INDEX.items()
        }
        self._rows: list[str] = []
        self._row_commands: list[Any] = []
        self._row_fields = 0

    def put_block(self, name: BlockHash, field: str, text: bytes, entries: int) -> None:
        """Set a block of so many entries."""
        self.entries += entries
        if entries < SMALL_BLOCK:  # with many accounts they are many
            self.hashes[name].put(field, text.decode())
        else:
            self._blocks.append(Block(name, field, text, entries))

    def put_row(self, key: str, fields: list[str]) -> None:
        """Set fields in the hash of a context: name, value, ...; each key once."""
        self._rows.append(key)
        self._row_commands += (-len(self._rows), "HSET", fields)
        self._row_fields += len(fields) // 2
        if self._row_fields >= _TEXT_PARTS // 2:
            self._end_rows()

    def _end_rows(self) -> None:
        if self._rows:
            text = orjson.dumps(self._row_commands)
            self._texts.append(Text(text, self._rows, self._row_fields))
            self._rows, self._row_commands, self._row_fields = [], [], 0

    def end(self, totals: list[str]) -> None:
        """Say that nothing more is put, and what the totals are: field, value, ..."""
        self._end_rows()
        commands: list[Any] = []
        fields = 0
        for one in self.hashes.values():
            found, count = one.take()
            commands += found
            fields += count
            if fields >= _TEXT_PARTS // 2:
                self._texts.append(Text(orjson.dumps(commands), [], fields))
                commands, fields = [], 0
        if commands:
            self._texts.append(Text(orjson.dumps(commands), [], fields))
        text = orjson.dumps([_INDEX["totals"], "HSET", totals])
        self._totals = Text(text, [], len(totals) // 2)

    @property
    def whole(self) -> Part:
        """Give all of it."""
        return _part(self._blocks, [*self._texts, self._totals])

    def parts(self, size: int) -> Iterator[Part]:
        """Give all but the totals, in parts of at most about `size` entries."""
        blocks: list[Block] = []
        texts: list[Text] = []
        entries = 0
        for block in self._blocks:
            if entries and entries + block.entries > size:
                yield _part(blocks, texts)
                blocks, entries = [], 0
            blocks.append(block)
            entries += block.entries
        for text in self._texts:
            if entries and entries + text.fields > size:
                yield _part(blocks, texts)
                blocks, texts, entries = [], [], 0
            texts.append(text)
            entries += text.fields
        if entries:
            yield _part(blocks, texts)

    @property
    def last_part(self) -> Part:
        """Give the totals."""
        return _part([], [self._totals])


def _part(blocks: list[Block], texts: list[Text]) -> Part:
    rows: list[str] = []
    arguments: list[str | bytes] = [str(len(blocks))]
    entries = 0
    for block in blocks:
        arguments += (str(_INDEX[block.name]), block.field, block.text)
        entries += block.entries
    for text in texts:
        arguments += (str(len(HASHES) + len(rows)), text.text)
        rows += text.rows
        entries += text.fields
    return Part(rows, arguments, entries)


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
    hashes, prefix = delta.hashes, keys.row_prefix
    arms: dict[ContextKey, list[str]] = {}
    for context, strategy in changes.table.arms:
        arms.setdefault(context, []).append(strategy)
    contexts = hashes["contexts"]
    for context, strategies in arms.items():
        name, row = context_name(context), table.rows[context]
        fields: list[str] = []
        for strategy in strategies:
            fields += codec.arm_fields(strategy, row[strategy])
        delta.put_row(prefix + name, fields)
        contexts.put(name, codec.encode_row(context, row))
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
    delta.end(_totals_fields(state))
    return delta


# Each window knows its newest entries: those that came since are at its end


def _start(delta: RedisDelta, blocks: BlockNames, name: BlockHash, account: str, since: int) -> int:
    """Give the number after which a window that has new entries is written."""
    if delta.entries >= _MERGED:
        return since
    start, gone = blocks.take_small(name, account, since)
    _delete(delta.hashes[name], gone)
    return start


def _delete(one: HashDelta, fields: list[str]) -> None:
    for field in fields:
        one.put(field, None)


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
    _delete(
        delta.hashes["decisions-closed"],
        blocks.take_older("decisions-closed", "", oldest_closed(state)),
    )


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
    _delete(delta.hashes["decision-ids"], blocks.take_older("decision-ids", account, ids.oldest))


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
    _delete(delta.hashes["trades"], blocks.take_older("trades", account, counted.oldest.sequence))


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
