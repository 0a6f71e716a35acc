"""Kafka's coordinator of a consumer group: members, generations, eager rebalances."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from tests.simulation.broker import Broker, Later

NO_GENERATION = -1
_SYNC_S = None
"""How long the leader takes to divide the partitions: a short time of the scheduler's choice."""


class GroupState(Enum):
    """Where a group stands, in Kafka's own words."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


Joined = Callable[[str, int, set[TopicPartition]], None]
"""Told member id, generation and partitions."""


@dataclass(slots=True, eq=False)
class Member:
    """One member; its callbacks are the answers to its requests."""

    member_id: str
    topics: Sequence[str]
    rebalance_timeout_s: float
    on_rebalance: Callable[[], None]
    """Called when it has to join anew: what its next heartbeat is answered."""
    on_joined: Joined | None = None
    """Whom to answer once the rebalance is over; None while it has not joined."""


class Group:
    """One consumer group with range assignment.

    Args:
        broker: Whose topics and offsets.
        later: How timeouts are put off.
    """

    def __init__(self, broker: Broker, later: Later) -> None:
        self._broker = broker
        self._later = later
        self._numbers = itertools.count(1)
        self.members: dict[str, Member] = {}
        self._promised: set[str] = set()
        self.generation = 0
        self.state = GroupState.EMPTY

    def promise(self) -> str:
        """Give a new member its id, with which it has to join."""
        member_id = f"member-{next(self._numbers):04d}"
        self._promised.add(member_id)
        return member_id

    def join(
        self,
        member_id: str,
        *,
        topics: Sequence[str],
        rebalance_timeout_s: float,
        on_rebalance: Callable[[], None],
        on_joined: Joined,
    ) -> None:
        """Join, or join anew; the answer comes when all have, or the time for it is over.

        Raises:
            UnknownMemberIdError: The group does not know the member any more.
        """
        member = self.members.get(member_id)
        if member is None:
            if member_id not in self._promised:
                raise UnknownMemberIdError
            self._promised.discard(member_id)
            member = self.members[member_id] = Member(
                member_id, topics, rebalance_timeout_s, on_rebalance
            )
        member.on_joined = on_joined
        if self.state is not GroupState.PREPARING:
            self._prepare(but=member)
        self._complete_if_all()

    def leave(self, member_id: str) -> None:
        """Let a member go; the others divide its partitions."""
        if self.members.pop(member_id, None) is None:
            return
        if self.state is not GroupState.PREPARING:
            self._prepare()
        self._complete_if_all()

    expel = leave
    """Its session timed out."""

    def _prepare(self, but: Member | None = None) -> None:
        self.state = GroupState.PREPARING
        generation = self.generation
        for member in self.members.values():
            if member is not but and member.on_joined is None:
                member.on_rebalance()
        timeouts = [member.rebalance_timeout_s for member in self.members.values()]
        self._later(max(timeouts, default=0.0), lambda: self._time_over(generation))

    def _time_over(self, generation: int) -> None:
        if self.state is GroupState.PREPARING and self.generation == generation:
            self.members = {k: m for k, m in self.members.items() if m.on_joined is not None}
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if any(member.on_joined is None for member in self.members.values()):
            return
        self.generation += 1
        generation = self.generation
        if not self.members:
            self.state = GroupState.EMPTY
            return
        self.state = GroupState.COMPLETING
        self._later(_SYNC_S, lambda: self._synchronise(generation))

    def _synchronise(self, generation: int) -> None:
        if self.state is not GroupState.COMPLETING or self.generation != generation:
            return
        self.state = GroupState.STABLE
        shares = self._assignment()
        for member in self.members.values():
            answer, member.on_joined = member.on_joined, None
            if answer is not None:
                answer(member.member_id, generation, shares[member.member_id])

    def _assignment(self) -> dict[str, set[TopicPartition]]:
        shares: dict[str, set[TopicPartition]] = {name: set() for name in self.members}
        topics = sorted({topic for member in self.members.values() for topic in member.topics})
        for topic in topics:
            takers = sorted(n for n, member in self.members.items() if topic in member.topics)
            each, more = divmod(self._broker.partitions[topic], len(takers))
            first = 0
            for place, name in enumerate(takers):
                count = each + (place < more)
                shares[name] |= {TopicPartition(topic, first + n) for n in range(count)}
                first += count
        return shares

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Say whether a member has to join anew.

        Raises:
            UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError: It has.
        """
        if member_id not in self.members:
            raise UnknownMemberIdError
        if generation != self.generation and self.members[member_id].on_joined is None:
            raise IllegalGenerationError
        if self.state is GroupState.PREPARING:
            raise RebalanceInProgressError

    def commit(
        self,
        member_id: str,
        generation: int,
        offsets: Mapping[TopicPartition, tuple[int, str]],
    ) -> None:
        """Commit offsets as a member; without a member's name only while the group is empty.

        Raises:
            UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError: Not now, or not
                for this one any more.
        """
        is_nobody = generation == NO_GENERATION and not member_id
        if not (is_nobody and self.state is GroupState.EMPTY):
            if member_id not in self.members:
                raise UnknownMemberIdError
            if generation != self.generation:
                raise IllegalGenerationError
            if self.state is GroupState.COMPLETING:
                raise RebalanceInProgressError
        self._broker.commit_offsets(offsets)
