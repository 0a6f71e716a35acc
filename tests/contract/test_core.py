"""What the core must not do, told from its text."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted([*(ROOT / "consumer" / "domain").rglob("*.py"), *(ROOT / "schemas").glob("*.py")])


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_adds_floats_in_no_other_way(path: Path) -> None:
    """Only what is counted may be added by `sum`: lengths."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    sums = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "sum"]

    assert [ast.unparse(call) for call in sums if "map(len," not in ast.unparse(call)] == []
