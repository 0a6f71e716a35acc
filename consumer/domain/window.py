"""What is remembered by key, oldest first, until newer ones take its place."""

import marshal
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import cramjam

from consumer.domain.key_index import GROUPS, KeyIndex

V = TypeVar("V")

Row = tuple[Any, ...]
"""A value as plain texts and numbers, its key first."""

GROUP = 64
"""Entries that are packed together: more take hardly less, and longer to be looked into."""
LOOSE = 500
"""Newest entries that are left as they are: a decision's next trade comes soon, mostly."""
_LEVEL: Final = 1
_NONE: Final = -1


class Window(Generic[V]):
    """Values by key, in the order in which they came: the newest as they are, older ones packed in groups.

    Hundreds of thousands are remembered for years, and hardly one of them is ever looked up again.

    Args:
        row_of: Gives a key and its value as a row.
        value_of: Gives the value of a row.
    """

    __slots__ = (
        "_count",
        "_front",
        "_front_group",
        "_gone",
        "_index",
        "_loose",
        "_next_group",
        "_packed",
        "_read",
        "_read_group",
        "_row_of",
        "_value_of",
    )

    def __init__(self, row_of: Callable[[str, V], Row], value_of: Callable[[Row], V]) -> None:
        self._row_of = row_of
        self._value_of = value_of
        self._front: list[tuple[str, V]] = []
        """The oldest entries, the first of them last: they leave next."""
        self._front_group = _NONE
        self._packed: dict[int, bytes] = {}
        """Groups by number, oldest first."""
        self._next_group = 0
        self._gone: dict[int, int] = {}
        """Of groups some of whose entries were taken out: a bit for each of those."""
        self._loose: dict[str, V] = {}
        """The newest entries."""
        self._index = KeyIndex()
        """Of all entries but those."""
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
        for group in self._index.groups(key):
            if group == self._front_group:
                for one, value in self._front:
                    if one == key:
                        return value
            elif (place := self._place(key, group)) != _NONE:
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
        if key in self._loose:
            self._loose[key] = value
            return
        for group in self._index.groups(key):
            if group == self._front_group:
                for place, (one, _) in enumerate(self._front):
                    if one == key:
                        self._front[place] = key, value
                        return
            elif (place := self._place(key, group)) != _NONE:
                self._read[place] = self._row_of(key, value)
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
        else:
            self._index.remove(key, self._take_out(key))
        self._count -= 1

    def _take_out(self, key: str) -> int:
        """Take out one that is not loose; give its group."""
        for group in self._index.groups(key):
            if group == self._front_group:
                for place in reversed(range(len(self._front))):  # mostly it is the oldest
                    if self._front[place][0] == key:
                        del self._front[place]
                        return group
            elif (place := self._place(key, group)) != _NONE:
                self._mark(group, place)
                return group
        raise KeyError(key)

    def _mark(self, group: int, place: int) -> None:
        """Let an entry of a packed group count no more; pack the rest anew where it is half of them."""
        gone = self._gone.get(group, 0) | 1 << place
        rows = self._rows(group)
        if 2 * gone.bit_count() < len(rows):
            self._gone[group] = gone
            return
        self._read = [row for number, row in enumerate(rows) if not gone >> number & 1]
        self._gone.pop(group, None)
        if self._read:
            self._packed[group] = _packed(self._read)
        else:
            del self._packed[group]
            self._read_group = _NONE

    @property
    def oldest(self) -> V:
        """The first of them.

        Raises:
            IndexError: There is none.
        """
        if not self._front and self._packed:
            self._fill_front()
        if self._front:
            return self._front[-1][1]
        for value in self._loose.values():
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
        found = self._front.pop()
        self._index.remove(found[0], self._front_group)
        self._count -= 1
        return found

    def _fill_front(self) -> None:
        """Make what leaves next ready."""
        if not self._packed:
            self.pack()  # to take a few from many costs as much as to pack them, each time
        for group in self._packed:
            entries = list(self._entries(group))
            del self._packed[group]
            self._gone.pop(group, None)
            self._read, self._read_group = [], _NONE
            self._front, self._front_group = entries, group
            return
        loose = list(self._loose.items())
        self._front, self._front_group = loose[:GROUP][::-1], self._take_number()
        self._loose = dict(loose[GROUP:])
        for key, _ in self._front:
            self._index.add(key, self._front_group)

    def _take_number(self) -> int:
        while self._next_group in self._packed or self._next_group == self._front_group:
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
        entries = list(self._loose.items())
        end = spare - spare % GROUP
        for start in range(0, end, GROUP):
            part = entries[start : start + GROUP]
            group = self._take_number()
            self._packed[group] = _packed([self._row_of(key, value) for key, value in part])
            for key, _ in part:
                self._index.add(key, group)
        self._loose = dict(entries[end:])

    def newest_first(self) -> Iterator[tuple[str, V]]:
        """Give keys and values, the last one first; nothing may come or go meanwhile."""
        yield from reversed(self._loose.items())
        for group in reversed(self._packed):
            yield from self._entries(group)
        yield from self._front

    def items(self) -> list[tuple[str, V]]:
        """Give keys and values, the first one first."""
        found = list(self.newest_first())
        found.reverse()
        return found

    def values(self) -> list[V]:
        """Give the values, the first one first."""
        return [value for _, value in self.items()]

    def clear(self) -> None:
        """Forget all."""
        self._front = []
        self._front_group = _NONE
        self._packed = {}
        self._gone = {}
        self._loose = {}
        self._index.clear()
        self._count = 0
        self._read, self._read_group = [], _NONE


def _packed(rows: list[Row]) -> bytes:
    return bytes(cramjam.zstd.compress(marshal.dumps(rows), _LEVEL))


def _unpacked(packed: bytes) -> list[Row]:
    rows: list[Row] = marshal.loads(bytes(cramjam.zstd.decompress(packed)))  # noqa: S302  of this process alone
    return rows
