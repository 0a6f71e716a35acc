"""Records whose header names are no UTF-8: read all the same, where the client ends in an error.

The client reads header names strictly, although the broker takes any bytes: one such record would end
whoever reads its partition, again and again. Here such a name gets backslashes where its bytes are no
UTF-8. Nothing is slower for it until there is one. All records that are read are made here, and small: see `read_record`.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from consumer.stream.read_record import read_record

_LENGTH_AT = 8
_BEFORE_LENGTH = 12
"""A batch begins with its first offset and, behind it, the length of all that follows."""


class KeptRecords(MemoryRecords):  # type: ignore[misc]  # the client has no types
    """A broker's answer for one partition, which can be read once more.

    Args:
        data: The batches, one behind the other; the last one may be cut off.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class TolerantRecords(PartitionRecords):  # type: ignore[misc]
    """The records of such an answer, without what was aborted."""

    _records_iterator: Any
    _consumer_record = staticmethod(read_record)

    def __init__(
        self,
        tp: Any,
        records: KeptRecords,
        aborted_transactions: Any,
        fetch_offset: int,
        *rest: Any,
    ) -> None:
        super().__init__(tp, records, aborted_transactions, fetch_offset, *rest)
        self._made_of = tp, records.data, aborted_transactions, rest

    def __next__(self) -> Any:
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None  # as the client does: it breaks a reference cycle
            raise
        except UnicodeDecodeError:
            return self._next_read_slowly()

    def _next_read_slowly(self) -> Any:
        """Give the next record, and all that follow, by the slow reader."""
        tp, data, aborted, rest = self._made_of
        goes_on_at = self.next_fetch_offset
        # from the beginning again, for the sake of what was aborted
        super().__init__(tp, _SlowRecords(data), aborted, goes_on_at, *rest)
        while (record := next(self._records_iterator)).offset < goes_on_at:
            pass
        return record


class _SlowRecords:
    """The same answer, for the client's own slow reader."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._at = 0

    def has_next(self) -> bool:
        found: bool = self._records.has_next()
        return found

    def next_batch(self) -> "_SlowBatch":
        self._records.next_batch()
        start = self._at
        (length,) = struct.unpack_from(">i", self._data, start + _LENGTH_AT)
        self._at += _BEFORE_LENGTH + length
        return _SlowBatch(memoryview(self._data)[start : self._at])


class _SlowBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def __iter__(self) -> Iterator[Any]:
        unpacked: Iterator[Any] = super().__iter__()
        self._buffer: Any = _Bytes(self._buffer)  # the only text that is read of it are the names
        return unpacked


class _Bytes(bytearray):
    """Bytes that can be read as text whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Bytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
