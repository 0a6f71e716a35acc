"""Whole workers on real servers; a failed test shows their logs."""

from collections.abc import AsyncIterator, Generator

import pytest

from tests.support.fixtures import Deploy, deploy, deploy_own, kafka, own_kafka, own_stack, stack
from tests.support.secured import Secured
from tests.support.servers import show_logs

__all__ = ["Deploy", "deploy", "deploy_own", "kafka", "own_kafka", "own_stack", "stack"]


@pytest.fixture(scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """Both servers with users and rules, beside the open ones that the other tests use."""
    async with Secured(tmp_path_factory.mktemp("secured")).running() as servers:
        yield servers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    show_logs(item, report)
    return report
