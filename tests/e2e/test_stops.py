"""SIGTERM ends the process in time, whatever the servers do (invariant I10)."""

import asyncio
import signal
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from consumer.local.server import free_port
from consumer.local.stack import Stack
from consumer.stream.clients import stop_within
from tests.e2e.conftest import Deploy
from tests.support.executor import Executor, signals, trade_for
from tests.support.fold_oracle import assert_table, fold
from tests.support.kafka_io import KafkaIo, content, eventually, keyed

LIMIT_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_stop_under_load_is_clean_and_loses_nothing(
    deploy_own: Deploy, number: signal.Signals
) -> None:
    deployment = await deploy_own()
    topics = deployment.topics
    sent = list(signals(3_000, seed=41))
    worker = await deployment.started()
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        await deployment.send_signals(*map(keyed, sent[:1_500]))
        await eventually(lambda: len(executor.answered) > 10, what="some decisions")
        sending = asyncio.create_task(deployment.send_signals(*map(keyed, sent[1_500:])))
        worker.signal(number)
        assert await worker.wait(LIMIT_S) == 0
        await sending
        assert "Traceback" not in worker.text()
        await deployment.started()
        await eventually(lambda: len(executor.answered) == len(sent), timeout_s=60, what="all")
    await deployment.settled()
    decisions = await deployment.decisions()
    assert Counter(content(r)["signal_id"] for r in decisions) == Counter(
        s["signal_id"] for s in sent
    )
    trades = await deployment.kafka.read(topics.trades)
    assert_table(await deployment.table(), fold(decisions, trades), deployment.prefix)


@pytest.mark.parametrize("frozen", ["kafka", "redis", "kafka and redis"])
async def test_a_stop_with_a_frozen_server_ends_in_time(
    deploy_own: Deploy, own_stack: Stack, frozen: str, tmp_path: Path
) -> None:
    """Else the platform kills it in the middle of something."""
    deployment = await deploy_own(META_STRATEGY_STATE_FILE=str(tmp_path / "state.json"))
    worker = await deployment.started()
    await deployment.send_signals(*map(keyed, signals(200, seed=42)))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        records = await tail.count(200)
    # the batch in hand is cut off in its middle
    trades = [keyed(trade_for(content(r))) for r in records]
    await deployment.send_trades(*trades)

    for name in frozen.split(" and "):
        getattr(own_stack, name).pause()
    code, took_s = await worker.terminate(LIMIT_S + 5)

    assert took_s < LIMIT_S
    assert code == 0
    assert "Traceback" not in worker.text()


async def test_a_stop_before_kafka_was_ever_reached_is_clean(deploy_own: Deploy) -> None:
    deployment = await deploy_own()
    worker = deployment.worker(KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    worker.start()
    body = await worker.until_readyz(lambda status, _: status == 503)
    assert any("kafka" in reason.lower() for reason in body["reasons"])
    assert (await worker.get("/healthz"))[0] == 200

    code, took_s = await worker.terminate(LIMIT_S + 5)

    assert (code, took_s < LIMIT_S) == (0, True)
    assert "Traceback" not in worker.text()


async def test_a_stop_while_partitions_are_opening_is_clean(deploy_own: Deploy) -> None:
    deployment = await deploy_own(partitions=8)
    worker = deployment.worker()
    worker.start()
    await worker.until_readyz(lambda _, __: True)

    code, took_s = await worker.terminate(LIMIT_S + 5)

    assert (code, took_s < LIMIT_S) == (0, True)
    assert "Traceback" not in worker.text()


@pytest.mark.timeout(180)
async def test_a_broker_that_dies_under_load_costs_nothing(
    deploy_own: Deploy, own_stack: Stack
) -> None:
    deployment = await deploy_own()
    topics = deployment.topics
    sent = list(signals(1_000, seed=43))
    worker = await deployment.started()
    await deployment.send_signals(*map(keyed, sent))
    async with deployment.kafka.tail(topics.decisions) as tail:
        await tail.count(1)

    own_stack.kafka.kill()
    body = await worker.until_readyz(lambda status, _: status == 503)
    assert body["reasons"]
    await own_stack.kafka.start()

    await worker.wait_ready()
    async with deployment.kafka.tail(topics.decisions) as tail:
        await tail.count(len(sent), timeout_s=60)
    decisions = await deployment.decisions()
    assert Counter(content(r)["signal_id"] for r in decisions) == Counter(
        s["signal_id"] for s in sent
    )
    assert await deployment.dead_letters() == []


# Clients that cannot be stopped in order


def tasks_of_clients() -> set[asyncio.Task[Any]]:
    """Find what runs for consumers and producers in this process, but for their connections."""
    kinds = ("GroupCoordinator", "Fetcher", "Sender", "MessageAccumulator")
    return {
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "").startswith(kinds)
    }


async def a_member(stack: Stack, topic: str) -> AIOKafkaConsumer:
    """Give a consumer that has joined its group."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=stack.bootstrap_servers, group_id=f"{topic}-cut-off"
    )
    await consumer.start()
    await eventually(lambda: bool(consumer.assignment()), what="its partitions")
    return consumer


async def a_sender(stack: Stack, topic: str) -> AIOKafkaProducer:
    """Give a producer in the middle of a transaction."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.bootstrap_servers, transactional_id=f"{topic}-cut-off"
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"first")
    return producer


@pytest.mark.parametrize("what", ["frozen", "dead"])
async def test_a_client_that_is_cut_off_leaves_nothing_running(
    own_stack: Stack, own_kafka: KafkaIo, what: str
) -> None:
    """A heartbeat left behind holds up every rebalance of its group; a fetcher, what it has read."""
    topic = f"cut-off-{uuid.uuid4().hex[:8]}"
    await own_kafka.create(topic, 1)
    before = tasks_of_clients()
    clients: list[Any] = [await a_member(own_stack, topic), await a_sender(own_stack, topic)]
    connections = [*clients[0]._client._conns.values(), *clients[1].client._conns.values()]
    assert len(tasks_of_clients() - before) >= 4
    try:
        if what == "frozen":
            own_stack.kafka.pause()
        else:
            own_stack.kafka.kill()
        sending = await clients[1].send(topic, b"never arrives")

        await asyncio.gather(*(stop_within(client, 0.3) for client in clients))

        assert tasks_of_clients() == before
        assert not any(connection.connected() for connection in connections)
        sending.cancel()
    finally:
        if what == "frozen":
            own_stack.kafka.resume()
        else:
            await own_stack.kafka.start()
