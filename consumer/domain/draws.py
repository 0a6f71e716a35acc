"""Random draws that anybody can make again."""

import hashlib
from functools import cache
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

    __slots__ = ("_block", "_block_number", "_draw_id", "_seed")

    def __init__(self, seed: int, draw_id: str) -> None:
        self._seed = seed
        self._draw_id = draw_id.encode()
        self._block = b""
        self._block_number = 0

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""
        if not self._block:
            keyed = _keyed(self._seed).copy()
            keyed.update(self._block_number.to_bytes(4, "little") + self._draw_id)
            self._block = keyed.digest()
            self._block_number += 1
        number, self._block = self._block[:8], self._block[8:]
        return (int.from_bytes(number, "little") >> 11) * 2.0**-53
