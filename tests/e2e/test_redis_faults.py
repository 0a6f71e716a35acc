"""Redis is a view: whatever it loses comes back from the logs, to the same bits (I5, I7, I9)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from consumer.local.stack import Stack
from tests.support.builders import make_signal
from tests.support.executor import signals, trade_for
from tests.support.fold_oracle import assert_table, fold
from tests.support.kafka_io import KafkaIo, content, keyed
from tests.support.servers import DEPLOYMENTS, Deployment

NOTICED_S = 5.0
"""A loss is noticed within a second; the rest is for a busy machine."""

Deploy = Callable[..., Awaitable[Deployment]]


@pytest.fixture(scope="module")
async def own_redis(stack: Stack) -> AsyncIterator[Stack]:
    """A Redis to hurt, beside the session's Kafka."""
    async with Stack(bootstrap_servers=stack.bootstrap_servers) as running:
        yield running


@pytest.fixture
async def deploy(
    own_redis: Stack, kafka: KafkaIo, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Deploy]:
    request.node.stash[DEPLOYMENTS] = []
    async with AsyncExitStack() as cleanup:

        async def make(*, partitions: int = 2, **settings: str) -> Deployment:
            deployment = Deployment(own_redis, kafka, tmp_path, partitions=partitions, **settings)
            request.node.stash[DEPLOYMENTS].append(deployment)
            await cleanup.enter_async_context(deployment)
            await deployment.create_topics()
            return deployment

        yield make
    if not own_redis.redis.is_running:
        await own_redis.redis.start()


async def teach(deployment: Deployment, count: int, seed: int) -> None:
    """Let the worker decide and learn."""
    before = len(await deployment.decisions())
    await deployment.send_signals(*map(keyed, signals(count, seed=seed)))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        records = await tail.count(before + count)
    await deployment.send_trades(
        *(
            keyed(trade_for(d))
            for d in map(content, records)
            if d["signal_id"].startswith(f"s{seed}-") and d["metadata"]["number"] % 4
        )
    )
    await deployment.settled()


async def judge(deployment: Deployment) -> None:
    """Compare the table with the fold of the logs."""
    await deployment.settled()
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades)
    assert_table(await deployment.table(), folded, deployment.prefix)
    assert await deployment.dead_letters() == []


@pytest.mark.parametrize("loss", ["flushed", "wiped", "rolled back", "one partition", "cells kept"])
async def test_a_loss_under_an_idle_worker_is_noticed_and_healed(deploy: Deploy, loss: str) -> None:
    """Nobody asks Redis anything then but the heartbeat."""
    deployment = await deploy()
    worker = await deployment.started()
    await teach(deployment, 60, seed=31)
    old = {key: await deployment.raw_redis.dump(key) for key in await deployment.all_keys()}
    await teach(deployment, 60, seed=32)
    before = await deployment.view()
    rewinds = (await worker.metrics()).value("meta_strategy_rewinds_total")

    started = time.monotonic()
    if loss == "flushed":
        await deployment.stack.redis.flush()
    elif loss == "wiped":
        await deployment.stack.redis.wipe()
    elif loss == "one partition":
        mine = [k for k in await deployment.all_keys() if "{0}" in k]
        await deployment.redis.delete(*mine)
    elif loss == "cells kept":
        await deployment.redis.delete(f"{deployment.prefix}:{{0}}:watermark")
    else:
        async with deployment.raw_redis.pipeline(transaction=True) as pipe:
            pipe.delete(*await deployment.all_keys())
            for key, value in old.items():
                pipe.restore(key, 0, value)
            await pipe.execute()

    metrics = await worker.until_metric(
        lambda m: m.value("meta_strategy_rewinds_total") > rewinds, timeout_s=30
    )
    noticed_s = time.monotonic() - started
    await deployment.until_same(before)
    assert noticed_s < NOTICED_S
    lost = 1 if loss in {"one partition", "cells kept"} else 2
    assert metrics.value("meta_strategy_rewinds_total") - rewinds <= lost
    await judge(deployment)
    await teach(deployment, 30, seed=33)
    await judge(deployment)


async def test_a_redis_wiped_while_no_worker_runs_is_rebuilt_at_the_next_start(
    deploy: Deploy,
) -> None:
    deployment = await deploy()
    worker = await deployment.started()
    await teach(deployment, 200, seed=34)
    assert (await worker.terminate())[0] == 0
    before = await deployment.view()

    await deployment.stack.redis.wipe()
    assert await deployment.all_keys() == []
    await deployment.started()

    await deployment.until_same(before)
    await judge(deployment)


async def test_decisions_go_on_without_redis_and_trades_wait(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2)
    worker = await deployment.started()
    await teach(deployment, 60, seed=35)
    offsets = await deployment.kafka.committed(deployment.group, deployment.topics.trades)
    before = await deployment.decisions()

    deployment.stack.redis.kill()
    await worker.until_metric(lambda m: m.value("meta_strategy_degraded") == 1)
    body = await worker.until_readyz(lambda status, _: status == 503)
    await deployment.send_trades(
        *(keyed(trade_for(content(r), trade_id=f"late-{n}")) for n, r in enumerate(before))
    )
    await deployment.send_signals(*map(keyed, signals(50, seed=36)))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        records = await tail.count(110)
        decided = [d for d in map(content, records) if d["signal_id"].startswith("s36-")]
        assert len(decided) == 50
        assert all(d["degraded"] is True for d in decided)
        waiting = await deployment.kafka.committed(deployment.group, deployment.topics.trades)
        assert waiting == offsets
        assert any("redis" in reason.lower() for reason in body["reasons"])

        await deployment.stack.redis.start()
        await worker.wait_ready()
        await worker.until_metric(lambda m: m.value("meta_strategy_degraded") == 0)
        await judge(deployment)
        await deployment.send_signals(*map(keyed, signals(20, seed=37)))
        records = await tail.count(130)
    assert not any(d["degraded"] for d in map(content, records) if d["signal_id"][:4] == "s37-")
    assert worker.is_running


async def test_signals_wait_when_redis_is_away_for_too_long(deploy: Deploy) -> None:
    """A table that nobody has confirmed for long is no base for orders."""
    deployment = await deploy(partitions=1, META_STRATEGY_MAX_STALENESS_S="3")
    worker = await deployment.started()
    deployment.stack.redis.kill()
    killed = time.monotonic()
    sent = 0

    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        while True:
            await deployment.send_signals(keyed(make_signal(signal_id=f"w{sent}")))
            sent += 1
            try:
                await tail.count(sent, timeout_s=3.0)
            except AssertionError:
                break
            assert time.monotonic() - killed < 30, "decisions went on without an end"
            await asyncio.sleep(0.1)
        decided = len(tail)
        assert time.monotonic() - killed > 3
        await deployment.stack.redis.start()
        await tail.count(sent)

    assert 0 < decided < sent
    assert worker.is_running


async def test_a_frozen_redis_does_not_delay_decisions(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    await teach(deployment, 20, seed=38)

    deployment.stack.redis.pause()
    try:
        async with deployment.kafka.tail(deployment.topics.decisions) as tail:
            for number in range(10):
                sent_at = time.monotonic()
                await deployment.send_signals(keyed(make_signal(signal_id=f"f{number}")))
                await tail.count(21 + number)
                assert time.monotonic() - sent_at < 2
            assert content(tail.records[-1])["degraded"] in {True, False}
            await worker.until_metric(lambda m: m.value("meta_strategy_degraded") == 1)
            await deployment.send_signals(keyed(make_signal(signal_id="late")))
            await tail.count(31)
            assert content(tail.records[-1])["degraded"] is True
    finally:
        deployment.stack.redis.resume()
    await worker.wait_ready()
    await judge(deployment)


async def test_a_worker_that_starts_without_redis_waits_for_it(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    deployment.stack.redis.kill()
    worker = deployment.worker()
    worker.start()
    await deployment.send_signals(keyed(make_signal(signal_id="early")))

    body = await worker.until_readyz(lambda _, body: "redis" in str(body.get("reasons")).lower())
    assert body["reasons"]
    assert await deployment.decisions() == []
    await deployment.stack.redis.start()

    await worker.wait_ready()
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(1)
        await worker.until_metric(lambda m: m.value("meta_strategy_degraded") == 0)
        await deployment.send_signals(keyed(make_signal(signal_id="later")))
        assert content((await tail.count(2))[1])["degraded"] is False


async def test_doctor_fails_on_a_redis_that_evicts(deploy: Deploy) -> None:
    """It would delete parts of the table, and nothing else would."""
    deployment = await deploy(partitions=1)
    try:
        await deployment.redis.config_set("maxmemory-policy", "allkeys-lru")

        done = await deployment.run("doctor")
        worker = await deployment.started()
    finally:
        await deployment.redis.config_set("maxmemory-policy", "noeviction")

    assert done.code == 1
    assert any("noeviction" in line and "error" in line for line in done.out.splitlines())
    warnings = [line["event"] for line in worker.lines() if line["level"] == "warning"]
    assert any("noeviction" in warning for warning in warnings)
