"""What the broker and the Redis server have in common: ports, readiness, being killed and restarted."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from consumer.local.errors import PortInUseError, StackError
from consumer.local.process import POLL_S, GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOST = "127.0.0.1"

# Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections. A client
# that keeps calling the port of a killed server would else, sooner or later, be given that very port
# as its own, be connected to itself, and the server could not come back.
_PORTS = range(15_000, 32_768)

# Each try costs about 3 s with the broker; two stacks choosing one port twice is a matter of 1e-8.
_PORT_TRIES = 4
# A cold start takes 5 s on two cores; tenfold for a busy machine [s].
_START_LIMIT_S = 60.0
# Both servers stop within 1 s; docker and systemd kill after 10 s themselves [s].
_STOP_LIMIT_S = 10.0
_LOG_LINES = 12


def free_port() -> int:
    """Choose a port that nobody listens on right now; the caller has to cope with losing it."""
    while True:
        port = secrets.choice(_PORTS)  # not `random`: tests seed that alike in parallel processes
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as the servers do: connections of an earlier run that still fade out do not matter
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class LocalServer(ABC):
    """One server on loopback: it stops with this process, and tests may hurt it in every way.

    A restart keeps port and data, after `stop` as after `kill`.
    """

    name: ClassVar[str]
    ports_needed: ClassVar[int] = 1

    def __init__(
        self, directory: Path, log: Path, *, port: int = 0, holds: Sequence[int] = ()
    ) -> None:
        """Describe the server; nothing is started.

        Args:
            directory: Where it keeps configuration and data; made when missing, taken up when not.
            log: File its output is appended to.
            port: Port to listen on; 0 for any free one.
            holds: File descriptors kept open as long as the server runs.
        """
        self.directory = directory
        self.log = log
        self._wanted_port = port
        self._ports: tuple[int, ...] = ()
        self._holds = tuple(holds)
        self._process: GuardedProcess | None = None

    @property
    def port(self) -> int:
        """The port it listens on, chosen at the first start."""
        if not self._ports:
            raise StackError(f"{self.name} has no port before its first start")
        return self._ports[0]

    @property
    def address(self) -> str:
        """Host and port, as clients are told them."""
        return f"{HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.exit_code is None

    @property
    def pid(self) -> int:
        """The server's process id, to measure it by; 0 while it does not run."""
        return self._process.pid if self._process is not None and self.is_running else 0

    async def start(self) -> None:
        """Start the server and wait until it serves; a running one stays as it is.

        Raises:
            StackError: It ended, or did not serve in time; with the last lines of its log.
        """
        if self.is_running:
            return
        await self._prepare()
        is_first = not self._ports
        if is_first and self._wanted_port and not _is_free(self._wanted_port):
            raise StackError(f"{self.name}: port {self._wanted_port} is in use")
        for tries_left in reversed(range(_PORT_TRIES)):
            if is_first:
                others = [free_port() for _ in range(self.ports_needed)]
                self._ports = (self._wanted_port or others[0], *others[1:])
            try:
                await self._launch()
            except PortInUseError:
                if not is_first or not tries_left:
                    raise
            except BaseException:
                if is_first:
                    self._ports = ()
                raise
            else:
                return

    async def stop(self) -> None:
        """Let the server shut down in order; one that does not within 10 s is killed."""
        process = self._process
        if process is None:
            return
        process.signal(signal.SIGCONT)  # a paused one would not hear the next
        process.signal(signal.SIGTERM)
        if not await process.wait(_STOP_LIMIT_S):
            process.kill()
        self._process = None

    def kill(self) -> None:
        """End the server by SIGKILL: what it has not written to disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def abandon(self) -> None:
        """Kill the server, and whatever else it started."""
        self.kill()

    def pause(self) -> None:
        """Freeze the server by SIGSTOP: it accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop the server if it runs, and start it again: same port, same data."""
        await self.stop()
        await self.start()

    async def _prepare(self) -> None:  # noqa: B027  not every server needs anything
        """Get what a start needs; not counted as start time."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Write the configuration for the chosen ports and return program and arguments."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Ask over the network whether this very server, not a stranger on its port, serves."""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not self.is_running:
            raise StackError(f"{self.name} does not run")
        self._process.signal(number)

    async def _launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        log_start = self.log.stat().st_size if self.log.exists() else 0
        process = GuardedProcess(
            self._command(), cwd=self.directory, log=self.log, holds=self._holds
        )
        self._process = process
        try:
            await self._until_ready(process, log_start)
        except BaseException:
            self.kill()
            raise

    async def _until_ready(self, process: GuardedProcess, log_start: int) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while not await self._is_ready():
            code = process.exit_code
            if code is None and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
                continue
            with self.log.open("rb") as log:
                log.seek(log_start)
                text = log.read().decode(errors="replace")
            what = f"ended with exit code {code}" if code is not None else "did not answer in time"
            tail = "\n  ".join(text.strip().splitlines()[-_LOG_LINES:])
            error = PortInUseError if "Address already in use" in text else StackError
            raise error(f"{self.name} {what}; the end of {self.log}:\n  {tail}")
