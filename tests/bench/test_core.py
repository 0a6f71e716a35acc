"""What the core costs is measured on work that is really done."""

import pytest

from bench import core
from bench.core import Cost, measure_core


def test_every_cost_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"_ROUNDS": 2, "_SIGNALS": 1_500, "_WARM": 500, "_MINUTES": 2, "_REMEMBERED": 1_000}
    for name, value in sizes.items():
        monkeypatch.setattr(core, name, value)

    found = measure_core()

    assert [len(cost.rounds) for cost in found] == [2] * 7
    assert all(each > 0.0 for cost in found for each in cost.rounds)
    assert [cost.limit for cost in found] == [20.0, 20.0, *[None] * 4, pytest.approx(6_000.0)]


@pytest.mark.parametrize(("limit", "verdict"), [(None, ""), (5.0, "yes"), (2.0, "NO")])
def test_a_cost_says_what_was_wanted(limit: float | None, verdict: str) -> None:
    line = str(Cost("a candle", [1.0, 3.0, 9.0], limit))

    assert "3.0 us (1.0 .. 9.0)" in line
    assert line.endswith(verdict or ")")
