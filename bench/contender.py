"""One run of one contender: names of its own, its processes, and what they use."""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis

from bench.broker import PARTITIONS, Broker
from bench.contenders import ROOT, Contender
from bench.ordinary_job import watermark_key
from consumer.connection import TopicNames
from consumer.local.process import GuardedProcess
from consumer.local.stack import Stack, StackError

_OURS = ("KAFKA_", "META_STRATEGY_", "REGIME_", "REDIS_", "HTTP_", "LOG_", "DEFAULT_STRATEGY")
# with it every start would compile the sources anew: nobody deploys that
_SLOW = "PYTHONDONTWRITEBYTECODE"
_STOP_LIMIT_S = 12.0
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s_of(pid: int) -> float:
    """Give user and system time of a process until now [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _family(process: GuardedProcess) -> list[int]:
    """Give the ids of a process and of all that it started and that still run."""
    found = [process.pid]
    for pid in found:  # it grows meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                found += map(int, (thread / "children").read_text().split())
    return found


def _memory_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


class ContenderError(Exception):
    """A process ended, or did not get on."""


async def attempt(measuring: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Measure; who does not come to the end is told in `error`, and the others go on."""
    try:
        return await measuring
    except ContenderError as error:
        return {"error": str(error), "is_clean": False}


class Run:
    """Fresh topics, group and keys, and processes that work on them; removed at the end.

    Args:
        contender: Who runs.
        stack: The servers.
        broker: The same Kafka.
        partitions: Of each topic.
        command: What to start instead of the contender's own command.
        environment: Settings on top of the contender's.
    """

    def __init__(
        self,
        contender: Contender,
        stack: Stack,
        broker: Broker,
        *,
        partitions: int = PARTITIONS,
        command: Sequence[str] = (),
        environment: Mapping[str, str] = {},
    ) -> None:
        mark = f"bench-{contender.name}-{secrets.token_hex(4)}"
        self.contender = contender
        self.partitions = partitions
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
        self._command = command or (contender.python, *contender.arguments)
        self._environment = {**contender.environment, **environment}
        self._log = stack.logs / f"{mark}.log"
        self._processes: list[GuardedProcess] = []

    async def __aenter__(self) -> Self:
        """Create the topics; the processes are started by `start`."""
        await self._broker.create(self.topics, self.partitions)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes, and remove what the run left on the servers."""
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

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    def start(self, processes: int = 1, command: Sequence[str] = ()) -> float:
        """Start the processes; give the moment they were there, on the performance counter [s].

        Args:
            processes: How many, all in one group.
            command: What to start this time.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._processes = [
            GuardedProcess(
                self._with_environment(command or self._command),
                cwd=self._stack.directory,
                log=self._log,
            )
            for _ in range(processes)
        ]
        if not all(process.pid for process in self._processes):
            raise ContenderError(f"{self.name}: cannot be started")
        return time.perf_counter()

    async def stop(self) -> None:
        """End the processes in order; kill those that take too long."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            if not await process.wait(_STOP_LIMIT_S):
                process.kill()

    @property
    def pid(self) -> int:
        """Process id of the first; 0 when none runs."""
        return self._processes[0].pid if self._processes else 0

    @property
    def log_text(self) -> str:
        """What the processes wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def exit_code(self) -> int | None:
        """Of the first that has ended; None while all run."""
        for process in self._processes:
            if (code := process.exit_code) is not None:
                return code
        return None

    def check(self) -> None:
        """See that all processes still run.

        Raises:
            ContenderError: One does not; with the end of its log.
        """
        if (code := self.exit_code) is not None:
            tail = "\n".join(self.log_text.splitlines()[-15:])
            raise ContenderError(f"{self.name} ended with exit code {code}\n{tail}")

    def cpu_s(self) -> float:
        """Give user and system time of all processes until now, and of those they started [s]."""
        return sum(cpu_s_of(pid) for process in self._processes for pid in _family(process))

    def usage(self) -> tuple[float, float] | None:
        """Give CPU time [s] and peak memory [MiB] of processes that may end; None once one has."""
        try:
            return self.cpu_s(), self.peak_rss_mib()
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return None

    def broker_cpu_s(self) -> float:
        """Give the same of the broker; 0 when it is not ours [s]."""
        try:
            return cpu_s_of(self._stack.kafka.pid)
        except StackError:
            return 0.0

    def peak_rss_mib(self) -> float:
        """Give the most memory that one of the processes, or of those they started, ever held [MiB]."""
        return self._most_mib("VmHWM")

    def rss_mib(self) -> float:
        """Give the most memory that one of them holds now [MiB]."""
        return self._most_mib("VmRSS")

    def _most_mib(self, field: str) -> float:
        held = (_memory_mib(pid, field) for process in self._processes for pid in _family(process))
        return max(held, default=0.0)

    async def redis_mib(self) -> float:
        """Give what Redis holds, of all that is in it [MiB]."""
        async with Redis.from_url(self._stack.redis_url) as redis:
            return round((await redis.info("memory"))["used_memory"] / (1 << 20), 1)

    async def done(self, *, with_trades: bool) -> int:
        """Count the records that are worked off: signals, and closed trades if wanted."""
        topics = self.topics
        if self.contender.commits:
            wanted = [topics.signals, *([topics.trades] if with_trades else [])]
            return await self._broker.committed(self.group_id, wanted)
        done = await self._broker.end_offsets(topics.decisions)
        return done + (await self._folded() if with_trades else 0)

    async def _folded(self) -> int:
        """Count the trades by the watermarks of the ordinary job."""
        async with Redis.from_url(self._stack.redis_url) as redis:
            pipeline = redis.pipeline(transaction=False)
            for number in range(self.partitions):
                pipeline.hget(watermark_key(number, self.prefix), "trades")
            return sum(int(offset or 0) for offset in await pipeline.execute())

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

    def _with_environment(self, command: Sequence[str]) -> list[str]:
        values = {
            "KAFKA_BOOTSTRAP_SERVERS": self._stack.bootstrap_servers,
            "REDIS_URL": self._stack.redis_url,
            "KAFKA_GROUP_ID": self.group_id,
            "KAFKA_SIGNALS_TOPIC": self.topics.signals,
            "KAFKA_TRADE_CLOSED_TOPIC": self.topics.trades,
            "KAFKA_DECISIONS_TOPIC": self.topics.decisions,
            "KAFKA_DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "META_STRATEGY_KEY_PREFIX": self.prefix,
            "META_STRATEGY_POLICY": "epsilon_greedy",  # the rule that all others have
            "HTTP_PORT": "0",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
            **self._environment,
        }
        return [
            "env",
            *(part for name in os.environ if name.startswith(_OURS) for part in ("-u", name)),
            "-u",
            _SLOW,
            *(f"{name}={value}" for name, value in values.items()),
            *command,
        ]
