"""Whatever dies, pauses or restarts: each signal once, each reward once (invariants I1 to I6, I11).

Each of these waits long for others (a dead member is missed after 10 s): all run side by side, and
each test judges its own.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from consumer.local.stack import Stack
from tests.support.executor import Executor, signals
from tests.support.fold_oracle import assert_table, by_source, fold
from tests.support.kafka_io import KafkaIo, content, eventually, keyed
from tests.support.servers import DEPLOYMENTS, Deployment, WorkerProcess

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 4


class Scenario:
    """A deployment under traffic: signals flow at a steady pace, an executor answers decisions."""

    def __init__(self, deployment: Deployment, *, signals_count: int, pace_s: float) -> None:
        self.deployment = deployment
        self.sent = list(signals(signals_count, seed=signals_count))
        self._pace_s = pace_s

    async def traffic(self, *, chunk: int = 25) -> None:
        """Send all signals, some of them twice."""
        rng = Random(5)
        for start in range(0, len(self.sent), chunk):
            part = self.sent[start : start + chunk]
            repeats = [s for s in self.sent[: start + chunk] if rng.random() < 2 / (start + 1)]
            await self.deployment.send_signals(*map(keyed, part + repeats))
            await asyncio.sleep(self._pace_s)

    async def judge(self) -> None:
        """Compare all outputs with what the logs say they must be."""
        deployment = self.deployment
        await self.deployment.settled(timeout_s=60.0)
        decisions = await deployment.decisions()
        trades = await deployment.kafka.read(deployment.topics.trades)

        ids = Counter(content(r)["decision_id"] for r in decisions)
        assert [i for i, count in ids.items() if count > 1] == [], "doubled decisions"
        assert Counter(content(r)["signal_id"] for r in decisions) == Counter(
            s["signal_id"] for s in self.sent
        )
        places = Counter(place for place, _ in by_source(decisions))
        assert max(places.values()) == 1
        for partition in range(deployment.partitions):
            offsets = [
                content(r)["source"]["offset"] for r in decisions if r.partition == partition
            ]
            assert offsets == sorted(offsets), f"partition {partition} out of order"
        assert all(r.partition == content(r)["source"]["partition"] for r in decisions)
        assert await deployment.dead_letters() == []
        folded = fold(decisions, trades)
        assert all(not partition.refused for partition in folded.values())
        assert_table(await deployment.table(), folded, deployment.prefix)

    async def all_answered(self, executor: Executor) -> None:
        """Wait until each signal has a decision, and the executor has seen it."""
        await eventually(
            lambda: len(executor.answered) >= len(self.sent),
            timeout_s=90.0,
            what="a decision for each signal",
        )


async def crash_storm(deployment: Deployment) -> None:
    """Three workers, killed at random moments and started again."""
    scenario = Scenario(deployment, signals_count=3_000, pace_s=0.25)
    rng = Random(20)
    workers = [deployment.worker() for _ in range(3)]
    for worker in workers:
        worker.start()
    await asyncio.gather(*(worker.wait_ready(60) for worker in workers))
    topics = deployment.topics
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        traffic = asyncio.create_task(scenario.traffic())
        while not traffic.done():
            await asyncio.sleep(rng.uniform(0.5, 5.0))
            victims = workers if rng.random() < 0.2 else [rng.choice(workers)]
            for victim in victims:
                victim.kill()
            await asyncio.sleep(rng.uniform(0.0, 0.5))
            for victim in victims:
                victim.start()
        await traffic
        await scenario.all_answered(executor)
    await scenario.judge()
    await asyncio.gather(*(worker.wait_ready(60) for worker in workers))


async def zombie(deployment: Deployment) -> None:
    """A worker frozen past the session timeout wakes up when another has its partitions."""
    scenario = Scenario(deployment, signals_count=1_500, pace_s=0.25)
    first = await deployment.started()
    topics = deployment.topics
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        traffic = asyncio.create_task(scenario.traffic())
        await eventually(lambda: len(executor.answered) > 100, timeout_s=60, what="traffic")
        second = deployment.worker()
        first.pause()
        second.start()
        await second.until_readyz(
            lambda status, body: status == 200 and len(body["partitions"]) == PARTITIONS,
            timeout_s=60,
        )
        seen = len(executor.answered)
        await eventually(lambda: len(executor.answered) > seen + 50, timeout_s=60, what="take-over")
        first.resume()
        await first.wait_ready(60)
        await traffic
        await scenario.all_answered(executor)
    await scenario.judge()
    shares = [set((await w.get("/readyz"))[1]["partitions"]) for w in (first, second)]
    assert shares[0] | shares[1] == set(range(PARTITIONS))
    assert not shares[0] & shares[1]
    assert shares[0], "the woken worker does not work again"
    # it learned from the group or from the fence that it had been replaced
    assert first.text().count("is open") > PARTITIONS
    fenced = (await first.metrics()).value("meta_strategy_fenced_total")
    assert fenced in {0, 1}


async def rolling_upgrade(deployment: Deployment) -> None:
    """A second worker joins and leaves again while signals flow, then two are replaced in turn."""
    scenario = Scenario(deployment, signals_count=1_600, pace_s=0.25)
    first = await deployment.started()
    topics = deployment.topics
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        traffic = asyncio.create_task(scenario.traffic())
        second = await deployment.started()
        await share_equally(first, second)
        assert_clean(await second.terminate())
        await first.until_readyz(lambda _, body: len(body.get("partitions", ())) == PARTITIONS)
        second.start()
        await share_equally(first, second)
        for worker in (first, second):
            assert_clean(await worker.terminate())
            worker.start()
            await share_equally(first, second)
        await traffic
        await scenario.all_answered(executor)
    await scenario.judge()


async def share_equally(*workers: WorkerProcess) -> None:
    """Wait until each of the workers has as many open partitions as the others."""
    share = PARTITIONS // len(workers)
    for worker in workers:
        await worker.until_readyz(
            lambda status, body: status == 200 and len(body.get("partitions", ())) == share
        )


def assert_clean(ended: tuple[int | None, float]) -> None:
    """A stop is clean when its exit code is 0, within the time the contract gives."""
    code, took_s = ended
    assert (code, took_s < 10) == (0, True)


async def lone_crashes(deployment: Deployment) -> None:
    """One worker, killed again and again; nobody else is there to take over."""
    scenario = Scenario(deployment, signals_count=800, pace_s=0.5)
    rng = Random(21)
    worker = await deployment.started()
    topics = deployment.topics
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        traffic = asyncio.create_task(scenario.traffic())
        for _ in range(3):
            seen = len(executor.answered)
            await eventually(lambda s=seen: len(executor.answered) > s, timeout_s=60, what="life")
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            worker.kill()
            worker.start()
        await traffic
        await scenario.all_answered(executor)
    await scenario.judge()


SCENARIOS: dict[str, Callable[[Deployment], Awaitable[None]]] = {
    scenario.__name__: scenario for scenario in (crash_storm, zombie, rolling_upgrade, lone_crashes)
}


@pytest.fixture(scope="module")
async def running(
    stack: Stack, kafka: KafkaIo, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, tuple[Deployment, asyncio.Task[None]]]]:
    """All scenarios, started together."""
    directory: Path = tmp_path_factory.mktemp("faults")
    async with AsyncExitStack() as cleanup:
        tasks: dict[str, tuple[Deployment, asyncio.Task[None]]] = {}
        for name, scenario in SCENARIOS.items():
            deployment = await cleanup.enter_async_context(
                Deployment(stack, kafka, directory, partitions=PARTITIONS)
            )
            await deployment.create_topics()

            async def run(
                scenario: Callable[[Deployment], Awaitable[None]] = scenario,
                deployment: Deployment = deployment,
            ) -> None:
                await scenario(deployment)
                for worker in deployment.workers:
                    worker.kill()

            tasks[name] = deployment, asyncio.create_task(run(), name=name)
        try:
            yield tasks
        finally:
            for _, task in tasks.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in tasks.values()), return_exceptions=True)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_doubled_or_out_of_order(
    name: str, running: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    deployment, task = running[name]
    request.node.stash[DEPLOYMENTS] = [deployment]

    await task
