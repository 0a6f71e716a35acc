"""What the use cases and the pipeline ask of the outside."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position, StoredPartition


class WriteAnswer(IntEnum):
    """What a view says to a write."""

    APPLIED = 1
    """The view stands at the position of the write now."""
    ALREADY_APPLIED = 0
    """It stood there, or further on the same way: a repeat."""
    REWOUND = -1
    """It stands before what the writer knew: it lost writes, or everything."""
    META_MISMATCH = -2
    """It belongs to a fold with other settings or topics."""
    OTHER_OWNER = -3
    """Somebody else writes this partition."""


class Delta(Protocol):
    """A prepared write: what changed, between two positions; it never changes once made."""

    @property
    def position(self) -> Position:
        """Where the view stands after it."""


D = TypeVar("D", bound=Delta)


class View(Protocol[D]):
    """The states of all partitions, kept outside; passes tests/contract/test_view.py.

    A write puts values in place (not differences) and moves the watermark, in one step. So it may
    be repeated, and applies to every state between the one it was prepared from and its own.

    All methods raise TransientError when the view does not answer in time; a write may have been
    applied then.
    """

    async def load(self, partition: int) -> StoredPartition | None:
        """Read a partition's state; None when nothing, or nothing whole, is there.

        Raises:
            RefusedError: It was folded with other settings or from other topics.
        """

    def prepare(self, partition: int, state: PartitionState, since: Position) -> D:
        """Take a state's changes as a write; `since` is where the view is known to stand."""

    async def write(self, delta: D) -> WriteAnswer:
        """Apply a write if the view stands within its positions."""

    async def rewrite(self, delta: D) -> WriteAnswer:
        """Replace all that is there by a write that holds everything; not whole until its end."""

    def forget(self, partition: int) -> None:
        """Let go of what is known of a partition: nothing is written of it before it is loaded again."""

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Position | None]:
        """Read where partitions stand, in one round trip; None where nothing whole is there."""


class Clock(Protocol):
    """Two clocks: one to compare with the world, one to measure durations."""

    def now_ms(self) -> int:
        """Give the Unix time [ms]."""

    def monotonic(self) -> float:
        """Give a time that never goes back [s]."""


class Record(Protocol):
    """A record of an input topic, as the client gives it."""

    @property
    def topic(self) -> str:
        """Name of its topic."""

    @property
    def partition(self) -> int:
        """Number in its topic."""

    @property
    def offset(self) -> int:
        """Where it stands."""

    @property
    def timestamp(self) -> int:
        """Record time [ms]."""

    @property
    def key(self) -> bytes | None:
        """As it was written."""

    @property
    def value(self) -> bytes | None:
        """As it was written."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Name and content each."""

    @property
    def received_s(self) -> float:
        """When it was read, by `time.perf_counter` [s]."""
