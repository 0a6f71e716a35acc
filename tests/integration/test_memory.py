"""What a worker remembers of partitions is freed when others serve them."""

import asyncio
import gc
import platform
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumer import settings
from consumer.app import Worker
from consumer.domain.partition_state import PartitionState
from consumer.errors import TransientError
from consumer.local.server import free_port
from tests.integration.conftest import Deploy
from tests.support.executor import signals
from tests.support.kafka_io import eventually, keyed
from tests.support.servers import Deployment


@asynccontextmanager
async def running(deployment: Deployment) -> AsyncIterator[Worker]:
    """A worker in this process."""
    environment = deployment.environment() | {"HTTP_PORT": str(free_port())}
    names = settings.Settings.model_fields
    worker = Worker(
        settings.load(**{n: environment[n.upper()] for n in names if n.upper() in environment})
    )
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task


async def lend_partitions(deployment: Deployment, first: Worker) -> None:
    """Let a second worker have its share, and go."""
    async with running(deployment) as second:
        await eventually(lambda: len(second._look().opened) > 0, what="its share")
        await eventually(lambda: 0 < len(first._look().opened) < 3, what="the rest")
        gc.collect()  # what is there now is old, as after hours of service
    await eventually(lambda: len(first._look().opened) == 3, what="everything back")


async def lose_session(worker: Worker) -> None:
    """Let its transaction fail, and wait until it serves again."""
    gc.collect()
    before = worker._session
    assert before is not None
    before._failed.set_exception(TransientError("a broker went away"))
    del before
    await eventually(lambda: len(worker._look().opened) < 3, what="the end of the session")
    await eventually(lambda: len(worker._look().opened) == 3, what="another session")


@pytest.mark.timeout(180)
async def test_partitions_that_are_given_up_are_freed_without_a_full_collection(
    deploy: Deploy,
) -> None:
    """The collector looks at what is old once in hours: each rebalance would leave all states behind."""

    def remembered() -> int:
        gc.collect(1)  # the young: what ended with a task is in circles with its error
        return sum(isinstance(one, PartitionState) for one in gc.get_objects())

    gc.collect()
    others = remembered()
    deployment = await deploy(partitions=3)
    gc.disable()
    try:
        async with running(deployment) as first:
            await eventually(lambda: len(first._look().opened) == 3, what="a start")
            await deployment.send_signals(*map(keyed, signals(60, seed=41)))
            await deployment.settled()
            for _ in range(2):
                await lend_partitions(deployment, first)
            for _ in range(2):
                await lose_session(first)

            # the heartbeat, which comes by each second, lets go last
            await eventually(
                lambda: remembered() == others + 3, what="three states, one a partition"
            )
    finally:
        gc.enable()


_BACKLOG = """
import os
from consumer import process

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

process.tune()
before = resident_mib()
backlog = [(os.urandom(600), os.urandom(600)) for _ in range(50_000)]
stays = [one for one, _ in backlog[::100]]
taken = resident_mib() - before
del backlog
process.give_back()
print(taken, resident_mib() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators have their own ways"
)
def test_what_a_backlog_took_is_given_back() -> None:
    """Else each backlog, and each rebalance, would leave a worker larger than it found it."""
    done = subprocess.run(
        [sys.executable, "-c", _BACKLOG], capture_output=True, text=True, check=True
    )

    taken_mib, kept_mib = map(float, done.stdout.split())
    assert taken_mib > 50
    assert kept_mib < taken_mib / 4
