"""The environment that `make` works in: of a supported Python, and of the one that was asked for."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy import environment

ROOT = Path(__file__).resolve().parents[2]
HERE = ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_another_python_is_told_which_ones_there_are(version: tuple[int, int]) -> None:
    """A resolver's error about some dependency tells nobody what to do."""
    said = environment.refusal(">=3.11,<3.14", version, "demo", lambda name: name == "python3.12")

    told = ".".join(map(str, version))
    assert said == f"needs Python 3.11 to 3.13, this is {told}: make demo PYTHON=python3.12"


def test_without_any_on_the_path_the_newest_is_named() -> None:
    said = environment.refusal(">=3.11,<3.14", (3, 10), "", lambda _: False)

    assert said.endswith("make PYTHON=python3.13")


@pytest.mark.parametrize("version", [(3, 11), (3, 13)])
def test_a_supported_python_is_not_refused(version: tuple[int, int]) -> None:
    assert not environment.refusal(">=3.11,<3.14", version, "demo", lambda _: True)


def test_the_supported_range_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert environment.required() == project["requires-python"]


def make(*arguments: str, folder: Path) -> str:
    """Ask for the environment alone, as every target does first."""
    done = subprocess.run(
        ["make", ".venv/pyvenv.cfg", *arguments],
        cwd=folder,
        # of its own, also where another one runs the tests
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("consumer", "schemas"):
        (tmp_path / name).mkdir()
    for name in ("Makefile", "pyproject.toml", "deploy/environment.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_an_environment_is_made_anew_for_another_version_and_for_none_else(folder: Path) -> None:
    """A wrong one would stay until somebody thinks of deleting it."""
    made = make(f"PYTHON={sys.executable}", folder=folder)
    config = folder / ".venv/pyvenv.cfg"
    text = config.read_text(encoding="utf-8")
    kept = folder / ".venv/kept"
    kept.touch()

    again = make(folder=folder) + make(f"PYTHON={sys.executable}", folder=folder)
    assert f"Python {HERE}" in made
    assert again.strip() == ""
    assert kept.exists()

    config.write_text(text.replace(f"version = {HERE}", "version = 3.9"), encoding="utf-8")
    anew = make(f"PYTHON={sys.executable}", folder=folder)
    assert f"Python {HERE}" in anew
    assert not kept.exists()
    assert config.read_text(encoding="utf-8") == text


def test_an_unsupported_python_makes_nothing(folder: Path) -> None:
    project = folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace(">=3.11,<3.14", ">=3.7,<3.8"), encoding="utf-8")

    said = make(f"PYTHON={sys.executable}", folder=folder)

    assert f"needs Python 3.7 to 3.7, this is {HERE}: make .venv/pyvenv.cfg PYTHON=" in said
    assert "Traceback" not in said
    assert not (folder / ".venv").exists()
