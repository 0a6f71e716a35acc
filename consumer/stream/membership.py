"""In whose name offsets are committed: of the member that the partitions were given to, and of nobody else."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

_RETRY_S = 0.1
_NOT_OURS = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)
_ELSEWHERE = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, RequestTimedOutError)


class Member:
    """Who a consumer was in its group when it was given partitions.

    The client's own `commit` names whoever it is when the request goes out. Forgotten by the group it is
    nobody, and from nobody a group takes every commit while it has no members: so a worker that stood still
    while another came, went on and left would put the group back. There is no option for it: the pinned
    version is tested for the names used here (tests/contract/test_log.py).

    Args:
        consumer: A member of its group, in whose listener this is made.
    """

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001
        self._member_id: str = self._coordinator.member_id
        self._generation: int = self._coordinator.generation

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit offsets with their metadata; a coordinator that is away is waited for.

        Raises:
            CommitFailedError: The group knows this member no more, or gives partitions anew.
            KafkaError: As the server answers.
        """
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for log, (offset, metadata) in offsets.items():
            topics[log.topic].append((log.partition, offset, metadata))
        request = OffsetCommitRequest(
            self._coordinator.group_id,
            self._generation,
            self._member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            list(topics.items()),
        )
        while True:
            try:
                await self._send(request)
                return
            except _NOT_OURS as error:
                raise CommitFailedError(f"{type(error).__name__} for {self._member_id}") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _send(self, request: OffsetCommitRequest) -> None:
        await self._coordinator.ensure_coordinator_known()
        response = await self._coordinator._send_req(request)  # noqa: SLF001
        for _, partitions in response.topics:
            for _, code in partitions:
                error = for_code(code)
                if error in _ELSEWHERE:
                    self._coordinator.coordinator_dead()
                if error is not NoError:
                    raise error(self._coordinator.group_id)
