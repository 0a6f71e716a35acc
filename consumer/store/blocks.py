"""What is remembered oldest first, in blocks: a field of a hash holds the entries of one write or some, up to hundreds."""

from collections.abc import Iterable
from typing import Final, Literal

from consumer.store import codec

BlockHash = Literal["decisions-closed", "decision-ids", "trades"]
"""Hashes that hold blocks."""

BLOCK_HASHES: Final[tuple[BlockHash, ...]] = ("decisions-closed", "decision-ids", "trades")

BLOCK_SIZE: Final = 500
"""Entries of a block at most: what is written together is read, and forgotten, together."""

SMALL_BLOCK: Final = BLOCK_SIZE // 4
"""Entries below which a block is small: it is written anew, once, together with others like it."""

_FEW: Final = 8
"""Small blocks that may stand beside each other: fewer cost writing, more cost reading."""
_COUNTS: Final = 1_000
"""Above all counts."""


class BlockNames:
    """Which blocks a view holds of a partition.

    Once all that is remembered is newer than its last entry, a block is deleted. Its name tells how many
    entries it has, too: what two writers have written up to the same entry, in other parts, is all there.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[BlockHash, str], list[int]] = {}
        """By hash and account, oldest first: number of the last entry and count, as one small object."""

    def read(self, name: BlockHash, fields: Iterable[str]) -> None:
        """Take note of what a hash holds."""
        found: dict[str, list[int]] = {}
        for field in fields:
            account, last, count = codec.block_of(field)
            found.setdefault(account, []).append(last * _COUNTS + count)
        for account, blocks in found.items():
            self._blocks[name, account] = sorted(blocks)

    def add(self, name: BlockHash, account: str, last: int, count: int) -> str:
        """Take note of a new block; give its field."""
        self._of(name, account).append(last * _COUNTS + count)
        return codec.block_name(account, last, count)

    def take_older(self, name: BlockHash, account: str, oldest: int) -> list[str]:
        """Give the fields of those blocks whose entries are all older than a number; they count as deleted."""
        blocks = self._of(name, account)
        end = 0
        while end < len(blocks) and blocks[end] < oldest * _COUNTS:
            end += 1
        gone = _fields(account, blocks[:end])
        del blocks[:end]
        return gone

    def take_small(self, name: BlockHash, account: str, since: int) -> tuple[int, list[str]]:
        """Give the newest blocks where they are small and not few: they are to be written anew as one.

        What is older stays: its last block is not small, so it holds whatever an entry of a small one has in
        common with it, whoever wrote them.

        Args:
            name: The hash.
            account: Whose blocks.
            since: Number after which entries are new.

        Returns:
            The number after which entries are to be written, `since` where nothing is to be written anew; and
            the fields of those blocks, which count as deleted.
        """
        blocks = self._of(name, account)
        start = len(blocks)
        while start and blocks[start - 1] % _COUNTS < SMALL_BLOCK:
            start -= 1
        if len(blocks) - start < _FEW:
            return since, []
        gone = _fields(account, blocks[start:])
        del blocks[start:]
        return (blocks[-1] // _COUNTS if blocks else 0), gone

    def _of(self, name: BlockHash, account: str) -> list[int]:
        blocks = self._blocks.get((name, account))
        if blocks is None:
            blocks = self._blocks[name, account] = []
        return blocks


def _fields(account: str, blocks: list[int]) -> list[str]:
    found: list[str] = []
    for block in blocks:
        last, count = divmod(block, _COUNTS)
        found.append(codec.block_name(account, last, count))
    return found
