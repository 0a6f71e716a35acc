"""The servers of a test session, and the worker as a process beside them."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from chaos.views import is_same, out_of_blocks
from consumer.local.process import GuardedProcess
from consumer.local.server import free_port
from consumer.local.stack import Stack
from consumer.store.keys import PartitionKeys
from consumer.stream.read_record import ReadRecord
from tests.support.kafka_io import KafkaIo, Out, eventually
from tests.support.warm import warm_command

REPOSITORY = Path(__file__).resolve().parents[2]
_OWN = ("KAFKA_", "REDIS_", "META_STRATEGY_", "REGIME_", "HTTP_", "LOG_", "DEFAULT_STRATEGY")
_READY_S = 60.0
_ANSWER_S = 2.0
_LOG_LINES = 15


def is_same_view(
    one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]
) -> bool:
    """Compare all that two views hold; see `chaos.views.is_same`."""
    one, other = out_of_blocks(one), out_of_blocks(other)
    return all(is_same(key, one.get(key), other.get(key)) for key in {*one, *other})


class Finished(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def own_lines(self) -> list[str]:
        """Lines on standard error that are no log lines."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


async def run_command(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    typed: str = "",
    timeout_s: float = 30.0,
) -> Finished:
    """Run a command of the product to its end."""
    process = await asyncio.create_subprocess_exec(
        *warm_command("plain", arguments, dict(environment)),
        cwd=directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(typed.encode())
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(
            f"{arguments} still ran after {timeout_s:g} s\n{out.decode()}\n{err.decode()}"
        ) from None
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


class Samples:
    """What `/metrics` said at one moment."""

    def __init__(self, text: str) -> None:
        self.families = {f.name: f for f in text_string_to_metric_families(text)}
        self.samples = [s for f in self.families.values() for s in f.samples]

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels; 0 without any."""
        return sum(
            s.value
            for s in self.samples
            if s.name == name and labels.items() <= dict(s.labels).items()
        )

    def label_names(self, name: str) -> set[str]:
        """Give the labels that the samples of a name carry."""
        return {label for s in self.samples if s.name == name for label in s.labels}


class _WarmProcess(GuardedProcess):
    """Its command is a guard itself."""

    def _guarded(self, command: Sequence[str]) -> list[str]:
        return list(command)


class WorkerProcess:
    """A worker as a deployment runs it; it cannot outlive the test."""

    def __init__(self, environment: Mapping[str, str], directory: Path, name: str) -> None:
        self.environment = dict(environment)
        self.log = directory / f"{name}.log"
        self.name = name
        self._directory = directory
        self._process: GuardedProcess | None = None

    # Its life

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http://127.0.0.1:{self.environment['HTTP_PORT']}"

    @property
    def is_running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.exit_code is None

    def start(self) -> None:
        """Start it, or start it again; nothing is waited for."""
        assert not self.is_running
        self._process = _WarmProcess(
            warm_command("guarded", ["worker"], self.environment),
            cwd=self._directory,
            log=self.log,
        )

    async def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until `/readyz` says so."""
        await self.until_readyz(lambda status, _: status == 200, timeout_s=timeout_s)

    async def until_readyz(
        self, condition: Callable[[int, dict[str, Any]], bool], *, timeout_s: float = _READY_S
    ) -> dict[str, Any]:
        """Wait until the readiness answer meets a condition on its status and content."""
        deadline, last = time.monotonic() + timeout_s, "no answer"
        while time.monotonic() < deadline:
            assert self.is_running, f"{self.name} ended with {self.exit_code}\n{self.tail()}"
            try:
                status, body = await self.get("/readyz")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                last = repr(error)
            else:
                if condition(status, body):
                    return body
                last = f"{status} {body}"
            await asyncio.sleep(0.03)
        raise AssertionError(f"{self.name}: /readyz said {last}\n{self.tail()}")

    @property
    def exit_code(self) -> int | None:
        """None while it runs; 128 + n when signal n ended it."""
        return None if self._process is None else self._process.exit_code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.signal(number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Freeze it."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.signal(signal.SIGCONT)

    async def terminate(self, timeout_s: float = 12.0) -> tuple[int, float]:
        """Send SIGTERM; give the exit code and how long it took [s]."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        return await self.wait(timeout_s), time.monotonic() - started

    async def wait(self, timeout_s: float) -> int:
        """Wait for its end and give the exit code."""
        assert self._process is not None
        assert await self._process.wait(timeout_s), (
            f"{self.name} still runs after {timeout_s:g} s\n{self.tail()}"
        )
        code = self._process.exit_code
        assert code is not None
        return code

    # What it says

    async def request(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Ask an endpoint: status, content type, text."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path) as response,
        ):
            return response.status, response.content_type, await response.text()

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask an endpoint that answers in JSON."""
        status, _, text = await self.request(path)
        return status, json.loads(text)

    async def metrics(self) -> Samples:
        """Read all metrics."""
        _, _, text = await self.request("/metrics")
        return Samples(text)

    async def until_metric(
        self, condition: Callable[[Samples], Any], *, timeout_s: float = 40.0
    ) -> Samples:
        """Wait until the metrics meet a condition."""

        async def look() -> Samples | None:
            found = await self.metrics()
            return found if condition(found) else None

        found = await eventually(look, timeout_s=timeout_s, what=f"a metric of {self.name}")
        assert isinstance(found, Samples)
        return found

    def text(self) -> str:
        """Give all it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Give its log lines; what is none is left out."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def tail(self) -> str:
        """Give the end of its log, for a failure's message."""
        return "\n".join(["the end of its log:", *self.text().splitlines()[-_LOG_LINES:]])


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of one deployment's topics."""

    signals: str
    trades: str
    decisions: str
    dead_letters: str


class Deployment:
    """Topics, group and keys that no other test uses, and the workers that serve them."""

    def __init__(
        self, stack: Stack, kafka: KafkaIo, directory: Path, *, partitions: int, **settings: str
    ) -> None:
        mark = f"t{uuid.uuid4().hex[:10]}"
        self.stack = stack
        self.kafka = kafka
        self.directory = directory / mark
        self.directory.mkdir()
        self.partitions = partitions
        self.topics = Topics(
            f"{mark}-signals", f"{mark}-trade-closed", f"{mark}-decisions", f"{mark}-dead-letters"
        )
        self.group = f"{mark}-group"
        self.prefix = mark
        self.settings = settings
        # tests end and start servers: a connection that broke meanwhile is simply made again
        again = Retry(ConstantBackoff(0.05), 5)
        self.redis = Redis.from_url(stack.redis_url, retry=again, decode_responses=True)
        self.raw_redis = Redis.from_url(stack.redis_url, retry=again)
        self.workers: list[WorkerProcess] = []

    def environment(self, **settings: str) -> dict[str, str]:
        """Give the environment of a process of this deployment."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OWN)}
        own = {
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "REDIS_URL": self.stack.redis_url,
            "KAFKA_GROUP_ID": self.group,
            "KAFKA_SIGNALS_TOPIC": self.topics.signals,
            "KAFKA_TRADE_CLOSED_TOPIC": self.topics.trades,
            "KAFKA_DECISIONS_TOPIC": self.topics.decisions,
            "KAFKA_DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "META_STRATEGY_KEY_PREFIX": self.prefix,
            "HTTP_PORT": str(free_port()),
            "LOG_FORMAT": "json",
            "LOG_RECORDS": "off",
            "PYTHONPATH": str(REPOSITORY),
        }
        return inherited | own | self.settings | settings

    async def create_topics(self) -> None:
        """Make the four topics as the contract wants them."""
        keep = {"cleanup.policy": "delete", "retention.ms": "-1"}
        await self.kafka.create(self.topics.signals, self.partitions)
        await self.kafka.create(self.topics.trades, self.partitions, keep)
        await self.kafka.create(self.topics.decisions, self.partitions, keep)
        await self.kafka.create(self.topics.dead_letters, self.partitions)

    def worker(self, **settings: str) -> WorkerProcess:
        """Describe one more worker."""
        name = f"worker-{len(self.workers)}"
        worker = WorkerProcess(self.environment(**settings), self.directory, name)
        self.workers.append(worker)
        return worker

    async def started(self, **settings: str) -> WorkerProcess:
        """Start one more worker and wait until it is ready."""
        worker = self.worker(**settings)
        worker.start()
        await worker.wait_ready()
        return worker

    async def run(
        self, *arguments: str, typed: str = "", timeout_s: float = 30.0, **settings: str
    ) -> Finished:
        """Run a command of the product to its end."""
        environment = self.environment(**settings)
        return await run_command(
            arguments, environment, self.directory, typed=typed, timeout_s=timeout_s
        )

    # Logs and table

    async def send_signals(self, *records: Out) -> None:
        """Send records to the signals' topic."""
        await self.kafka.send(self.topics.signals, records)

    async def send_trades(self, *records: Out) -> None:
        """Send records to the closed trades' topic."""
        await self.kafka.send(self.topics.trades, records)

    async def decisions(self) -> list[ReadRecord]:
        """Read all committed decisions."""
        return await self.kafka.read(self.topics.decisions)

    async def dead_letters(self) -> list[ReadRecord]:
        """Read all committed dead letters."""
        return await self.kafka.read(self.topics.dead_letters)

    async def all_keys(self) -> list[str]:
        """Give all keys of this deployment."""
        return sorted([k async for k in self.redis.scan_iter(f"{self.prefix}:*", count=1000)])

    async def table(self) -> dict[str, dict[str, str]]:
        """Read the Q-table as an operator does: HGETALL of every context."""
        keys = [key for key in await self.all_keys() if key.split("}:", 1)[1].startswith("q:")]
        return {key: await self.redis.hgetall(key) for key in keys}

    async def view(self) -> dict[str, dict[str, str]]:
        """Read all that is kept in Redis as it stands at one moment: a worker may be writing."""
        fixed = (PartitionKeys(self.prefix, number).fixed for number in range(self.partitions))
        keys = sorted({*chain.from_iterable(fixed), *await self.all_keys()})
        pipeline = self.redis.pipeline(transaction=True)
        for key in keys:
            pipeline.hgetall(key)
        found = zip(keys, await pipeline.execute(), strict=True)
        return {key: fields for key, fields in found if fields}

    async def watermark(self, partition: int) -> dict[str, str]:
        """Read the watermark of a partition."""
        return await self.redis.hgetall(f"{self.prefix}:{{{partition}}}:watermark")

    async def settled(self, *, timeout_s: float = 60.0) -> None:
        """Wait until all that was sent is worked off, and the view stands at the logs' ends."""

        async def is_settled() -> bool:
            for topic in (self.topics.signals, self.topics.trades):
                offsets = await self.kafka.committed(self.group, topic)
                for log, end in (await self.kafka.ends(topic)).items():
                    if end and offsets.get(log.partition, 0) < end:
                        return False
            decided = {r.partition: r.offset + 1 for r in await self.decisions()}
            traded = await self.kafka.ends(self.topics.trades)
            for log, end in traded.items():
                mark = await self.watermark(log.partition)
                if int(mark.get("trades", 0)) < end:
                    return False
                if int(mark.get("decisions", 0)) < decided.get(log.partition, 0):
                    return False
            return True

        await eventually(is_settled, timeout_s=timeout_s, what="all input worked off")

    async def until_same(self, view: Mapping[str, Mapping[str, str]]) -> None:
        """Wait until all that is kept in Redis is as it was, to the last bit."""

        async def is_same() -> bool:
            return is_same_view(await self.view(), view)

        await eventually(is_same, what="the same view as before")

    # Its end

    async def close(self) -> None:
        """End all workers and leave nothing behind."""
        for worker in self.workers:
            worker.kill()
        with suppress(RedisError):  # a test may have ended it
            if keys := await self.all_keys():
                await self.redis.unlink(*keys)
        await self.redis.aclose()
        await self.raw_redis.aclose()
        await self.kafka.admin.delete_topics([getattr(self.topics, n) for n in Topics.__slots__])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


DEPLOYMENTS = pytest.StashKey[list[Deployment]]()
"""What a test deployed: its workers' logs are shown when it fails."""


def show_logs(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the workers' logs to the report of a failed test."""
    if report.when == "call" and report.failed:
        for deployment in item.stash.get(DEPLOYMENTS, []):
            for worker in deployment.workers:
                report.sections.append((f"{worker.name} of {deployment.group}", worker.tail()))
