"""The few methods of the client's consumer that the worker calls, on the simulated servers."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from consumer.stream.read_record import ReadRecord
from tests.simulation.clients import Client, nothing
from tests.simulation.group import NO_GENERATION
from tests.simulation.network import Disconnected

_RETRY_S = 0.1


class FakeConsumer(Client):
    """AIOKafkaConsumer, in a group or on its own."""

    def __init__(
        self,
        *,
        group_id: str | None = None,
        isolation_level: str = "read_uncommitted",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._group_id = group_id
        self._committed_only = isolation_level == "read_committed"
        self._session_s = options.get("session_timeout_ms", 10_000) / 1000
        self._heartbeat_s = options.get("heartbeat_interval_ms", 3_000) / 1000
        self._rebalance_s = options.get("rebalance_timeout_ms", 30_000) / 1000
        self._topics: list[str] = []
        self._listener: Any = None
        self._member_id = ""
        self._generation = NO_GENERATION
        self._positions: dict[TopicPartition, int | None] | None = None
        """None: nothing is assigned."""
        self._paused: set[TopicPartition] = set()
        self._changed: asyncio.Future[None] | None = None
        self._membership: asyncio.Task[None] | None = None
        self._rejoin: asyncio.Future[None] | None = None
        self._joining: asyncio.Future[Any] | None = None
        self._is_calling = False

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these, without a group's word."""
        self._positions = dict.fromkeys(partitions, 0)

    def subscribe(self, topics: Sequence[str], listener: Any = None) -> None:
        """Read what the group gives."""
        self._topics, self._listener = list(topics), listener

    async def start(self) -> None:
        """Connect, and join the group."""
        await self.bootstrap()
        await self.ask("metadata", nothing, is_read=True)
        if self._topics:
            self._membership = asyncio.create_task(self._be_member())
            first = self.cluster.loop.create_future()
            self._first_assignment = first
            await first

    async def stop(self) -> None:
        """Leave the group, and go."""
        self._is_stopped = True
        if self._membership is not None:
            if self._is_calling:  # the listener is let finish
                await asyncio.wait({self._membership})
            self._membership.cancel()
            self._listener = None  # else the ended session lives as long as this task's error
            member_id = self._member_id
            self.cluster.suspect(self.process)
            if self._generation > 0:
                with contextlib.suppress(Disconnected):  # then it is missed after a while
                    await self.cluster.network.call(
                        self.process, "leave", lambda: self.cluster.group.leave(member_id)
                    )

    # The group

    async def _be_member(self) -> None:
        assigned: set[TopicPartition] = set()
        is_prepared = False
        while True:
            if not is_prepared:
                if not await self._call(self._listener.on_partitions_revoked, assigned):
                    return
                is_prepared = True
                self._positions = None
            self._rejoin = self.cluster.loop.create_future()
            try:
                assigned = await self._join()
            except UnknownMemberIdError:
                self._forget_member()
                await asyncio.sleep(_RETRY_S)
                continue
            is_prepared = False
            self._positions = dict.fromkeys(sorted(assigned))
            self._paused = set()
            if not await self._call(self._listener.on_partitions_assigned, assigned):
                return
            self._refresh(self._positions)
            if not self._first_assignment.done():
                self._first_assignment.set_result(None)
            await self._rejoin

    async def _call(
        self, callback: Callable[[set[TopicPartition]], Any], logs: set[TopicPartition]
    ) -> bool:
        self._is_calling = True
        answer = callback(logs)
        if asyncio.iscoroutine(answer):
            await answer
        self._is_calling = False
        return not self._is_stopped

    async def _join(self) -> set[TopicPartition]:
        joined = self._joining = self.cluster.loop.create_future()

        def on_joined(member_id: str, generation: int, logs: set[TopicPartition]) -> None:
            if joined.done():  # a repeated join came late: only its next heartbeat tells it so
                self.cluster.loop.inside(
                    self.process, self.cluster.random() * self._heartbeat_s, self._on_heartbeat
                )
            self.cluster.network.answer(self.process, joined, (member_id, generation, logs))

        if not self._member_id:
            self._member_id = await self.ask("member id", self.cluster.group.promise)
        member_id = self._member_id
        await self.ask(
            "join",
            lambda: self.cluster.join(
                self.process,
                member_id,
                topics=self._topics,
                session_timeout_s=self._session_s,
                heartbeat_s=self._heartbeat_s,
                rebalance_timeout_s=self._rebalance_s,
                on_heartbeat=self._on_heartbeat,
                on_joined=on_joined,
                is_used=self._is_used,
            ),
        )
        self._member_id, self._generation, logs = await joined
        return logs

    def _refresh(self, positions: dict[TopicPartition, int | None]) -> None:
        """Go on where the group stands, as the client does by itself unless told otherwise."""
        offsets = self.cluster.broker.offsets

        def refreshed(answer: "asyncio.Future[dict[TopicPartition, int]]") -> None:
            for log, offset in answer.result().items():
                if positions[log] is None:
                    positions[log] = offset
            self._wake()

        self.ask(
            "offsets",
            lambda: {log: offsets[log].offset for log in positions if log in offsets},
            is_read=True,
        ).add_done_callback(refreshed)

    def _is_used(self, member_id: str) -> bool:
        return not self._is_stopped and member_id == self._member_id

    def _forget_member(self) -> None:
        self._member_id, self._generation = "", NO_GENERATION
        self.cluster.suspect(self.process)  # no heartbeat is sent for it any more

    def _request_rejoin(self) -> None:
        if self._rejoin is not None and not self._rejoin.done():
            self._rejoin.set_result(None)

    def _on_heartbeat(self) -> None:
        asyncio.create_task(self._heartbeat())  # noqa: RUF006  # the loop keeps it

    async def _heartbeat(self) -> None:
        member_id, generation = self._member_id, self._generation
        if not member_id:
            return
        try:
            await self.ask("heartbeat", lambda: self.cluster.group.heartbeat(member_id, generation))
            return
        except (UnknownMemberIdError, IllegalGenerationError):
            if member_id != self._member_id or generation != self._generation:
                return  # it joined anew meanwhile
            self._forget_member()
            if self._joining is not None and not self._joining.done():
                self._joining.set_exception(UnknownMemberIdError())
        except RebalanceInProgressError:
            pass
        self._request_rejoin()

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit offsets as whoever it is now."""
        await FakeMember(self).commit(offsets)

    # Reading

    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Give the first offsets."""
        await self.ask("begin", nothing, is_read=True)
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Give the offsets behind the last records that may be read."""
        logs = self.cluster.broker.logs
        found: dict[TopicPartition, int] = await self.ask(
            "end",
            lambda: {
                p: logs[p].last_stable_offset if self._committed_only else logs[p].end
                for p in partitions
            },
            is_read=True,
        )
        return found

    async def position(self, partition: TopicPartition) -> int:
        """Give the offset that is read next."""
        found = None if self._positions is None else self._positions.get(partition)
        if found is None:
            raise IllegalStateError(f"Partition {partition} is not assigned")
        return found

    def last_stable_offset(self, partition: TopicPartition) -> int:
        """Give the end of what may be read."""
        return self.cluster.end_of(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at an offset."""
        if self._positions is None or partition not in self._positions:
            raise IllegalStateError(f"Partition {partition} is not assigned")
        self._positions[partition] = offset
        self._wake()

    def pause(self, *partitions: TopicPartition) -> None:
        """Hold records back."""
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Let records come."""
        self._paused -= set(partitions)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def getmany(
        self,
        *partitions: TopicPartition,
        timeout_ms: int = 0,
        max_records: int | None = None,
    ) -> dict[TopicPartition, list[ReadRecord]]:
        """Give records as soon as there are some.

        Without any it answers when the position moved (markers, aborted records), else not at all:
        who asked would only ask again.
        """
        logs = self.cluster.broker.logs
        while True:
            self._changed = self.cluster.loop.create_future()
            names = partitions or tuple(self._positions or ())
            wake = self._wake
            for name in names:
                logs[name].on_readable[self] = wake
            if not self._can_read(names):
                await self._changed
                continue
            await self.ask("fetch", nothing, is_read=True)
            found: dict[TopicPartition, list[ReadRecord]] = {}
            moved = False
            for name in partitions or tuple(self._positions or ()):
                if not self._can_read((name,)):
                    continue
                assert self._positions is not None
                position = self._positions[name]
                assert position is not None
                records, self._positions[name] = logs[name].read(
                    position, max_records, committed=self._committed_only
                )
                moved = True
                if records:
                    found[name] = records
            if moved:
                return found

    def _can_read(self, names: Iterable[TopicPartition]) -> bool:
        """Tell whether one of the logs has more to read now."""
        positions = self._positions
        if positions is None:
            return False
        logs, paused = self.cluster.broker.logs, self._paused
        for name in names:
            position = positions.get(name)
            if position is None or name in paused:
                continue
            log = logs[name]
            if position < (log.last_stable_offset if self._committed_only else log.end):
                return True
        return False


class FakeMember:
    """Member, of a simulated consumer."""

    def __init__(self, consumer: FakeConsumer) -> None:
        self.consumer = consumer
        self._member_id, self._generation = consumer._member_id, consumer._generation

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit offsets."""
        cluster = self.consumer.cluster
        commit = functools.partial(
            cluster.group.commit, self._member_id, self._generation, dict(offsets)
        )
        while True:
            try:
                await cluster.network.call(self.consumer.process, "claim", commit)
                return
            except Disconnected:
                await asyncio.sleep(_RETRY_S)
            except (
                UnknownMemberIdError,
                IllegalGenerationError,
                RebalanceInProgressError,
            ) as error:
                raise CommitFailedError("the group has already rebalanced") from error
