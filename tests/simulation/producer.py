"""The few methods of the client's producer that the worker calls, on the simulated servers."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.structs import OffsetAndMetadata, RecordMetadata

from tests.simulation.clients import Client
from tests.simulation.log import NewRecord


class FakeBatch:
    """A batch made by hand."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []

    def append(
        self,
        *,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> bool:
        """Add a record; it is never full."""
        self.records.append(NewRecord(key, value, headers, timestamp))
        return True

    def close(self) -> None:
        """Take no more."""


@dataclass(slots=True)
class _Outgoing:
    log: TopicPartition
    number: int
    records: list[NewRecord]
    sent: "asyncio.Future[RecordMetadata]"


class FakeProducer(Client):
    """AIOKafkaProducer with a transactional id."""

    def __init__(
        self, *, transactional_id: str, transaction_timeout_ms: int = 60_000, **options: Any
    ) -> None:
        super().__init__(**options)
        self._owner = transactional_id
        self._timeout_s = transaction_timeout_ms / 1000
        self._identity = (-1, -1)
        self._is_begun = False
        self._failure: KafkaError | None = None
        self._added: set[TopicPartition] = set()
        self._has_group = False
        self._numbers: dict[TopicPartition, int] = {}
        self._waiting: list[_Outgoing] = []
        self._sending: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._name = transactional_id[-6:]

    def _request(
        self, what: str, request: Callable[[], Any], *, ends: bool = False
    ) -> "asyncio.Future[Any]":
        return self.ask(f"{what} {self._name}", request, ends=ends)

    async def start(self) -> None:
        """Get a producer id, which shuts out whoever had it before."""
        await self.bootstrap()
        broker = self.cluster.broker
        self._identity = await self._request(
            "init", lambda: broker.init_producer_id(self._owner, self._timeout_s)
        )

    async def stop(self) -> None:
        """Send what waits, and go."""
        self._is_stopped = True
        pending = {t for t in (self._sending, self._ending) if t is not None and not t.done()}
        if pending:
            await asyncio.wait(pending)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._is_begun:
            raise IllegalOperation("Not in the middle of a transaction")

    async def begin_transaction(self) -> None:
        """Begin."""
        assert not self._is_begun, "Invalid state transition"
        assert self._failure is None, "Invalid state transition"
        self._is_begun = True

    def create_batch(self) -> FakeBatch:
        """Give an empty batch."""
        return FakeBatch()

    async def send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> "asyncio.Future[RecordMetadata]":
        """Queue a batch."""
        return self._queue(TopicPartition(topic, partition), batch.records)

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int = 0,
    ) -> "asyncio.Future[RecordMetadata]":
        """Queue a record; without a partition it goes to the first."""
        assert value is not None or key is not None, "Need at least one: key or value"
        return self._queue(
            TopicPartition(topic, partition or 0), [NewRecord(key, value, headers, timestamp_ms)]
        )

    def _queue(
        self, log: TopicPartition, records: list[NewRecord]
    ) -> "asyncio.Future[RecordMetadata]":
        self._check()
        number = self._numbers.get(log, 0)
        self._numbers[log] = number + 1
        sent: asyncio.Future[RecordMetadata] = self.cluster.loop.create_future()
        self._waiting.append(_Outgoing(log, number, records, sent))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return sent

    async def _send(self) -> None:
        broker = self.cluster.broker
        while self._waiting:
            taken, self._waiting = self._waiting, []
            try:
                new = {one.log for one in taken} - self._added
                if new:
                    logs = sorted(new)
                    await self._request(
                        "add",
                        lambda logs=logs: broker.add_partitions(  # type: ignore[misc]
                            self._owner, *self._identity, logs, self._timeout_s
                        ),
                    )
                    self._added |= new
                batches = [(one.log, one.number, one.records) for one in taken]
                firsts = await self._request(
                    "produce",
                    lambda batches=batches: broker.produce(  # type: ignore[misc]
                        self._owner, *self._identity, batches
                    ),
                )
            except KafkaError as error:
                self._fail(error, taken)
                return
            for one, first in zip(taken, firsts, strict=True):
                if not one.sent.done():
                    one.sent.set_result(
                        RecordMetadata(one.log.topic, one.log.partition, one.log, first, 0, 0, 0)
                    )

    def _fail(self, error: KafkaError, taken: Iterable[_Outgoing] = ()) -> None:
        self._failure = error
        for one in (*taken, *self._waiting):
            if not one.sent.done():
                one.sent.set_exception(error)
                one.sent.exception()  # whoever waits for it raises it; nobody may
        self._waiting = []

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None:
        """Commit offsets with the transaction."""
        self._check()
        broker = self.cluster.broker
        found = {log: (one.offset, one.metadata) for log, one in offsets.items()}
        try:
            if not self._has_group:
                await self._request(
                    "group",
                    lambda: broker.add_offsets(self._owner, *self._identity, self._timeout_s),
                )
                self._has_group = True
            if found:
                await self._request(
                    "offsets",
                    lambda: broker.txn_offset_commit(self._owner, *self._identity, found),
                )
        except KafkaError as error:
            self._fail(error)
            raise

    async def commit_transaction(self) -> None:
        """Make all of it visible."""
        await self._end(commit=True)

    async def abort_transaction(self) -> None:
        """Make nothing of it visible."""
        await self._end(commit=False)

    async def _end(self, *, commit: bool) -> None:
        self._check()
        self._ending = asyncio.create_task(self._finish(commit=commit))
        await asyncio.shield(self._ending)

    async def _finish(self, *, commit: bool) -> None:
        broker = self.cluster.broker
        if self._sending is not None:
            await self._sending
            if self._failure is not None:
                raise self._failure
        if self._added or self._has_group:
            try:
                await self._request(
                    "commit" if commit else "abort",
                    lambda: broker.end_transaction(self._owner, *self._identity, commit=commit),
                    ends=True,
                )
            except KafkaError as error:
                self._fail(error)
                raise
        self._is_begun = self._has_group = False
        self._added = set()
