"""Reading a long log lets the loop turn: a member whose heartbeats stop is thrown out of the group."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from consumer.connection import KafkaConnection
from consumer.stream.log_reader import LogReader

LOG = TopicPartition("trade-closed", 0)


class FullClient:
    """A client that always has records at hand, and so never waits."""

    def __init__(self) -> None:
        self._position = 0

    def seek(self, _: TopicPartition, offset: int) -> None:
        self._position = offset

    def resume(self, _: TopicPartition) -> None:
        pass

    def pause(self, _: TopicPartition) -> None:
        pass

    async def position(self, _: TopicPartition) -> int:
        return self._position

    async def getmany(self, log: TopicPartition, **_: Any) -> dict[TopicPartition, list[Any]]:
        start = self._position
        self._position += 10
        return {log: [SimpleNamespace(offset=start + n) for n in range(10)]}


async def test_the_loop_turns_while_a_long_log_is_read() -> None:
    reader = LogReader(KafkaConnection(bootstrap_servers=""), [LOG])
    reader._consumer = FullClient()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    found = [record.offset async for record in reader.read(LOG, 5, 505)]
    turning.cancel()

    assert found == list(range(5, 505))
    assert turns >= 50
