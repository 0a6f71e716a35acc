"""The workers: processes that are started again when they end, as an orchestrator does."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.points import Control
from consumer.local.process import GuardedProcess
from consumer.local.server import free_port

ROOT = Path(__file__).parent.parent
_OWN = ("KAFKA_", "REDIS_", "META_STRATEGY_", "REGIME_", "HTTP_", "LOG_", "DEFAULT_STRATEGY")
_ANSWER_S = 2.0
_READY_S = 90.0
_LOOK_S = 0.05
KILLED = 128 + signal.SIGKILL


class WorkerLostError(Exception):
    """A worker did not become ready, or did not end."""


class Slot:
    """A place for one worker at a time: its settings, its control file, its log.

    Args:
        name: Of the worker.
        directory: For log and control file.
        environment: Its settings.
        contender: Whose process runs here: `worker` or `plain`.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        environment: Mapping[str, str],
        *,
        contender: str = "worker",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = directory / f"{name}.log"
        control = directory / f"{name}.control"
        self.control = Control(control)
        self._directory = directory
        self._contender = contender
        self._port = free_port()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OWN)}
        self._environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "LOG_FORMAT": "json",
            "LOG_RECORDS": "off",
            **environment,
            "HTTP_PORT": str(self._port),
            "CHAOS_CONTROL": str(control),
            "CHAOS_NAME": name,
        }
        self._process: GuardedProcess | None = None
        self.starts = 0
        self.exits: Counter[int] = Counter()
        """Exit codes of processes that ended unasked."""
        self.last_words: list[str] = []
        """What they wrote last."""
        self.counters: Counter[str] = Counter()
        """Counters of the processes before the present one."""
        self._seen: dict[str, float] = {}
        self.scraped: list[str] = []
        """Last answer of `/metrics` and `/readyz`, to be searched for secrets."""

    # Its life

    def start(self, **settings: str) -> None:
        """Start a process; nothing is waited for."""
        environment = {**self._environment, **settings}
        command = [sys.executable, "-m", "chaos.worker", self._contender]
        self._process = GuardedProcess(
            ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), *command],
            cwd=self._directory,
            log=self.log,
        )
        self.starts += 1
        self.counters.update({name: int(value) for name, value in self._seen.items()})
        self._seen = {}

    @property
    def exit_code(self) -> int | None:
        """None while it runs, or was never started."""
        return None if self._process is None else self._process.exit_code

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._process is not None and self._process.exit_code is None

    @property
    def pid(self) -> int:
        """Its process id; 0 when there is none."""
        return 0 if self._process is None else self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.signal(number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()

    async def ended(self, timeout_s: float) -> bool:
        """Wait for its end; False when it still runs."""
        return self._process is None or await self._process.wait(timeout_s)

    async def stopped_by_itself(self, timeout_s: float) -> bool:
        """Wait until it has frozen itself; False when it runs on, or ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.is_running:
            if self.is_frozen:
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped by SIGSTOP."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return text.rsplit(")", 1)[1].split()[0] == "T"

    @property
    def rss_mib(self) -> float:
        """Memory it holds now [MiB]; 0 when it does not run."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0.0
        for line in text.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    async def stop(self, timeout_s: float) -> tuple[int | None, float]:
        """Send SIGTERM; give the exit code, None when it had to be killed, and the time [s]."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        has_ended = await self.ended(timeout_s)
        took_s = time.monotonic() - started
        code = self.exit_code
        if not has_ended:
            self.kill()
            return None, took_s
        return code, took_s

    # What it says

    def _get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self._port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def get(self, path: str) -> tuple[int, str]:
        """Ask an endpoint; status 0 when nobody answers."""
        return await asyncio.to_thread(self._get, path)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """Ask whether it is ready; an empty answer when nobody answers."""
        status, text = await self.get("/readyz")
        return status, json.loads(text) if status else {}

    async def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until it says that it is ready.

        Raises:
            WorkerLostError: It did not in time.
        """
        deadline = time.monotonic() + timeout_s
        answer: tuple[int, str] = 0, ""
        while time.monotonic() < deadline:
            answer = await self.get("/readyz")
            if answer[0] == 200:
                return
            await asyncio.sleep(_LOOK_S)
        raise WorkerLostError(f"{self.name} is not ready: {answer}\n{self.tail()}")

    async def metrics(self) -> dict[str, float]:
        """Read its metrics, added up over labels; empty when it does not answer."""
        status, text = await self.get("/metrics")
        if status != 200:
            return {}
        self.scraped = [text]
        found: dict[str, float] = {}
        for line in text.splitlines():
            # a parser of the whole format takes most of a harness' time
            if not line.startswith("#"):
                name = line.partition("{")[0].partition(" ")[0]
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
        self._seen = {
            name: value
            for name, value in found.items()
            if name.startswith("meta_strategy_") and name.endswith("_total")
        }
        return found

    def counted(self, name: str) -> int:
        """Add a counter up over all its processes, as far as it was scraped."""
        return self.counters[name] + int(self._seen.get(name, 0))

    def text(self) -> str:
        """Give all it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 60) -> str:
        """Give the end of its log."""
        return "\n".join(self.text().splitlines()[-lines:])


class Fleet:
    """Several slots, watched: a process that ended unasked is started again after a moment.

    Args:
        slots: The workers.
    """

    def __init__(self, slots: list[Slot]) -> None:
        self.slots = slots
        self.held: set[str] = set()
        """Slots that a fault has in hand."""

    async def watch(self) -> None:
        """Start what ended unasked, and read metrics, until cancelled."""
        while True:
            for slot in self.slots:
                if slot.name in self.held:
                    continue
                code = slot.exit_code
                if code is not None:
                    slot.exits[code] += 1
                    slot.last_words.append(slot.tail())
                    slot.start()
                await slot.metrics()
            await asyncio.sleep(1.0)

    def counted(self, name: str) -> int:
        """Add a counter up over all workers."""
        return sum(slot.counted(name) for slot in self.slots)

    def kill(self) -> None:
        """End all of them."""
        for slot in self.slots:
            slot.kill()
