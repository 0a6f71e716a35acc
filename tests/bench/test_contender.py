"""What a contender used is counted with all that it started."""

import os
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import Any, cast

from bench.contender import _family, cpu_s_of


def test_processes_that_a_process_started_count() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done & wait"]) as process:
        try:
            one = cast(Any, SimpleNamespace(pid=process.pid))
            deadline = time.monotonic() + 30.0
            while len(found := _family(one)) < 2 or cpu_s_of(found[1]) < 0.05:
                assert time.monotonic() < deadline, "nothing was started, or it does nothing"
                time.sleep(0.01)
        finally:
            for pid in reversed(_family(one)):
                os.kill(pid, signal.SIGKILL)

    assert found[0] == process.pid
    assert len(found) == 2
