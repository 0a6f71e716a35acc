"""A view in memory: for tests and simulations, with the same answers as the one in Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position, StoredPartition
from consumer.ports import WriteAnswer


@dataclass(frozen=True, slots=True)
class MemoryDelta:
    """A prepared write: here simply the whole state."""

    partition: int
    since: Position
    position: Position
    stored: StoredPartition


class MemoryView:
    """States of all partitions in a dictionary; see the View port."""

    def __init__(self) -> None:
        self.partitions: dict[int, StoredPartition] = {}

    async def load(self, partition: int) -> StoredPartition | None:
        """Read a partition's state; None when nothing is there."""
        return self.partitions.get(partition)

    def prepare(self, partition: int, state: PartitionState, since: Position) -> MemoryDelta:
        """Take a state's changes as a write; `since` is where the view is known to stand."""
        state.take_changes()
        return MemoryDelta(partition, since, state.position, state.stored())

    def forget(self, partition: int) -> None:
        """Let go of what is known of a partition: here nothing."""

    async def write(self, delta: MemoryDelta) -> WriteAnswer:
        """Apply a write if the view stands within its positions."""
        found = self.partitions.get(delta.partition)
        if found is None:
            return WriteAnswer.REWOUND
        if found.position.reaches(delta.position):
            return WriteAnswer.ALREADY_APPLIED
        if not found.position.reaches(delta.since):
            return WriteAnswer.REWOUND
        if not delta.position.reaches(found.position):
            return WriteAnswer.OTHER_OWNER
        self.partitions[delta.partition] = delta.stored
        return WriteAnswer.APPLIED

    async def rewrite(self, delta: MemoryDelta) -> WriteAnswer:
        """Replace all that is there by a write that holds everything."""
        self.partitions[delta.partition] = delta.stored
        return WriteAnswer.APPLIED

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        """Read where partitions stand; None where nothing is there."""
        return {
            partition: found.position if (found := self.partitions.get(partition)) else None
            for partition in partitions
        }
