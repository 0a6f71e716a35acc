"""What must not stop a worker, and what must end it: servers away, slow commits, bombs, a stuck loop."""

import asyncio
import hashlib
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from consumer.local.process import GuardedProcess
from consumer.local.stack import Stack
from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import signals
from tests.support.kafka_io import Out, content, eventually, headers_of, keyed
from tests.support.raw_batches import GZIP, raw_batch, send_raw
from tests.support.servers import Deployment, WorkerProcess
from tests.support.stuck_worker import STUCK

KEY = b"BTCUSDT"
MEGABYTE = 1 << 20


async def answered_once(deployment: Deployment, ids: list[str]) -> None:
    """Wait until each signal has its decision, and none has two."""
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(len(ids), timeout_s=90)
    await deployment.settled()
    found = Counter(content(r)["signal_id"] for r in await deployment.decisions())
    assert found == Counter(ids)


# Servers


@pytest.mark.timeout(180)
async def test_a_worker_that_starts_before_its_servers_serves_when_they_come(
    deploy_own: Deploy, own_stack: Stack
) -> None:
    deployment = await deploy_own(partitions=1)
    sent = list(signals(20, seed=61))
    await deployment.send_signals(*map(keyed, sent))
    own_stack.kafka.kill()
    own_stack.redis.kill()
    worker = deployment.worker()
    worker.start()

    body = await worker.until_readyz(lambda status, _: status == 503)
    assert any("kafka" in reason for reason in body["reasons"])
    assert (await worker.get("/healthz"))[0] == 200
    await own_stack.kafka.start()
    await worker.until_readyz(lambda _, body: "redis" in str(body.get("reasons")))
    await own_stack.redis.start()

    await worker.wait_ready()
    await answered_once(deployment, [s["signal_id"] for s in sent])
    assert "Traceback" not in worker.text()


@pytest.mark.timeout(180)
async def test_a_broker_that_refuses_commits_for_a_while_costs_nothing(
    deploy_own: Deploy,
) -> None:
    """Whatever its error is: here an operator's mistake, set right while the worker tries again."""
    deployment = await deploy_own(partitions=1)
    worker = await deployment.started()
    sent = list(signals(60, seed=62))
    await deployment.send_signals(*map(keyed, sent[:20]))
    await answered_once(deployment, [s["signal_id"] for s in sent[:20]])

    await set_config(deployment, deployment.topics.decisions, "max.message.bytes", "100")
    await deployment.send_signals(*map(keyed, sent[20:]))
    await worker.until_metric(
        lambda m: m.value("meta_strategy_transactions_total", outcome="failed") >= 1
    )
    assert len(await deployment.decisions()) == 20
    await set_config(deployment, deployment.topics.decisions, "max.message.bytes", "1048588")

    await answered_once(deployment, [s["signal_id"] for s in sent])
    assert worker.is_running
    assert await deployment.dead_letters() == []


async def set_config(deployment: Deployment, topic: str, name: str, value: str) -> None:
    """Set one setting of a topic; all others get their defaults."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
    await deployment.kafka.admin.alter_configs([resource])


@pytest.mark.timeout(180)
async def test_a_slow_commit_makes_a_new_owner_and_costs_nothing(
    deploy_own: Deploy, own_stack: Stack
) -> None:
    """A delayed request of the old one could decide a later transaction of it (KAFKA-17754)."""
    deployment = await deploy_own(partitions=1)
    worker = await deployment.started()
    first = await owner(deployment)
    ids: list[str] = []

    async def is_replaced() -> bool:
        """Freeze the broker for longer than a commit may take; by chance one is under way."""
        part = list(signals(300, seed=700 + len(ids)))
        ids.extend(s["signal_id"] for s in part)
        sending = asyncio.create_task(deployment.send_signals(*map(keyed, part)))
        await asyncio.sleep(0.05)
        own_stack.kafka.pause()
        await asyncio.sleep(1.5)  # the fault itself
        own_stack.kafka.resume()
        await sending
        await answered_once(deployment, ids)
        return await owner(deployment) != first

    await eventually(is_replaced, timeout_s=90, what="another owner beside the offsets")
    metrics = await worker.metrics()
    assert metrics.value("meta_strategy_transactions_total", outcome="failed") == 0
    assert metrics.value("meta_strategy_fenced_total") == 0
    assert await deployment.dead_letters() == []


async def owner(deployment: Deployment) -> str:
    """Read who committed last."""
    offsets = await deployment.kafka.admin.list_consumer_group_offsets(deployment.group)
    (found,) = {entry.metadata for entry in offsets.values() if entry.metadata}
    return str(found)


# Bombs


@pytest.mark.timeout(180)
async def test_a_record_that_unpacks_to_200_mb_is_a_dead_letter(deploy: Deploy) -> None:
    """The broker's limit is on what is packed. What bounds the memory: one record of a fetch."""
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    bomb = b"0" * (200 * 1000 * 1000)
    packed = raw_batch([(KEY, bomb, [])], compression=GZIP)
    assert len(packed) < MEGABYTE

    place = TopicPartition(deployment.topics.signals, 0)
    await send_raw(deployment.stack.bootstrap_servers, place, packed)
    await deployment.send_signals(keyed(make_signal(signal_id="behind it")))

    await answered_once(deployment, ["behind it"])
    (letter,) = await deployment.dead_letters()
    said = headers_of(letter, "dlq.")
    assert (said["dlq.reason"], said["dlq.offset"]) == ("too_large", "0")
    assert said["dlq.sha256"] == hashlib.sha256(bomb).hexdigest()
    assert letter.value == bomb[: 64 * 1024]
    assert peak_mib(worker) < MEMORY_LIMIT_MIB


MEMORY_LIMIT_MIB = 512
"""The container's limit (deploy/kubernetes): twice the record, and the worker itself."""


@pytest.mark.timeout(180)
async def test_a_batch_of_countless_empty_records_does_not_fill_the_memory(
    deploy: Deploy,
) -> None:
    """Each one a dead letter; they are unpacked as they are worked off."""
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    # the batch claims to be of 1970: the broker would delete it at its next look
    await set_config(deployment, deployment.topics.signals, "retention.ms", "-1")
    count = 100_000
    packed = raw_batch([(None, b"", [])] * count, compression=GZIP)
    assert len(packed) < MEGABYTE

    place = TopicPartition(deployment.topics.signals, 0)
    await send_raw(deployment.stack.bootstrap_servers, place, packed)
    await deployment.send_signals(keyed(make_signal(signal_id="behind them")))

    await answered_once(deployment, ["behind them"])
    # the records, not the metric: a commit that is slower than the limit is visible and not counted
    assert len(await deployment.dead_letters()) == count
    assert peak_mib(worker) < MEMORY_LIMIT_MIB


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
async def test_records_of_any_compression_are_read(deploy: Deploy, codec: str) -> None:
    """It is the producer's choice, or the broker's as here; one such record stops a whole worker."""
    deployment = await deploy(partitions=1)
    await set_config(deployment, deployment.topics.signals, "compression.type", codec)
    await deployment.started()

    await deployment.send_signals(keyed(make_signal(signal_id="packed")))

    await answered_once(deployment, ["packed"])


def peak_mib(worker: WorkerProcess) -> int:
    """Give the most memory that a worker ever had [MiB]."""
    assert worker._process is not None
    status = Path(f"/proc/{worker._process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here: memory is not measured")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024


# A flood


@pytest.mark.timeout(180)
async def test_a_flood_of_poison_holds_no_other_partition_up(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2)
    await deployment.started()
    count = 20_000
    flood = [Out(value=b"\xff" * 500, key=KEY, partition=0)] * count

    sending = asyncio.create_task(deployment.send_signals(*flood))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        for number in range(1, 4):
            calm = make_signal(symbol="ETHUSDT", signal_id=f"calm-{number}")
            await deployment.send_signals(keyed(calm, partition=1))
            await tail.count(number)
            done = await deployment.kafka.committed(deployment.group, deployment.topics.signals)
            assert done.get(0, 0) < count, "the flood was over first: it has to be a larger one"
    await sending

    await deployment.settled()
    places = Counter(headers_of(letter)["dlq.offset"] for letter in await deployment.dead_letters())
    assert len(places) == count
    assert set(places.values()) == {1}


# A worker that is stuck


class StuckWorker(WorkerProcess):
    """A worker that gets stuck at SIGUSR1."""

    kind = ""

    def start(self) -> None:
        """Start it; nothing is waited for."""
        environment = [f"{k}={v}" for k, v in self.environment.items()]
        program = [sys.executable, "-m", "tests.support.stuck_worker", self.kind]
        self._process = GuardedProcess(
            ["env", "-i", *environment, *program], cwd=self._directory, log=self.log
        )


async def stuck_worker(deployment: Deployment, kind: str) -> StuckWorker:
    """Start one and let it get stuck after its first decision."""
    worker = StuckWorker(deployment.environment(), deployment.directory, f"stuck in {kind}")
    worker.kind = kind
    deployment.workers.append(worker)
    worker.start()
    await worker.wait_ready()
    await deployment.send_signals(keyed(make_signal(signal_id="before")))
    await answered_once(deployment, ["before"])
    worker.signal(signal.SIGUSR1)
    # two signals that wait are heard in the order of their numbers, the second one after the first
    await eventually(lambda: STUCK in worker.text(), what="a stuck worker")
    return worker


@pytest.mark.parametrize("kind", ["loop", "reading"])
async def test_a_stuck_worker_is_ended_and_its_successor_goes_on(deploy: Deploy, kind: str) -> None:
    """The client can be stuck without an error, and then nobody else gets its partitions."""
    deployment = await deploy(partitions=1)
    worker = await stuck_worker(deployment, kind)
    await deployment.send_signals(keyed(make_signal(signal_id="after")))

    assert await worker.wait(60) == 1

    assert "no progress" in worker.text()
    await deployment.started()
    await answered_once(deployment, ["before", "after"])


async def test_a_worker_with_nothing_to_do_is_left_alone(deploy: Deploy) -> None:
    """It makes no progress either; twice the limit does not end it."""
    deployment = await deploy(partitions=1)
    worker = await stuck_worker(deployment, "reading")  # and nothing comes to be read

    with pytest.raises(AssertionError, match="still runs"):
        await worker.wait(8)


async def test_a_stop_with_a_stuck_loop_ends_in_time(deploy: Deploy) -> None:
    """By a thread: the loop does not even hear of the signal."""
    deployment = await deploy(partitions=1)
    worker = await stuck_worker(deployment, "patient loop")

    code, took_s = await worker.terminate(15)

    assert code == 1
    assert took_s < 10
