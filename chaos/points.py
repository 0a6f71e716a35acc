"""The places at which a worker can be struck, and the file by which it is told where and when.

Used by the struck process (`chaos.worker`) and by the one that strikes: a file of 32 bytes that both
map into memory, so that a running worker can be armed without being asked.
"""

import mmap
import struct
from pathlib import Path
from typing import Literal, Self

Moment = Literal["before", "during", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "during", "after")

OPENING = (
    "assigned",
    "sink start",
    "offsets read",
    "shut out",
    "claim",
    "load",
    "catch-up",
    "seek",
)
"""Passed when partitions are opened, in this order."""
SERVING = ("begin", "send", "offsets", "commit", "committed", "view write")
"""Passed by each transaction, in this order."""
RARE = ("view rewrite", "recycle", "revoked", "leave")
"""Passed after a loss, after a slow commit, when a rebalance begins, at the end of a membership."""
POINTS = (*OPENING, *SERVING, *RARE)

_FORMAT = struct.Struct("<BBBBHxxq")
SIZE = 32


class Control:
    """What a worker is told: where to be struck, and how far its wall clock is off.

    Args:
        path: The file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size != SIZE:
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()

    @property
    def is_armed(self) -> bool:
        """Whether a strike is waiting for its place."""
        return bool(self.memory[0])

    def read(self) -> tuple[bool, str, Moment, int, int, int]:
        """Give armed, point, moment, signal number, passages left, clock offset [s]."""
        armed, point, moment, number, passages, offset_s = _FORMAT.unpack_from(self.memory)
        return bool(armed), POINTS[point], MOMENTS[moment], number, passages, offset_s

    def arm(self, point: str, moment: Moment, signal_number: int, passages: int) -> None:
        """Strike at the n-th passage from now on, n being `passages`."""
        offset_s = self.clock_offset_s
        # the flag is written last: a worker never sees half an order
        packed = _FORMAT.pack(
            0, POINTS.index(point), MOMENTS.index(moment), signal_number, passages, offset_s
        )
        self.memory[: len(packed)] = packed
        self.memory[0] = 1

    def count_down(self) -> int:
        """Count one passage; give how many are left."""
        left: int = max(0, struct.unpack_from("<H", self.memory, 4)[0] - 1)
        struct.pack_into("<H", self.memory, 4, left)
        return left

    def disarm(self) -> None:
        """Take an order back."""
        self.memory[0] = 0

    @property
    def clock_offset_s(self) -> int:
        """How far the wall clock of the process is ahead [s]."""
        offset: int = struct.unpack_from("<q", self.memory, 8)[0]
        return offset

    def set_clock(self, offset_s: int) -> None:
        """Move the wall clock of the process."""
        struct.pack_into("<q", self.memory, 8, offset_s)
