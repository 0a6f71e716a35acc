"""A process that cannot outlive the one that started it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


# How often an end or readiness is looked for [s]: well under the 0.2 s the fastest server takes, and
# far above the 10 us a look costs.
POLL_S = 0.02

_GUARD = Path(__file__).with_name("guard.py")


class GuardedProcess:
    """One command under `guard.py`: signalled through the guard, ended by SIGKILL when we end.

    Not bound to an event loop: `signal` and `kill` may be called from anywhere, also at exit.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path, log: Path, holds: Sequence[int] = ()
    ) -> None:
        """Start the command; its output is appended to `log`.

        Args:
            command: Program and arguments.
            cwd: Its working directory.
            log: File for standard output and error.
            holds: File descriptors the guard keeps open until the command has ended, for locks.
        """
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                self._guarded(command),
                bufsize=0,
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                pass_fds=tuple(holds),
            )
        self._pid = 0

    def _guarded(self, command: Sequence[str]) -> list[str]:
        return [sys.executable, "-I", "-S", str(_GUARD), *command]

    @property
    def pid(self) -> int:
        """The command's own process id, 0 if it never ran; waits for the guard to tell it."""
        if not self._pid and self._guard.stdout is not None and not self._guard.stdout.closed:
            self._pid = int(self._guard.stdout.readline() or b"0")
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + n if signal n ended it."""
        code = self._guard.poll()
        if code is not None:
            self._close()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on; nothing happens if the command has ended."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(bytes([number]))

    def kill(self) -> None:
        """End it by SIGKILL, and wait for that: milliseconds."""
        self.signal(signal.SIGKILL)
        self._close()  # tells a guard that has not read yet the same
        self._guard.wait()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False if it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def _close(self) -> None:
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
