"""What a state has changed -> fields of Redis hashes to set and to delete."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from consumer.domain.following import Following, FollowingChanges
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.store import codec
from consumer.store.keys import HASHES, HashName, PartitionKeys, context_name

_WRITTEN: Final = HASHES[2:]
"""What a write puts in place by fields; the script moves the watermark itself."""
_ROW_FIELDS = 60
"""Of a row's hash, about."""


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

    def __len__(self) -> int:
        return len(self.sets) // 2 + len(self.deletes)

    def parts(self, size: int) -> "Iterator[HashDelta]":
        """Cut the sets into pieces of at most `size` fields."""
        for start in range(0, len(self.sets), 2 * size):
            yield HashDelta(self.sets[start : start + 2 * size])


class RedisDelta:
    """A prepared write.

    Args:
        partition: Whose.
        since: Where the view is known to stand.
        position: Where it will stand.
    """

    def __init__(self, partition: int, since: Position, position: Position) -> None:
        self.partition = partition
        self.since = since
        self.position = position
        self.hashes: dict[HashName, HashDelta] = {name: HashDelta([]) for name in _WRITTEN}
        self.rows: dict[str, list[str]] = {}
        """What to set in the hashes of contexts, by key."""

    def __len__(self) -> int:
        counted: tuple[HashName, ...] = ("decisions", "decision-ids", "trades")
        return len(self.rows) + sum(len(self.hashes[name]) for name in counted)

    @property
    def lists(self) -> list[tuple[list[str], list[str]]]:
        """Give for each hash, in the order of the script's keys, fields and values to set, and fields to delete."""
        fixed = [(one.sets, one.deletes) for one in self.hashes.values()]
        return fixed + [(row, []) for row in self.rows.values()]

    def empty(self) -> "RedisDelta":
        """Give one of the same positions that writes nothing."""
        return RedisDelta(self.partition, self.since, self.position)

    def parts(self, size: int) -> "Iterator[RedisDelta]":
        """Cut all but the totals into writes of at most about `size` fields."""
        for name, whole in self.hashes.items():
            if name == "totals":
                continue
            for piece in whole.parts(size):
                part = self.empty()
                part.hashes[name] = piece
                yield part
        rows = list(self.rows.items())
        step = max(1, size // _ROW_FIELDS)
        for start in range(0, len(rows), step):
            part = self.empty()
            part.rows = dict(rows[start : start + step])
            yield part


def prepared(
    keys: PartitionKeys, partition: int, state: PartitionState, since: Position
) -> RedisDelta:
    """Take a state's changes as a write.

    Args:
        keys: Of the partition.
        partition: Its number.
        state: Its changes are taken.
        since: Where the view is known to stand.
    """
    changes, table = state.take_changes(), state.table
    delta = RedisDelta(partition, since, state.position)
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
    remembered, decisions = state.decisions, hashes["decisions"]
    for decision_id in changes.decisions.decisions:
        decision = remembered.find(decision_id)
        text = None if decision is None else codec.encode_decision(decision)
        decisions.put(decision_id, text)
    decision_ids = hashes["decision-ids"]
    for account, decision_id in changes.decisions.ids:
        number = remembered.lone_number(account, decision_id)
        text = None if number is None else codec.encode_decision_id(account, number)
        decision_ids.put(decision_id, text)
    trades = hashes["trades"]
    for touched in changes.trades:
        account, trade_id = touched.account, touched.trade_id
        trade = state.trades[account].by_key.get(trade_id)
        text = None if trade is None else codec.encode_trade(trade)
        trades.put(codec.trade_field(account, trade_id), text)
    markets = hashes["markets"]
    for market in changes.markets:
        markets.put(codec.market_field(market), codec.encode_held(state.markets[market]))
    if state.following is not None:
        _put_following(delta, state.following, changes.following)
    return delta


def _totals_fields(state: PartitionState) -> list[str]:
    # open and followed ones for pages, which cannot count them cheaply
    followed = 0 if state.following is None else state.following.open_count
    counts = {**asdict(state.totals), "open": len(state.decisions.open), "followed": followed}
    return [text for name, count in counts.items() for text in (name, str(count))]


def _put_following(delta: RedisDelta, following: Following, changes: FollowingChanges) -> None:
    followed, series = delta.hashes["followed"], delta.hashes["series"]
    for decision_id in changes.followed:
        one = following.followed.get(decision_id)
        followed.put(decision_id, None if one is None else codec.encode_followed(one))
    for one_series in changes.series:
        text = codec.encode_last_candle(following.series[one_series])
        series.put(codec.series_field(one_series), text)
