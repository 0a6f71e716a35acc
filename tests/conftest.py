"""Settings of the test run, and the order of its tests."""

import pytest
from hypothesis import Phase, settings

# the same examples in every run: a red build is a bug, never bad luck
settings.register_profile(
    "unit",
    derandomize=True,
    deadline=None,
    max_examples=15,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # minutes for a long example
)
settings.load_profile("unit")

SHARED_SERVERS = {
    "test_access": "secured",
    "test_secrets": "secured",
    "test_hardening": "own",
    "test_stops": "own",
    "test_faults": "faults",
    "test_chaos_smoke": "chaos",
    "test_redis_faults": "redis",
    "test_demo": "demo",
    "test_local_stack": "stack",
}
"""Modules with servers or scenarios of their own, by who shares them: one process runs each group, or
they would be started once a process. The longest first."""
_LAST = ("simulation", "deploy", "unit")
"""What is short fills the gaps at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, so that no process is alone with it at the end."""
    groups = list(dict.fromkeys(SHARED_SERVERS.values()))

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        if group := SHARED_SERVERS.get(item.path.stem):
            return groups.index(group) - len(groups)
        return 1 + _LAST.index(folder) if folder in _LAST else 0

    for item in items:
        if group := SHARED_SERVERS.get(item.path.stem):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=place)
