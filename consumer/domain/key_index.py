"""Which group each of many keys is in, without the keys: sixteen to thirty-two bytes a key."""

from array import array
from typing import Final

_HASH_BITS: Final = 0x3FFF_FFFF
_GROUP_BITS: Final = 32
_EMPTY: Final = -1
_FIRST_SIZE: Final = 128
_NOWHERE: Final[tuple[int, ...]] = ()

GROUPS: Final = (1 << _GROUP_BITS) - 1
"""Highest number of a group."""


class KeyIndex:
    """Numbers of groups by key. A key may be told to be in a group where it is not, seldom: look there.

    Hashing with open addresses, linear probes, and deletion that moves back what comes behind.

    Source: D. E. Knuth, The Art of Computer Programming 3, section 6.4, algorithms L and R.
    """

    __slots__ = ("_count", "_mask", "_slots")

    def __init__(self) -> None:
        self._slots = array("q")
        """Of the key's hash 30 bits and the group's number as one; its first place is told by the hash."""
        self._mask = -1
        self._count = 0

    def groups(self, key: str) -> tuple[int, ...]:
        """Give the groups that a key may be in: nearly always one or none."""
        found = _NOWHERE
        if not self._count:
            return found
        slots, mask = self._slots, self._mask
        wanted = hash(key) & _HASH_BITS
        place = wanted & mask
        while (slot := slots[place]) != _EMPTY:
            if slot >> _GROUP_BITS == wanted:
                found += (slot & GROUPS,)
            place = (place + 1) & mask
        return found

    def add(self, key: str, group: int) -> None:
        """Put a key that is not there.

        Args:
            key: Which one.
            group: 0 .. `GROUPS`.
        """
        self._count += 1
        if 2 * self._count > self._mask:
            self._grow()
        self._put(((hash(key) & _HASH_BITS) << _GROUP_BITS) | group)

    def _put(self, slot: int) -> None:
        slots, mask = self._slots, self._mask
        place = (slot >> _GROUP_BITS) & mask
        while slots[place] != _EMPTY:
            place = (place + 1) & mask
        slots[place] = slot

    def _grow(self) -> None:
        old = self._slots
        size = max(_FIRST_SIZE, 2 * len(old))
        self._slots, self._mask = array("q", [_EMPTY]) * size, size - 1
        for slot in old:
            if slot != _EMPTY:
                self._put(slot)

    def remove(self, key: str, group: int) -> None:
        """Take out a key that is there, in this group."""
        slots, mask = self._slots, self._mask
        leaving = ((hash(key) & _HASH_BITS) << _GROUP_BITS) | group
        gap = (leaving >> _GROUP_BITS) & mask
        while slots[gap] != leaving:
            gap = (gap + 1) & mask
        self._count -= 1
        place = gap
        while (slot := slots[place := (place + 1) & mask]) != _EMPTY:
            # what stands behind the gap moves there, unless its first place is between the two
            if (place - (slot >> _GROUP_BITS)) & mask >= (place - gap) & mask:
                slots[gap], gap = slot, place
        slots[gap] = _EMPTY

    def clear(self) -> None:
        """Forget all."""
        self._slots = array("q")
        self._mask = -1
        self._count = 0
