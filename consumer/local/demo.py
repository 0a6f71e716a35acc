"""The demo: servers, topics, a worker in a process of its own, a replay against it, the verdict.

Everything it starts ends with it. On servers that the environment names it works under names of its
own, so that nothing that is there is read, changed or left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from consumer.local.deployment import Deployment
from consumer.local.market_bars import WrongUseError, load_bars, shipped_bars
from consumer.local.paper_executor import PaperExecutor, StalledError
from consumer.local.paper_signals import plan_entries
from consumer.local.replay_tally import ReplayTally
from consumer.local.stack import Stack
from consumer.local.worker_process import WorkerProcess
from consumer.words import plural

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from consumer.local.market_bars import BarSeries
    from consumer.local.paper_executor import Topics
    from consumer.local.paper_signals import Entry
    from consumer.local.table_reader import Arm, ArmRow

# Ten frames a second look alive, and cost the replay a few percent of a core [s].
_FRAME_S = 0.1


class DemoError(Exception):
    """The demo cannot go on; the first line says why, more may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user chose."""

    signals: int = 1000
    bars: tuple[Path, ...] = ()
    """Files to replay instead of the shipped ones."""
    keep: bool = False
    """Leave everything running after the summary, until told to stop."""
    seed: int = 1
    """Of the entries; the same seed gives the same replay."""
    partitions: int = 4
    """Of each topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where everything is: what the summary points at."""

    bootstrap_servers: str
    redis_url: str
    """Without a password."""
    page_url: str
    topics: Topics
    logs: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the demo went."""

    tally: ReplayTally
    learned: Mapping[Arm, ArmRow]
    """The table after the replay, by arm."""
    shortfalls: Sequence[str]
    """Empty: every signal got one decision, every trade its reward."""
    seconds: float
    """Since the demo began [s]."""
    site: Site
    keep: bool


class Kept:
    """The time after the summary with `keep`: everything runs on until it is enough."""

    def __init__(self) -> None:
        self.has_begun = False
        self.enough = asyncio.Event()


class Screen(Protocol):
    """Shows how the demo gets on; nothing here blocks."""

    def step(self, doing: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show a step while the block runs; the block says how it ended."""

    def note(self, line: str) -> None:
        """Show a line."""

    def replaying(self, tally: ReplayTally) -> AbstractContextManager[Callable[[], None]]:
        """Show the replay while the block runs; the block asks for a new frame now and then."""

    def summary(self, result: Result) -> None:
        """Show what was learned, whether all was answered, and where to look next."""


async def run_demo(options: DemoOptions, screen: Screen, kept: Kept) -> bool:
    """Run the demo from nothing to nothing; cancel it to end it early, everything is stopped.

    Args:
        options: What the user chose.
        screen: Where it is shown.
        kept: Tells when only `keep` keeps it running, and ends that.

    Returns:
        Whether every signal got exactly one decision and every trade its reward.

    Raises:
        BarsError, DemoError, StackError, SettingsError: With a message for the user.
        KafkaError, RedisError: A server of the environment refuses, or cannot be reached.
    """
    began_at = time.monotonic()
    entries = _plan(options, screen)
    with screen.step("Starting Kafka and Redis") as done:
        stack = Stack.from_environment(report=screen.note)
        await stack.start()
        done(
            f"Kafka is up at {stack.bootstrap_servers},"
            f" Redis at {_without_password(stack.redis_url)}"
        )
    try:
        return await _Demo(options, screen, stack, began_at).run(entries, kept)
    finally:
        await stack.stop()


def _plan(options: DemoOptions, screen: Screen) -> list[Entry]:
    series = [load_bars(path) for path in options.bars] or shipped_bars()
    symbols = [one.symbol for one in series]
    for symbol in symbols:
        if symbols.count(symbol) > 1:
            raise WrongUseError(f"{symbol}: two files have this symbol; give each symbol once")
    try:
        entries = plan_entries(series, options.signals, options.seed)
    except ValueError as error:
        raise DemoError(str(error)) from error
    screen.note(_told(series, entries))
    return entries


def _told(series: Sequence[BarSeries], entries: Sequence[Entry]) -> str:
    bars = " and ".join(f"{len(one.bars):,} {one.timeframe} bars of {one.symbol}" for one in series)
    laps = entries[-1].lap + 1
    again = f", walked through {laps} times" if laps > 1 else ""
    return f"{len(entries):,} {plural(len(entries), 'signal')} from {bars}{again}"


class _Demo:
    """One run on servers that are up."""

    def __init__(self, options: DemoOptions, screen: Screen, stack: Stack, began_at: float) -> None:
        self._options = options
        self._screen = screen
        self._stack = stack
        self._began_at = began_at
        self._at = Deployment(stack)
        self._worker = WorkerProcess(
            self._at.command("worker"),
            cwd=self._at.cwd,
            log=stack.logs / "worker.log",
            page_url=self._at.page_url,
        )

    async def run(self, entries: Sequence[Entry], kept: Kept) -> bool:
        """Make topics, run the worker, replay, sum up; remove what must not stay."""
        is_complete, is_evidence = False, True
        with self._screen.step("Creating the topics") as done:
            await self._create_topics()
            count = self._options.partitions
            done(f"Topics are there, {count} {plural(count, 'partition')} each")
        try:
            async with contextlib.AsyncExitStack() as running:
                with self._screen.step("Starting the worker") as done:
                    await running.enter_async_context(self._worker)
                    done(f"Worker is ready at {self._at.page_url}, process {self._worker.pid}")
                result = await self._replay(entries)
                is_complete = not result.shortfalls
                is_evidence = not is_complete
                self._screen.summary(result)
                if self._options.keep:
                    kept.has_begun = True
                    await self._while_all_runs(kept.enough.wait())
        except asyncio.CancelledError:
            is_evidence = False
            raise
        finally:
            if self._at.is_shared:
                await self._leave(is_evidence=is_evidence)
        return is_complete

    async def _create_topics(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._at.command("topics", "create", "--partitions", str(self._options.partitions)),
            cwd=self._at.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process: it ends the others in order
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = output.decode(errors="replace").strip()
            raise DemoError(f"topics create ended with exit code {process.returncode}\n{text}")

    async def _replay(self, entries: Sequence[Entry]) -> Result:
        tally = ReplayTally(len(entries), repeats_allowed=self._at.repeats_allowed)
        stalled: list[str] = []
        async with self._at.table() as table:
            before = await table.rows()
            executor = PaperExecutor(
                entries,
                topics=self._at.topics,
                kafka=self._at.connection.options(),
                table=table,
                tally=tally,
                run_id=f"demo-{self._options.seed}",
            )
            with self._screen.replaying(tally) as frame:
                async with _ticking(frame):
                    try:
                        await self._while_all_runs(executor.run())
                    except StalledError as error:
                        stalled.append(str(error))
            after = await table.rows()
        return Result(
            tally=tally,
            learned=after,
            shortfalls=[*stalled, *tally.shortfalls(before, after)],
            seconds=time.monotonic() - self._began_at,
            site=Site(
                bootstrap_servers=self._stack.bootstrap_servers,
                redis_url=_without_password(self._stack.redis_url),
                page_url=self._at.page_url,
                topics=self._at.topics,
                logs=self._stack.logs,
            ),
            keep=self._options.keep,
        )

    async def _while_all_runs(self, work: Awaitable[Any]) -> None:
        """Do some work as long as worker and servers live."""
        tasks = [
            asyncio.create_task(self._stack.watch()),
            asyncio.create_task(self._worker.watch()),
            asyncio.ensure_future(work),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:  # when several ended, a dead server is the cause, the rest follows
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self, *, is_evidence: bool) -> None:
        """Remove what the run has put on shared servers, unless it shows what went wrong."""
        if not is_evidence:
            await self._at.remove()
            return
        names = self._at.topics
        self._screen.note(
            f"Left to be looked at: topics {names.signals}, {names.trade_closed},"
            f" {names.decisions}, {names.dead_letters}; Redis keys {self._at.key_prefix}:*"
        )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


@contextlib.asynccontextmanager
async def _ticking(frame: Callable[[], None]) -> AsyncIterator[None]:
    """Draw frames while the block runs, and a last one after it."""

    async def tick() -> None:
        while True:
            frame()
            await asyncio.sleep(_FRAME_S)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        frame()
