"""One run of one contender: names of its own, its process, and what the process uses."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from redis.asyncio import Redis

from bench.broker import Broker
from consumer.local.process import GuardedProcess
from consumer.local.stack import Stack, StackError
from consumer.stream.topics import TopicNames

Name = Literal["worker", "plain"]
NAMES: tuple[Name, Name] = ("worker", "plain")

COMMANDS: dict[str, Sequence[str]] = {
    "worker": (sys.executable, "-m", "consumer.cli.main", "worker"),
    "plain": (sys.executable, "-m", "bench.plain_worker"),
}
_ROOT = Path(__file__).parent.parent
_OURS = ("KAFKA_", "META_STRATEGY_", "REGIME_", "REDIS_", "HTTP_", "LOG_", "DEFAULT_STRATEGY")
# with it every start would compile the sources anew: nobody deploys that
_SLOW = "PYTHONDONTWRITEBYTECODE"
_STOP_LIMIT_S = 12.0
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s_of(pid: int) -> float:
    """Give user and system time of a process until now [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class ContenderError(Exception):
    """The process ended, or did not get on."""


class Run:
    """Fresh topics, group and keys, and a process that works on them; removed at the end.

    Args:
        name: Who runs.
        stack: The servers.
        broker: The same Kafka.
        command: What to start instead of the contender's own command.
    """

    def __init__(
        self, name: Name, stack: Stack, broker: Broker, *, command: Sequence[str] = ()
    ) -> None:
        mark = f"bench-{name}-{secrets.token_hex(4)}"
        self.name = name
        self.topics = TopicNames(
            signals=f"{mark}-signals",
            trades=f"{mark}-trade-closed",
            decisions=f"{mark}-strategy-decisions",
            dead_letters=f"{mark}-dead-letters",
        )
        self.group_id = mark
        self.prefix = mark
        self._stack = stack
        self._broker = broker
        self._command = command or COMMANDS[name]
        self._log = stack.logs / f"{mark}.log"
        self._process: GuardedProcess | None = None

    async def __aenter__(self) -> Self:
        """Create the topics; the process is started by `start`."""
        await self._broker.create(self.topics)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process, and remove what the run left on the servers."""
        await self.stop()
        await self._broker.delete(self.topics)
        async with Redis.from_url(self._stack.redis_url) as redis:
            cursor = 0
            while True:
                cursor, keys = await redis.scan(cursor, match=f"{self.prefix}:*", count=5_000)
                if keys:
                    await redis.unlink(*keys)
                if not cursor:
                    break

    def start(self) -> float:
        """Start the process; give the moment it was there, on the performance counter [s]."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._process = GuardedProcess(
            self._with_environment(), cwd=self._stack.directory, log=self._log
        )
        if not self.pid:
            raise ContenderError(f"{self.name}: cannot be started")
        return time.perf_counter()

    async def stop(self) -> None:
        """End the process in order; kill it when that takes too long."""
        process, self._process = self._process, None
        if process is not None:
            process.signal(signal.SIGTERM)
            if not await process.wait(_STOP_LIMIT_S):
                process.kill()

    @property
    def pid(self) -> int:
        """Its process id; 0 when it does not run."""
        return 0 if self._process is None else self._process.pid

    @property
    def log_text(self) -> str:
        """What the process wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def check(self) -> None:
        """See that the process still runs.

        Raises:
            ContenderError: It does not; with the end of its log.
        """
        code = None if self._process is None else self._process.exit_code
        if code is not None:
            tail = "\n".join(self.log_text.splitlines()[-15:])
            raise ContenderError(f"{self.name} ended with exit code {code}\n{tail}")

    def cpu_s(self) -> float:
        """Give user and system time of all its threads until now [s]."""
        return cpu_s_of(self.pid)

    def broker_cpu_s(self) -> float:
        """Give the same of the broker; 0 when it is not ours [s]."""
        try:
            return cpu_s_of(self._stack.kafka.pid)
        except StackError:
            return 0.0

    def peak_rss_mib(self) -> float:
        """Give the most memory it ever held [MiB]."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
        return 0.0

    async def rewards(self, wanted: int, timeout_s: float = 10.0) -> int:
        """Count the rewards in the table, once there are as many as wanted, or time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            count = await self._count_rewards()
            if count >= wanted or time.monotonic() > deadline:
                return count
            await asyncio.sleep(0.2)

    async def _count_rewards(self) -> int:
        total = 0
        async with Redis.from_url(self._stack.redis_url, decode_responses=True) as redis:
            keys = [
                key
                async for key in redis.scan_iter(match=f"{self.prefix}:*:q:*", count=5_000)
                if ":q:" in key
            ]
            pipeline = redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            for row in await pipeline.execute():
                total += sum(int(v) for field, v in row.items() if field.endswith(":count"))
        return total

    def _with_environment(self) -> list[str]:
        values = {
            "KAFKA_BOOTSTRAP_SERVERS": self._stack.bootstrap_servers,
            "REDIS_URL": self._stack.redis_url,
            "KAFKA_GROUP_ID": self.group_id,
            "KAFKA_SIGNALS_TOPIC": self.topics.signals,
            "KAFKA_TRADE_CLOSED_TOPIC": self.topics.trades,
            "KAFKA_DECISIONS_TOPIC": self.topics.decisions,
            "KAFKA_DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "META_STRATEGY_KEY_PREFIX": self.prefix,
            "HTTP_PORT": "0",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(_ROOT),
        }
        return [
            "env",
            *(part for name in os.environ if name.startswith(_OURS) for part in ("-u", name)),
            "-u",
            _SLOW,
            *(f"{name}={value}" for name, value in values.items()),
            *self._command,
        ]
