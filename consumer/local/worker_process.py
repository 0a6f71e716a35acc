"""A worker in a process of its own, as a deployment runs it."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from signal import SIGTERM
from typing import TYPE_CHECKING, NoReturn

from consumer.local.errors import StackError
from consumer.local.process import POLL_S, GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# A worker needs 2 s on two cores; tenfold and more for a busy machine [s].
_READY_LIMIT_S = 60.0
# The contract gives the worker 10 s for a clean stop [s].
_STOP_LIMIT_S = 12.0
_ANSWER_LIMIT_S = 2.0
_LOG_LINES = 15


class WorkerError(StackError):
    """The worker ended, or was not ready in time; the tail of its log follows."""


class WorkerProcess:
    """Runs from entering `async with` to leaving it; cannot outlive this process.

    Args:
        command: Program and arguments.
        cwd: Its working directory.
        log: File its output is appended to.
        page_url: Where it serves HTTP.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, log: Path, page_url: str) -> None:
        self._command = command
        self._cwd = cwd
        self._log = log
        self._page_url = page_url
        self._process: GuardedProcess | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        """Start it, and wait until it is ready.

        Raises:
            WorkerError: It ended, or was not ready in time; it does not run then.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._process = GuardedProcess(self._command, cwd=self._cwd, log=self._log)
        try:
            await self._until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let it stop in order; one that does not within 12 s is killed."""
        try:
            if self._process is not None:
                self._process.signal(SIGTERM)
                await self._process.wait(_STOP_LIMIT_S)
        finally:
            self._kill()

    async def watch(self) -> NoReturn:
        """Wait for it to end by itself; returns by cancellation or exception only.

        Raises:
            WorkerError: It ended.
        """
        while True:
            self._check()
            await asyncio.sleep(POLL_S)

    async def _until_ready(self) -> None:
        give_up_at = time.monotonic() + _READY_LIMIT_S
        answer = "no answer"
        while time.monotonic() < give_up_at:
            self._check()
            status, answer = await asyncio.to_thread(_get, f"{self._page_url}readyz")
            if status == 200:
                return
            await asyncio.sleep(POLL_S)
        raise WorkerError(
            f"the worker was not ready within {_READY_LIMIT_S:.0f} s: {answer}\n{self._log_tail()}"
        )

    def _check(self) -> None:
        code = self._process.exit_code if self._process is not None else None
        if code is not None:
            raise WorkerError(f"the worker ended with exit code {code}\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join(["the last lines of its log:", *lines])

    def _kill(self) -> None:
        if self._process is not None and self._process.exit_code is None:
            self._process.kill()
        self._process = None


def _get(url: str) -> tuple[int, str]:
    """Ask once; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_LIMIT_S) as response:  # noqa: S310  loopback
            return response.status, response.read().decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace").strip()
    except OSError as error:
        return 0, str(error)
