"""Kafka's logs: records, markers, and what may be read of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from aiokafka import TopicPartition

from consumer.stream.read_record import ReadRecord


class NewRecord(NamedTuple):
    """A record to append."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = 0


class Fate(Enum):
    """Where a transaction stands."""

    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    COMMITTED = "committed"
    ABORTED = "aborted"


class GroupOffset(NamedTuple):
    """What the group keeps of a partition."""

    offset: int
    metadata: str
    place: int
    """Order in which commits were received: the last one received wins, whenever it is decided."""


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction of one transactional id."""

    owner: str
    fate: Fate = Fate.OPEN
    logs: set[TopicPartition] = field(default_factory=set)
    has_group: bool = False
    offsets: dict[TopicPartition, GroupOffset] = field(default_factory=dict)


ABORTED = Transaction("", Fate.ABORTED)
"""Whose records nobody reads."""


class Log:
    """One partition of a topic: nothing is ever deleted."""

    def __init__(self, name: TopicPartition) -> None:
        self.name = name
        self.entries: list[tuple[ReadRecord | None, Transaction | None]] = []
        """Record, or None for a marker; the transaction it belongs to."""
        self.undecided: dict[Transaction, int] = {}
        self.on_readable: dict[object, Callable[[], None]] = {}
        """Who waits for more to read; called once."""

    @property
    def end(self) -> int:
        """The offset behind the last entry."""
        return len(self.entries)

    @property
    def last_stable_offset(self) -> int:
        """Where the first undecided transaction begins; the end when there is none."""
        return min(self.undecided.values()) if self.undecided else len(self.entries)

    def append(self, records: Iterable[NewRecord], transaction: Transaction | None) -> int:
        """Append records; give the offset of the first."""
        first = len(self.entries)
        topic, partition = self.name
        for offset, record in enumerate(records, first):
            key, value, headers, timestamp_ms = record
            self.entries.append(
                (
                    ReadRecord(topic, partition, offset, timestamp_ms, key, value, tuple(headers)),
                    transaction,
                )
            )
        if transaction is None:
            self._tell()
        else:
            self.undecided.setdefault(transaction, first)
        return first

    def mark(self, transaction: Transaction) -> None:
        """Write a transaction's marker: its records are decided now."""
        self.entries.append((None, transaction))
        self.undecided.pop(transaction, None)
        self._tell()

    def _tell(self) -> None:
        waiting, self.on_readable = self.on_readable, {}
        for callback in waiting.values():
            callback()

    def read(
        self, start: int, limit: int | None = None, *, committed: bool = True
    ) -> tuple[list[ReadRecord], int]:
        """Give records from an offset on, and where to go on."""
        found: list[ReadRecord] = []
        at, end = start, self.last_stable_offset if committed else len(self.entries)
        while at < end and (limit is None or len(found) < limit):
            record, transaction = self.entries[at]
            at += 1
            if record is not None and (
                not committed or transaction is None or transaction.fate is not Fate.ABORTED
            ):
                found.append(record)
        return found, max(at, start)
