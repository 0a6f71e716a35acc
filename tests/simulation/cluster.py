"""One simulated Kafka and the processes that are connected to it."""

from collections.abc import Callable
from random import Random
from typing import ClassVar, NamedTuple

from aiokafka import TopicPartition

from tests.simulation.broker import Broker
from tests.simulation.group import Group, Joined
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Network

SIGNALS, TRADES, CANDLES = "signals", "trade-closed", "candles"
DECISIONS, DEAD_LETTERS = "strategy-decisions", "strategy-dead-letters"
POOL = "strategy-pool"


class _Watched(NamedTuple):
    process: Process
    session_s: float
    heartbeat_s: float
    is_used: Callable[[str], bool]


class Cluster:
    """Broker, group and network; the clients find it by the process's name.

    Args:
        rng: Decides all that is left to chance.
        trace: Told what happens.
    """

    current: ClassVar["Cluster"]
    """The one that clients connect to: a process's addresses are only its name."""

    def __init__(self, rng: Random, trace: Callable[[str], None] | None = None) -> None:
        self.loop = SimLoop()
        self.random = rng.random
        self.network = Network(self.loop, rng, trace)
        self.broker = Broker(self.network.later)
        self.group = Group(self.broker, self.network.later)
        self.processes: dict[str, Process] = {}
        self._members: dict[str, _Watched] = {}
        Cluster.current = self

    def process(self, name: str) -> Process:
        """Start a process."""
        process = self.processes[name] = Process(name)
        return process

    def join(
        self,
        process: Process,
        member_id: str,
        *,
        topics: list[str],
        session_timeout_s: float,
        heartbeat_s: float,
        rebalance_timeout_s: float,
        on_heartbeat: Callable[[], None],
        on_joined: Joined,
        is_used: Callable[[str], bool],
    ) -> None:
        """Join the group for a process, whose silence will end the membership.

        Args:
            process: Of the member.
            member_id: As the group promised it.
            topics: What it subscribes to.
            session_timeout_s: After so much silence it is expelled.
            heartbeat_s: How often it hears whether it has to join anew.
            rebalance_timeout_s: How long others wait for it.
            on_heartbeat: Called in the process with a heartbeat that says so.
            on_joined: Told the assignment.
            is_used: Tells whether the process still sends heartbeats for a member.
        """

        def on_rebalance() -> None:
            self.loop.inside(process, self.random() * heartbeat_s, on_heartbeat)

        self.group.join(
            member_id,
            topics=topics,
            rebalance_timeout_s=rebalance_timeout_s,
            on_rebalance=on_rebalance,
            on_joined=on_joined,
        )
        self._members[member_id] = _Watched(process, session_timeout_s, heartbeat_s, is_used)
        if not (process.answers and is_used(member_id)):
            self.suspect(process)

    def suspect(self, process: Process) -> None:
        """Expel those of a process's members that it sends no heartbeats for from now on."""
        process.pauses += 1
        pauses = process.pauses
        for member_id, watched in list(self._members.items()):
            if watched.process is not process:
                continue

            def expire(member_id: str = member_id, watched: _Watched = watched) -> None:
                member = self.group.members.get(member_id)
                is_silent = not (process.answers and watched.is_used(member_id))
                if is_silent and process.pauses == pauses and member is not None:
                    self.group.expel(member_id)
                    member.on_rebalance()  # it will hear so, if it ever asks
                    self._members.pop(member_id, None)

            self.loop.outside(watched.session_s - self.random() * watched.heartbeat_s, expire)

    def end_of(self, log: TopicPartition) -> int:
        """Give the offset behind the last decided record."""
        return self.broker.logs[log].last_stable_offset
