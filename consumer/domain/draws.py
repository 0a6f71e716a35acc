"""Random draws that anybody can make again."""

import hashlib
from collections.abc import Iterator
from functools import cache
from itertools import count
from struct import Struct
from typing import Protocol


class Draws(Protocol):
    """A source of random numbers; `random.Random` is one."""

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""


@cache
def _keyed(seed: int) -> "hashlib.blake2b":
    return hashlib.blake2b(key=str(seed).encode()[:64])


class KeyedDraws:
    """Uniform numbers that depend on a seed and an id alone: a keyed hash, in counter mode.

    A generator of the process would give other numbers after a restart, or to another worker; this
    one gives a decision the same numbers wherever and whenever it is made again.

    Args:
        seed: Of all draws, equal in all workers.
        draw_id: What is drawn for, such as a decision id.

    Source: BLAKE2b as a keyed hash (RFC 7693, section 2.9); 53 bits a number, as random.random().
    """

    __slots__ = ("_draw_id", "_numbers", "_seed")

    def __init__(self, seed: int, draw_id: str) -> None:
        self._seed, self._draw_id = seed, draw_id
        self._numbers: Iterator[float] | None = None
        """Begun with the first draw: not every policy makes one."""

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""
        if self._numbers is None:
            self._numbers = _numbers(_keyed(self._seed), self._draw_id.encode())
        return next(self._numbers)


_EIGHT = Struct("<8Q").unpack


def _numbers(keyed: "hashlib.blake2b", draw_id: bytes) -> Iterator[float]:
    for block in count():
        hashed = keyed.copy()
        hashed.update(block.to_bytes(4, "little") + draw_id)
        for number in _EIGHT(hashed.digest()):
            yield (number >> 11) * 2.0**-53
