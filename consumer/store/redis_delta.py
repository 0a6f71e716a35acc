"""What a state has changed -> fields of Redis hashes to set and to delete."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain

from consumer.domain.following import Following, FollowingChanges
from consumer.domain.partition_state import PartitionState, Position
from consumer.store import codec
from consumer.store.keys import PartitionKeys, context_name

_HASHES = (
    "contexts",
    "decisions",
    "decision_ids",
    "trades",
    "totals",
    "parents",
    "markets",
    "followed",
    "series",
)
"""The fixed hashes in the order of the script's keys."""
_ROW_FIELDS = 60
"""Of a row's hash, about."""


class HashDelta:
    """Fields of one hash to set and to delete.

    Args:
        sets: The former, at first.
    """

    __slots__ = ("deletes", "sets")

    def __init__(self, sets: dict[str, str] | None = None) -> None:
        self.sets: dict[str, str] = {} if sets is None else sets
        self.deletes: list[str] = []

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

    def parts(self, size: int) -> "Iterator[HashDelta]":
        """Cut the sets into pieces of at most `size` fields."""
        items = list(self.sets.items())
        for start in range(0, len(items), size):
            yield HashDelta(dict(items[start : start + size]))


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
        self.contexts = HashDelta()
        self.decisions = HashDelta()
        self.decision_ids = HashDelta()
        self.trades = HashDelta()
        self.totals = HashDelta()
        self.parents = HashDelta()
        self.markets = HashDelta()
        self.followed = HashDelta()
        self.series = HashDelta()
        self.rows: dict[str, HashDelta] = {}
        """Hashes of contexts, by key."""

    def __len__(self) -> int:
        return sum(len(h) for h in (self.decisions, self.decision_ids, self.trades)) + len(
            self.rows
        )

    @property
    def hashes(self) -> list[HashDelta]:
        """Give the fixed hashes in the order of the script's keys."""
        return [getattr(self, name) for name in _HASHES]

    def empty(self) -> "RedisDelta":
        """Give one of the same positions that writes nothing."""
        return RedisDelta(self.partition, self.since, self.position)

    def parts(self, size: int) -> "Iterator[RedisDelta]":
        """Cut all but the totals into writes of at most about `size` fields."""
        for name, whole in zip(_HASHES, self.hashes, strict=True):
            if name == "totals":
                continue
            for piece in whole.parts(size):
                part = self.empty()
                setattr(part, name, piece)
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
    delta.totals.sets = _totals_fields(state)
    rows, contexts, prefix = delta.rows, delta.contexts.sets, keys.row_prefix
    for context, strategy in changes.table.arms:
        name, known = context_name(context), table.rows[context]
        row = rows.get(prefix + name)
        if row is None:
            row = rows[prefix + name] = HashDelta()
            contexts[name] = codec.encode_row(context, known)
        row.sets.update(codec.arm_fields(strategy, known[strategy]))
    parents = delta.parents.sets
    for parent, strategy in changes.table.parents:
        parents[codec.parent_field(parent, strategy)] = codec.encode_parent(
            parent, strategy, table.parents[parent][strategy]
        )
    remembered = state.decisions
    for decision_id in changes.decisions.decisions:
        decision = remembered.find(decision_id)
        text = None if decision is None else codec.encode_decision(decision)
        delta.decisions.put(decision_id, text)
    for account, decision_id in changes.decisions.ids:
        number = remembered.lone_number(account, decision_id)
        text = None if number is None else codec.encode_decision_id(account, number)
        delta.decision_ids.put(decision_id, text)
    for touched in changes.trades:
        account, trade_id = touched.account, touched.trade_id
        trade = state.trades[account].by_key.get(trade_id)
        text = None if trade is None else codec.encode_trade(trade)
        delta.trades.put(codec.trade_field(account, trade_id), text)
    markets = delta.markets.sets
    for market in changes.markets:
        markets[codec.market_field(market)] = codec.encode_held(state.markets[market])
    if state.following is not None:
        _put_following(delta, state.following, changes.following)
    return delta


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
