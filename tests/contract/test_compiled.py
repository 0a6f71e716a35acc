"""Compiled modules decide and learn what their sources do, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.process import is_compiled
from tests.support.decided import digests


@pytest.mark.skipif(not is_compiled(), reason="nothing is compiled here: see make test-native")
def test_compiled_modules_do_what_their_sources_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.decided"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    by_sources, compiled = json.loads(done.stdout), digests()

    assert (by_sources.pop("compiled"), compiled.pop("compiled")) == ("False", "True")
    assert compiled == by_sources
    assert len(set(compiled.values())) == len(compiled) > 5  # policies are not alike
