"""The selector where nothing of the tests is loaded: in a new process."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_importing_loads_no_client() -> None:
    """A back-test must not need, or wait for, what only the worker uses."""
    heavy = ("aiokafka", "redis", "orjson", "structlog", "prometheus_client")
    code = f"import sys, consumer; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    """In a process of their own, from top to bottom, as a reader would type them."""
    page = (ROOT / "docs" / "inprocess.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "data" / "meta_strategy_state.json").exists()
