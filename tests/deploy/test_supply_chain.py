"""What is installed is what was locked, under licences that were accepted; and nothing runs data as code."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.txt", "requirements-demo.txt", "requirements-dev.txt"]
PINNED = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>\S+)(?P<rest>.*)$")


def entries(lock: str) -> list[str]:
    """Give a lock's requirements, each on one line."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def versions(lock: str) -> dict[str, str]:
    return {m["name"]: m["version"] for line in entries(lock) if (m := PINNED.match(line))}


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.txt")))
def test_a_lock_pins_everything_by_hash_and_names_no_host(lock: str) -> None:
    found = entries(lock)

    assert found
    for line in found:
        assert PINNED.match(line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line
    assert "://" not in (ROOT / lock).read_text(encoding="utf-8")
    assert "--index" not in (ROOT / lock).read_text(encoding="utf-8")


def test_the_larger_locks_hold_the_smaller_ones() -> None:
    """What is tested is what runs."""
    runtime, demo, dev = map(versions, LOCKS)
    native = versions("requirements-native.txt")  # what the image's modules are compiled with

    assert runtime.items() <= demo.items() <= dev.items()
    assert runtime.items() <= native.items() <= dev.items()


def imported(*folders: str) -> set[str]:
    """Name the distributions that modules import from."""
    names: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module))
    known = packages_distributions()
    found = {one for name in names for one in known.get(name.partition(".")[0], ())}
    return {one.lower().replace("_", "-") for one in found}


def test_nothing_is_declared_that_nothing_imports() -> None:
    """What is installed for nothing may still be attacked, and has to be looked after."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[=<>]", line, maxsplit=1)[0] for line in project["dependencies"]}

    assert declared - imported("consumer", "schemas") == set()


def test_every_dependency_has_an_accepted_licence_and_the_page_says_which(tmp_path: Path) -> None:
    page = tmp_path / "licenses.md"

    done = subprocess.run(
        [ROOT / "deploy" / "release.sh", "licenses", page],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    written = page.read_text(encoding="utf-8")
    assert (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8") == written
    rows = [line.split("|")[1:3] for line in written.splitlines() if line.startswith("| ")][1:]
    listed = {name.strip().lower().replace("_", "-"): version.strip() for name, version in rows}
    assert listed == versions("requirements.txt")


def test_nothing_runs_data_as_code() -> None:
    """Messages, Redis values and state files are data: no pickle, marshal, eval, exec, YAML loader."""
    done = subprocess.run(
        [
            *(
                Path(sys.executable).parent / "ruff",
                "check",
                "--isolated",
                "--ignore-noqa",
                "--quiet",
            ),
            *("--select", "S102,S301,S302,S307,S403,S506,S602,S604,S605", "--preview"),
            *("consumer", "schemas"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
