"""A record that was read: what is used of the client's own, at a third of its price."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from mypy_extensions import mypyc_attr


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class ReadRecord:
    """A record of Kafka; never changed once made.

    Its names are those of the client's ConsumerRecord.
    """

    topic: Final[str]
    partition: Final[int]
    offset: Final[int]
    timestamp: Final[int]
    """[Unix ms]."""
    key: Final[bytes | None]
    value: Final[bytes | None]
    headers: Final[tuple[tuple[str, bytes | None], ...]]
    size: Final[int]
    """Of key, value and headers [bytes]."""
    received_s: Final[float]
    """When it was read, by `time.perf_counter` [s]."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
        received_s: float = 0.0,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
        size = (0 if key is None else len(key)) + (0 if value is None else len(value))
        for name, content in headers:
            size += len(name) + (0 if content is None else len(content))
        self.size = size
        self.received_s = received_s


_NO_TIME: Final = -1
"""What Kafka calls it: records of the oldest format have none."""


def read_record(log: Any, record: Any) -> ReadRecord:
    """Take over what the client has unpacked of a log."""
    timestamp = record.timestamp
    return ReadRecord(
        log.topic,
        log.partition,
        record.offset,
        _NO_TIME if timestamp is None else timestamp,
        record.key,
        record.value,
        tuple(record.headers),
        perf_counter(),
    )
