"""Servers for all tests, and for those that hurt them; each test has topics, group and keys of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from consumer.local.stack import Stack
from tests.support.kafka_io import KafkaIo
from tests.support.servers import DEPLOYMENTS, Deployment
from tests.support.session import session_stack

Deploy = Callable[..., Awaitable[Deployment]]


@asynccontextmanager
async def _deployments(
    stack: Stack, kafka: KafkaIo, directory: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Deploy]:
    deployments = request.node.stash.setdefault(DEPLOYMENTS, [])
    async with AsyncExitStack() as cleanup:

        async def make(*, partitions: int = 2, topics: bool = True, **settings: str) -> Deployment:
            deployment = await cleanup.enter_async_context(
                Deployment(stack, kafka, directory, partitions=partitions, **settings)
            )
            deployments.append(deployment)
            if topics:
                await deployment.create_topics()
            return deployment

        yield make


@pytest.fixture(scope="session")
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    told: dict[str, str] = getattr(request.config, "workerinput", {})
    place = Path(told["servers"]) if "servers" in told else None
    async with session_stack(place) as running:
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
    async with _deployments(stack, kafka, tmp_path, request) as make:
        yield make


@pytest.fixture(scope="session")
async def own_stack() -> AsyncIterator[Stack]:
    """Servers to freeze and to end: other tests must not wait for them."""
    async with Stack() as running:
        yield running


@pytest.fixture(scope="session")
async def own_kafka(own_stack: Stack) -> AsyncIterator[KafkaIo]:
    async with KafkaIo(own_stack.bootstrap_servers) as clients:
        yield clients


@pytest.fixture
async def deploy_own(
    own_stack: Stack, own_kafka: KafkaIo, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Deploy]:
    """Makes a deployment on the module's own servers, which go on after the test."""
    async with _deployments(own_stack, own_kafka, tmp_path, request) as make:
        yield make
        own_stack.kafka.resume()
        own_stack.redis.resume()
