"""What is remembered by key, oldest first, until newer ones take its place."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

import cramjam
from msgspec import msgpack

from consumer.domain.key_index import GROUPS, KeyIndex

V = TypeVar("V")

Row = Sequence[Any]
"""A value as texts, numbers and lists of them, its key first."""

GROUP = 64
"""Entries that are packed together: more take hardly less, and longer to be looked into."""
LOOSE = 500
"""Newest entries that are left as they are: a decision's next trade comes soon, mostly."""
_LEVEL: Final = 1
_ENCODE: Final = msgpack.Encoder().encode
_DECODE: Final = msgpack.Decoder(list[Row]).decode
_NONE: Final = -1


class Window(Generic[V]):
    """Values by key, in the order in which they came: the newest as they are, older ones packed in groups.

    Hundreds of thousands are remembered for years, and hardly one of them is ever looked up again.

    Args:
        rows_of: Gives keys and their values as rows.
        value_of: Gives the value of a row.
    """

    __slots__ = (
        "_count",
        "_front",
        "_front_size",
        "_gone",
        "_index",
        "_loose",
        "_next_group",
        "_packed",
        "_read",
        "_read_group",
        "_rows_of",
        "_value_of",
    )

    def __init__(
        self,
        rows_of: Callable[[Sequence[str], Sequence[V]], list[Row]],
        value_of: Callable[[Row], V],
    ) -> None:
        self._rows_of = rows_of
        self._value_of = value_of
        self._front: dict[str, V] = {}
        """The oldest entries, the first of them last, where a dictionary gives one out at once: they leave next."""
        self._front_size = 0
        """How many they were at first."""
        # ordered: a plain one goes over all that have left each time, to find its first
        self._packed: OrderedDict[int, bytes] = OrderedDict()
        """Groups by number, oldest first."""
        self._next_group = 0
        self._gone: dict[int, int] = {}
        """Of groups some of whose entries were taken out: a bit for each of those."""
        self._loose: dict[str, V] = {}
        """The newest entries."""
        self._index = KeyIndex()
        """Of the packed entries."""
        self._count = 0
        self._read: list[Row] = []
        """What was unpacked last: repeats come in the order of what they repeat."""
        self._read_group = _NONE

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._loose or self._find(key) is not None

    def get(self, key: str) -> V | None:
        """Give the value of a key; None where there is none."""
        found = self._loose.get(key)
        return self._find(key) if found is None else found

    def _find(self, key: str) -> V | None:
        found = self._front.get(key)
        if found is not None:
            return found
        for group in self._index.groups(key):
            if (place := self._place(key, group)) != _NONE:
                return self._value_of(self._read[place])
        return None

    def _place(self, key: str, group: int) -> int:
        """Read a packed group and find a key in it."""
        rows = self._rows(group)
        for place in range(len(rows)):
            if rows[place][0] == key and not self._gone.get(group, 0) >> place & 1:
                return place
        return _NONE

    def _rows(self, group: int) -> list[Row]:
        """Read a packed group, with what was taken out."""
        if group != self._read_group:
            self._read = _unpacked(self._packed[group])
            self._read_group = group
        return self._read

    def add(self, key: str, value: V) -> None:
        """Put the newest, whose key is not there."""
        self._loose[key] = value
        self._count += 1

    def replace(self, key: str, value: V) -> None:
        """Put another value in the place of one.

        Raises:
            KeyError: There is none.
        """
        for unpacked in (self._loose, self._front):
            if key in unpacked:
                unpacked[key] = value
                return
        for group in self._index.groups(key):
            if (place := self._place(key, group)) != _NONE:
                self._read[place] = self._rows_of([key], [value])[0]
                self._packed[group] = _packed(self._read)
                return
        raise KeyError(key)

    def remove(self, key: str) -> None:
        """Take one out.

        Raises:
            KeyError: It is not there.
        """
        if key in self._loose:
            del self._loose[key]
        elif key in self._front:
            self._take_from_front(key)
        else:
            self._take_from_packed(key)
        self._count -= 1

    def _take_from_front(self, key: str) -> None:
        # a dictionary goes over all that were deleted from its end each time it is asked for its last one, but not
        # over those that were popped
        front = self._front
        oldest, value = front.popitem()
        if oldest != key:
            front[oldest] = value
            del front[key]
        if 4 * len(front) < self._front_size:
            self._front, self._front_size = dict(front.items()), len(front)

    def _take_from_packed(self, key: str) -> None:
        for group in self._index.groups(key):
            if (place := self._place(key, group)) != _NONE:
                self._index.remove(key, group)
                self._mark(group, place)
                return
        raise KeyError(key)

    def _mark(self, group: int, place: int) -> None:
        """Let an entry of a packed group count no more; pack the rest anew where it is half of them."""
        gone = self._gone.get(group, 0) | 1 << place
        rows = self._rows(group)
        if 2 * gone.bit_count() < len(rows):
            self._gone[group] = gone
            return
        left = [row for number, row in enumerate(rows) if not gone >> number & 1]
        if not left:
            self._let_go(group)
            return
        self._gone.pop(group, None)
        self._packed[group], self._read = _packed(left), left

    @property
    def oldest(self) -> V:
        """The first of them.

        Raises:
            IndexError: There is none.
        """
        if not self._front:
            self._fill_front()
        for value in reversed(self._front.values()):
            return value
        raise IndexError("a window without entries")

    @property
    def newest(self) -> V:
        """The last of them.

        Raises:
            IndexError: There is none.
        """
        for _, value in self.newest_first():
            return value
        raise IndexError("a window without entries")

    def pop_oldest(self) -> tuple[str, V]:
        """Take the first one out, with its key.

        Raises:
            IndexError: There is none.
        """
        if not self._front:
            self._fill_front()
        if not self._front:
            raise IndexError("a window without entries")
        self._count -= 1
        return self._front.popitem()

    def _fill_front(self) -> None:
        """Make what leaves next ready."""
        for group in self._packed:
            for key, value in self._entries(group):
                self._index.remove(key, group)
                self._front[key] = value
            self._let_go(group)
            break
        else:
            # a part alone, of which each entry costs little: the rest is to be packed
            keys, values = list(self._loose), list(self._loose.values())
            end = max(GROUP, len(keys) // 8)
            self._front = dict(zip(reversed(keys[:end]), reversed(values[:end]), strict=True))
            self._loose = dict(zip(keys[end:], values[end:], strict=True))
        self._front_size = len(self._front)

    def _let_go(self, group: int) -> None:
        del self._packed[group]
        self._gone.pop(group, None)
        if self._read_group == group:
            self._read, self._read_group = [], _NONE

    def _take_number(self) -> int:
        while self._next_group in self._packed:
            self._next_group = (self._next_group + 1) & GROUPS
        group, self._next_group = self._next_group, (self._next_group + 1) & GROUPS
        return group

    def _entries(self, group: int) -> Iterator[tuple[str, V]]:
        """Give keys and values of a packed group, the last one first."""
        rows, gone = _unpacked(self._packed[group]), self._gone.get(group, 0)
        for place in reversed(range(len(rows))):
            if not gone >> place & 1:
                yield rows[place][0], self._value_of(rows[place])

    def pack(self) -> None:
        """Pack what is not among the newest."""
        spare = len(self._loose) - LOOSE
        if spare < GROUP:
            return
        keys, values = list(self._loose), list(self._loose.values())
        end = spare - spare % GROUP
        for start in range(0, end, GROUP):
            part = keys[start : start + GROUP]
            group = self._take_number()
            rows = self._rows_of(part, values[start : start + GROUP])
            self._packed[group] = _packed(rows)
            for key in part:
                self._index.add(key, group)
        self._loose = dict(zip(keys[end:], values[end:], strict=True))

    def newest_first(self) -> Iterator[tuple[str, V]]:
        """Give keys and values, the last one first; nothing may come or go meanwhile."""
        yield from reversed(self._loose.items())
        for group in reversed(self._packed):
            yield from self._entries(group)
        yield from self._front.items()

    def oldest_first(self) -> Iterator[tuple[str, V]]:
        """Give keys and values, the first one first; nothing may come or go meanwhile."""
        yield from reversed(self._front.items())
        for group in self._packed:
            entries = list(self._entries(group))
            entries.reverse()
            yield from entries
        yield from self._loose.items()

    def items(self) -> list[tuple[str, V]]:
        """Give keys and values, the first one first."""
        return list(self.oldest_first())

    def values(self) -> list[V]:
        """Give the values, the first one first."""
        return [value for _, value in self.oldest_first()]

    def clear(self) -> None:
        """Forget all."""
        self._front = {}
        self._packed.clear()
        self._gone = {}
        self._loose = {}
        self._index.clear()
        self._count = 0
        self._read, self._read_group = [], _NONE


def _packed(rows: Sequence[Row]) -> bytes:
    return bytes(cramjam.zstd.compress(_ENCODE(rows), _LEVEL))


def _unpacked(packed: bytes) -> list[Row]:
    return _DECODE(bytes(cramjam.zstd.decompress(packed)))
