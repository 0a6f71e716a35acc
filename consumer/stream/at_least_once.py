"""Outputs first, then offsets: what answers soonest, and may answer twice."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition

from consumer.connection import KafkaConnection
from consumer.stream.clients import KAFKA_ERRORS
from consumer.stream.membership import Member
from consumer.stream.transaction import (
    COMMIT_TIMEOUT_S,
    Batch,
    Packed,
    ProducerSink,
    kafka_errors_translated,
)

_REST_S: Final = 0.1
"""Between two commits of offsets: as much is sent again after a crash."""
_LAST_TIMEOUT_S: Final = 1.0


class AtLeastOnceSink(ProducerSink):
    """At least once: outputs first, then offsets, several batches' at once; a crash repeats their outputs.

    Who waits for an answer does not wait for offsets. A former owner is shut out by the group: it refuses
    offsets of an old generation, and what follows that is not sent.
    """

    owner = ""

    def __init__(self, connection: KafkaConnection, group_id: str, member: Member) -> None:
        super().__init__(connection, group_id)
        self._member = member
        self._offsets: dict[TopicPartition, int] = {}
        """That are not committed yet."""
        self._has_offsets = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See Sink."""
        await super().start()
        self._committing = asyncio.create_task(self._commit_on(), name="offsets")

    async def publish(
        self, batches: Sequence[Batch | Packed], offsets: Mapping[TopicPartition, int]
    ) -> Sequence[int | None]:
        """Send batches; offsets are committed soon, and what became of them is told by a later call."""
        with kafka_errors_translated(self.client_id):
            if self._committing is not None and self._committing.done():
                self._committing.result()
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                ends = await self.send(batches)
        self._offsets.update(offsets)
        self._has_offsets.set()
        return ends

    async def _commit_on(self) -> None:
        while True:
            await self._has_offsets.wait()
            await self._commit()
            await asyncio.sleep(_REST_S)

    async def _commit(self) -> None:
        offsets = dict(self._offsets)
        self._has_offsets.clear()
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await self._member.commit({log: (offset, "") for log, offset in offsets.items()})
        self._offsets = {
            log: offset for log, offset in self._offsets.items() if offsets.get(log) != offset
        }

    async def stop(self) -> None:
        """Commit the offsets of all that was sent; see Sink."""
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.cancel()
            await asyncio.wait({committing})
            if not committing.cancelled():
                committing.exception()  # what publish has told, or nobody is left to be told
        if self._offsets:
            # where the group does not take them, its next member sends the outputs again
            with contextlib.suppress(*KAFKA_ERRORS):
                async with asyncio.timeout(_LAST_TIMEOUT_S):
                    await self._commit()
        await super().stop()
