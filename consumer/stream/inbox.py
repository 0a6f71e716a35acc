"""Records of one log that were read and not worked off yet; too many of them hold reading back."""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple, Protocol

from aiokafka import TopicPartition

from consumer.stream.read_record import ReadRecord


class Marks(NamedTuple):
    """When enough records wait, so that no more are read, and when few enough do again."""

    full: int
    low: int
    full_bytes: int
    low_bytes: int
    """Records may be a megabyte each, and that is what a broker sends at once."""


class Pausable(Protocol):
    """What an inbox asks of a consumer."""

    def pause(self, partition: TopicPartition) -> None:
        """Read no more of a log."""

    def resume(self, partition: TopicPartition) -> None:
        """Read it again."""


class Inbox:
    """Records of a log, in their order.

    Args:
        consumer: That reads it.
        log: Which one.
        marks: When reading is held back.
    """

    def __init__(self, consumer: Pausable, log: TopicPartition, marks: Marks) -> None:
        self._consumer = consumer
        self._log = log
        self._marks = marks
        self._records: deque[ReadRecord] = deque()
        self._is_held_back = False
        self.size = 0
        """Of all records [bytes]."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def first(self) -> ReadRecord:
        """The next record; there is one."""
        return self._records[0]

    def put(self, records: Sequence[ReadRecord]) -> None:
        """Add records that were read."""
        self._records.extend(records)
        for record in records:
            self.size += record.size
        marks = self._marks
        is_full = len(self._records) >= marks.full or self.size >= marks.full_bytes
        if is_full and not self._is_held_back:
            self._consumer.pause(self._log)
            self._is_held_back = True

    def take(self, room: int, room_bytes: float = inf, latest_ms: float = inf) -> list[ReadRecord]:
        """Take the next records out.

        Args:
            room: Records at most.
            room_bytes: The record that reaches this size is the last one.
            latest_ms: Up to one of a later record time [Unix ms].
        """
        taken: list[ReadRecord] = []
        records, size = self._records, 0
        while records and len(taken) < room and size < room_bytes:
            record = records[0]
            if latest_ms < inf and record.timestamp > latest_ms:
                break
            records.popleft()
            taken.append(record)
            size += record.size
        self.size -= size
        marks = self._marks
        if self._is_held_back and len(records) < marks.low and self.size < marks.low_bytes:
            self._consumer.resume(self._log)
            self._is_held_back = False
        return taken

    def clear(self) -> None:
        """Let go of all."""
        self._records.clear()
        self.size = 0
