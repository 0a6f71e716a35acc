"""Settings of the test run, and the order of its tests."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.support.examples import EVERY_RUN, register_profiles
from tests.support.session import CommonServers

# what is compiled once is kept for the next run, and for the processes that tests start
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

register_profiles()
settings.load_profile(EVERY_RUN)

_SERVERS = pytest.StashKey[CommonServers]()
_PLACE = pytest.StashKey[Path]()

SHARED_SERVERS = {
    "test_hardening": "own",
    "test_stops": "own",
    "test_demo": "demo",
    "test_chaos_smoke": "chaos",
    "test_access": "secured",
    "test_secrets": "secured",
    "test_faults": "faults",
    "test_redis_faults": "redis",
    "test_local_stack": "stack",
    "test_view": "scripts",
}
"""Modules with servers or scenarios of their own, by who shares them: one process runs each group, or
they would be started once a process. The longest first; `secured` runs a dozen of Kafka's commands, for
which the broker's classes should be archived by then."""
_COMPUTING = "simulation"
"""Waits for nothing: spread among the tests that wait for servers, it uses what they leave of the cores."""
_LAST = ("contract", "lab", "fuzz", "deploy", "bench", "unit")
"""What is short fills the gaps at the end."""


class _ByServers(LoadScopeScheduling):
    """Gives all tests that share servers to one process, and each other test to the next idle one."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARED_SERVERS.get(Path(nodeid.split("::", maxsplit=1)[0]).stem, nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a process where the servers of the run are asked for."""
    stash = node.config.stash
    if _SERVERS not in stash:
        stash[_PLACE] = Path(tempfile.mkdtemp(prefix="meta-strategy-tests-"))
        stash[_SERVERS] = CommonServers(stash[_PLACE])
        stash[_SERVERS].start()
    node.workerinput["servers"] = str(stash[_PLACE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers of the run."""
    if _SERVERS in config.stash:
        config.stash[_SERVERS].end()
        shutil.rmtree(config.stash[_PLACE])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Schedule in the order below, not by how many tests share servers."""
    config.option.loadscopereorder = False
    return _ByServers(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, so that no process is alone with it at the end."""
    groups = list(dict.fromkeys(SHARED_SERVERS.values()))

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        if group := SHARED_SERVERS.get(item.path.stem):
            return groups.index(group) - len(groups)
        return 1 + _LAST.index(folder) if folder in _LAST else 0

    waiting = [item for item in items if place(item) == 0]
    parts = [
        [item for item in waiting if (item.path.parent.name == _COMPUTING) is is_computing]
        for is_computing in (True, False)
    ]
    spread = {item: at / len(part) for part in parts for at, item in enumerate(part)}
    items.sort(key=lambda item: (place(item), spread.get(item, 0.0)))


def pytest_collection_finish() -> None:
    """Keep modules and tests, which live as long as the run, out of every later collection."""
    gc.collect()
    gc.freeze()
