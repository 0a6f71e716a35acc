"""Random draws that anybody can make again."""

import hashlib
from functools import cache
from typing import Final, Protocol


class Draws(Protocol):
    """A source of random numbers; `random.Random` is one."""

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""


_IN_A_DIGEST: Final = 8
"""Numbers of 64 bits."""


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

    __slots__ = ("_digest", "_draw_id", "_drawn", "_seed")

    def __init__(self, seed: int, draw_id: str) -> None:
        self._seed, self._draw_id = seed, draw_id
        self._drawn = 0
        self._digest = b""
        """Of the numbers that are drawn now; made with the first of them: not every policy draws."""

    def random(self) -> float:
        """Give the next number, uniform in [0, 1)."""
        place = self._drawn % _IN_A_DIGEST
        if place == 0:
            hashed = _keyed(self._seed).copy()
            block = self._drawn // _IN_A_DIGEST
            hashed.update(block.to_bytes(4, "little") + self._draw_id.encode())
            self._digest = hashed.digest()
        self._drawn += 1
        number = int.from_bytes(self._digest[8 * place : 8 * place + 8], "little")
        return (number >> 11) * 2.0**-53
