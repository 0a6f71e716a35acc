"""Reading stretches of logs: all of it and no more, while the loop turns, and more is fetched meanwhile."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from consumer.connection import KafkaConnection
from consumer.stream import log_reader
from consumer.stream.log_reader import LogReader
from consumer.stream.read_record import ReadRecord

LOG = TopicPartition("trade-closed", 0)
OTHER = TopicPartition("strategy-decisions", 0)


class FullClient:
    """A client that always has records of all logs at hand that are not paused, and so never waits.

    Args:
        batch: Records of a log in one answer.
        value_bytes: Size of a record.
    """

    def __init__(self, batch: int = 10, value_bytes: int = 10) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._batch = batch
        self._value = bytes(value_bytes)
        self.given = 0

    def seek(self, log: TopicPartition, offset: int) -> None:
        self._positions[log] = offset

    def resume(self, log: TopicPartition) -> None:
        self._paused.discard(log)

    def pause(self, log: TopicPartition) -> None:
        self._paused.add(log)

    async def position(self, log: TopicPartition) -> int:
        return self._positions[log]

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        for log in self._positions.keys() - self._paused:
            start = self._positions[log]
            self._positions[log] += self._batch
            self.given += self._batch
            found[log] = [
                ReadRecord(log.topic, log.partition, start + n, 0, b"key", self._value, ())
                for n in range(self._batch)
            ]
        assert found, "all are paused: nothing would ever come"
        return found


def reader_of(client: FullClient) -> LogReader:
    reader = LogReader(KafkaConnection(bootstrap_servers=""), [LOG, OTHER])
    reader._consumer = client
    return reader


async def test_the_loop_turns_while_a_long_log_is_read() -> None:
    """A member whose heartbeats stop is thrown out of the group."""
    reader = reader_of(FullClient())
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


@pytest.mark.parametrize("value_bytes", [10, 1_000, 200_000, 2_000_000])
async def test_logs_read_in_turns_are_given_in_order_and_whole(value_bytes: int) -> None:
    """Whatever came with the other one's records is kept for when it is asked for."""
    client = FullClient(batch=7, value_bytes=value_bytes)
    reader = reader_of(client)
    one, two = reader.read(LOG, 3, 60), reader.read(OTHER, 0, 200)
    found: dict[str, list[int]] = {LOG.topic: [], OTHER.topic: []}
    for first in range(0, 200, 10):
        async for record in one:
            found[record.topic].append(record.offset)
            if len(found[LOG.topic]) % 3 == 0:
                break
        for _ in range(10):
            record = await anext(two)
            found[record.topic].append(record.offset)
        assert len(found[OTHER.topic]) == first + 10

    assert found[LOG.topic] == list(range(3, 60))
    assert found[OTHER.topic] == list(range(200))
    assert await anext(two, None) is None


async def test_what_nobody_asks_for_is_kept_only_up_to_a_limit() -> None:
    client = FullClient(batch=10, value_bytes=10_000)
    reader = reader_of(client)
    slow = reader.read(OTHER, 0, 1_000_000)
    await anext(slow)

    assert [r.offset async for r in reader.read(LOG, 0, 5_000)] == list(range(5_000))

    kept = client.given - 5_000
    assert kept * 10_000 <= 2 * log_reader._MARKS.full_bytes


async def test_a_log_that_was_left_early_may_be_read_again() -> None:
    reader = reader_of(FullClient())
    async for record in reader.read(LOG, 7, 9):
        assert record.offset == 7
        break

    assert [r.offset async for r in reader.read(LOG, 2, 30)] == list(range(2, 30))
    assert [r.offset async for r in reader.read(OTHER, 0, 500)] == list(range(500))
