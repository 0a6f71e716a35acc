"""What is remembered oldest first, in blocks: a field of a hash holds the entries of one write, up to some hundreds."""

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

from consumer.store import codec

BlockHash = Literal["decisions-closed", "decision-ids", "trades"]
"""Hashes that hold blocks."""

BLOCK_HASHES: Final[tuple[BlockHash, ...]] = ("decisions-closed", "decision-ids", "trades")

BLOCK_SIZE: Final = 500
"""Entries of a block at most: what is written together is read, and forgotten, together."""

_COUNTS: Final = 1_000
"""Above all counts."""


class BlockNames:
    """Which blocks a view holds of a partition.

    Once all that is remembered is newer than its last entry, a block is deleted. Its name tells how many
    entries it has, too: what two writers have written up to the same entry, in other parts, is all there.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[BlockHash, str], deque[int]] = {}
        """By hash and account, oldest first: number of the last entry and count, as one small object."""

    def read(self, name: BlockHash, fields: Iterable[str]) -> None:
        """Take note of what a hash holds."""
        found: dict[str, list[int]] = {}
        for field in fields:
            account, last, count = codec.block_of(field)
            found.setdefault(account, []).append(last * _COUNTS + count)
        for account, blocks in found.items():
            self._blocks[name, account] = deque(sorted(blocks))

    def add(self, name: BlockHash, account: str, last: int, count: int) -> str:
        """Take note of a new block; give its field."""
        self._of(name, account).append(last * _COUNTS + count)
        return codec.block_name(account, last, count)

    def take_older(self, name: BlockHash, account: str, oldest: int) -> list[str]:
        """Give the fields of those blocks whose entries are all older than a number; they count as deleted."""
        blocks = self._of(name, account)
        gone: list[str] = []
        while blocks and blocks[0] < oldest * _COUNTS:
            last, count = divmod(blocks.popleft(), _COUNTS)
            gone.append(codec.block_name(account, last, count))
        return gone

    def _of(self, name: BlockHash, account: str) -> deque[int]:
        blocks = self._blocks.get((name, account))
        if blocks is None:
            blocks = self._blocks[name, account] = deque()
        return blocks
