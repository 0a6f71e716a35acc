"""Whole workers on real servers; a failed test shows their logs."""

from collections.abc import Generator

import pytest

from tests.support.fixtures import Deploy, deploy, kafka, stack
from tests.support.servers import show_logs

__all__ = ["Deploy", "deploy", "kafka", "stack"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    show_logs(item, report)
    return report
