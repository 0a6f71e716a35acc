"""Sums on which workers of any Python agree."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sums import total
from tests.support.fold_oracle import added

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted([*(ROOT / "consumer" / "domain").rglob("*.py"), *(ROOT / "schemas").glob("*.py")])
FINITE = st.floats(-1e6, 1e6)


def test_what_floats_lose_is_not_made_good() -> None:
    """Else a worker on Python 3.12 and one on 3.11 would learn something else from the same trade."""
    assert total([1e16, 1.0, -1e16]) == 0.0
    assert total([0.1] * 10) == 0.9999999999999999


@given(st.lists(FINITE, max_size=20))
def test_it_is_added_one_after_the_other(values: list[float]) -> None:
    assert total(values) == added(values)


def test_nothing_is_zero() -> None:
    assert total([]) == 0.0


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_adds_floats_in_no_other_way(path: Path) -> None:
    """Only what is counted may be added by `sum`: lengths."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    sums = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "sum"]

    assert [ast.unparse(call) for call in sums if "map(len," not in ast.unparse(call)] == []
