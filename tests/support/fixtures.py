"""One Kafka and one Redis for all tests; each test has topics, group and keys of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from consumer.local.stack import Stack
from tests.support.kafka_io import KafkaIo
from tests.support.servers import DEPLOYMENTS, Deployment, session_stack

Deploy = Callable[..., Awaitable[Deployment]]


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    async with session_stack() as running:
        yield running


@pytest.fixture(scope="session")
async def kafka(stack: Stack) -> AsyncIterator[KafkaIo]:
    async with KafkaIo(stack.bootstrap_servers) as clients:
        yield clients


@pytest.fixture
async def deploy(
    stack: Stack, kafka: KafkaIo, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Deploy]:
    """Makes a deployment: `await deploy(partitions=2, META_STRATEGY_ALPHA="0.5")`."""
    deployments = request.node.stash.setdefault(DEPLOYMENTS, [])
    async with AsyncExitStack() as cleanup:

        async def make(*, partitions: int = 2, topics: bool = True, **settings: str) -> Deployment:
            deployment = await cleanup.enter_async_context(
                Deployment(stack, kafka, tmp_path, partitions=partitions, **settings)
            )
            deployments.append(deployment)
            if topics:
                await deployment.create_topics()
            return deployment

        yield make
