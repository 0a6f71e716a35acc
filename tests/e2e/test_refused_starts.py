"""What would do harm is refused at the start, in one line that names the way out."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from consumer.cli.main import main
from consumer.connection import KafkaConnection
from consumer.stream.groups import commit_offsets
from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import trade_for
from tests.support.kafka_io import content, eventually, keyed
from tests.support.servers import Deployment, Finished

KEEP = {"cleanup.policy": "delete", "retention.ms": "-1"}


def assert_refused(done: Finished, *words: str, code: int = 1) -> None:
    assert done.code == code, done
    assert len(done.own_lines) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.own_lines[0]


async def test_missing_topics(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run("worker")

    assert_refused(done, deployment.topics.signals, "topics create")


@pytest.mark.parametrize("odd", ["signals", "trades", "decisions"])
async def test_partition_counts_that_differ(deploy: Deploy, odd: str) -> None:
    """A symbol's signals and trades would be served by different workers."""
    deployment = await deploy(topics=False)
    for name in ("signals", "trades", "decisions", "dead_letters"):
        count = 3 if name == odd else 2
        keep = KEEP if name in {"trades", "decisions"} else {}
        await deployment.kafka.create(getattr(deployment.topics, name), count, keep)

    done = await deployment.run("worker")

    assert_refused(done, getattr(deployment.topics, odd), "3", "2", "topics")


@pytest.mark.parametrize("topic", ["trades", "decisions"])
async def test_a_memory_that_is_compacted(deploy: Deploy, topic: str) -> None:
    deployment = await deploy(topics=False)
    for name in ("signals", "trades", "decisions", "dead_letters"):
        policy = "compact" if name == topic else "delete"
        await deployment.kafka.create(
            getattr(deployment.topics, name), 2, {"cleanup.policy": policy}
        )

    done = await deployment.run("worker")

    assert_refused(done, getattr(deployment.topics, topic), "compact")


async def learned(deploy: Deploy, **settings: str) -> Deployment:
    """A deployment whose table holds a reward, without a worker."""
    deployment = await deploy(partitions=1, **settings)
    worker = await deployment.started()
    await deployment.send_signals(keyed(make_signal()))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        (record,) = await tail.count(1)
    await deployment.send_trades(keyed(trade_for(content(record))))
    await deployment.settled()
    assert (await worker.terminate())[0] == 0
    return deployment


async def test_a_table_of_other_settings_is_never_mixed(deploy: Deploy) -> None:
    """Each changed setting alone; the same ones are accepted again in the end."""
    deployment = await learned(deploy)
    changes = {
        "META_STRATEGY_ALPHA": ("0.3", "alpha"),
        "META_STRATEGY_REWARD_UNIT": ("risk", "reward_unit"),
        "META_STRATEGY_LEARN_EXCLUDE": ("manual", "exclude"),
        "META_STRATEGY_DECISION_TTL_DAYS": ("3", ""),
        "META_STRATEGY_DEDUPE_WINDOW": ("50", "dedupe"),
        "META_STRATEGY_OPEN_DECISIONS_MAX": ("50", "open"),
    }

    finished = await asyncio.gather(
        *(deployment.run("worker", **{name: value}) for name, (value, _) in changes.items())
    )

    for done, (_, word) in zip(finished, changes.values(), strict=True):
        assert_refused(done, word, "qtable rebuild")
    await deployment.started()


async def test_a_watermark_beyond_the_end_of_the_log(deploy: Deploy) -> None:
    """The topic was made anew: its offsets mean other records."""
    deployment = await learned(deploy)
    await deployment.redis.hset(
        f"{deployment.prefix}:{{0}}:watermark", mapping={"trades": "1000000"}
    )

    done = await deployment.run("worker")

    assert_refused(done, deployment.topics.trades, "1000000", "qtable rebuild")


async def test_signals_that_were_made_anew_are_decided(deploy: Deploy) -> None:
    """The newest decision answers an offset far beyond what the topic holds; the broker forgot the group's."""
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    await deployment.send_signals(*(keyed(make_signal(signal_id=f"old-{n}")) for n in range(9)))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(9)
        await deployment.settled()
        assert (await worker.terminate())[0] == 0
        await deployment.kafka.remove(deployment.topics.signals)
        await deployment.kafka.create(deployment.topics.signals, 1)
        await deployment.send_signals(keyed(make_signal(signal_id="new")))

        await deployment.started()
        *_, decision = await tail.count(10)

    assert content(decision)["signal_id"] == "new"


WRONG = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:abc",
    "META_STRATEGY_EPSILON": "1.5",
    "META_STRATEGY_ALPHA": "0",
    "META_STRATEGY_MIN_SAMPLES": "-1",
    "META_STRATEGY_REWARD_UNIT": "percent",
    "META_STRATEGY_CANDIDATES": "some",
    "META_STRATEGY_LEARN_EXCLUDE": "manual,nonsense",
    "META_STRATEGY_POLICY": "best",
    "META_STRATEGY_PROFILES_FILE": "/does/not/exist.toml",
    "META_STRATEGY_STATE_FILE": "/dev/null",
    "META_STRATEGY_KEY_PREFIX": "{0}",
    "DEFAULT_STRATEGY": "yolo",
    "REGIME_TREND_ADX_THRESHOLD": "nan",
    "KAFKA_PROCESSING_GUARANTEE": "at_most_once",
    "KAFKA_START": "middle",
    "HTTP_PORT": "70000",
    "LOG_FORMAT": "xml",
    "REDIS_URL": "http://localhost",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_ends_with_2_and_one_line_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["meta-strategy", "worker"])
    monkeypatch.setenv(name, WRONG[name])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert name in err


@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.1", "a..b", "2001:db8::1"])
async def test_a_host_that_is_not_this_machine_is_not_put_down_to_the_port(
    deploy: Deploy, host: str
) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run("worker", HTTP_HOST=host, HTTP_PORT="8000")

    assert_refused(done, "HTTP_HOST: cannot listen on ", host)


async def test_a_port_that_is_taken_is_named(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1") as taken:
        port = taken.sockets[0].getsockname()[1]

        done = await deployment.run("worker", HTTP_PORT=str(port))

    assert_refused(done, f"HTTP_PORT: cannot listen on 127.0.0.1:{port}: ", "in use")


async def test_a_wrong_setting_ends_the_process_with_2(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run("worker", META_STRATEGY_EPSILON="1.5")

    assert_refused(done, "META_STRATEGY_EPSILON", "1.5", code=2)


async def test_an_unknown_variable_is_warned_about_with_the_nearest_name(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)

    worker = await deployment.started(META_STRATEGY_EPSILN="0.2", REGIME_HIGH_VOL="0.1")

    warnings = [line["event"] for line in worker.lines() if line["level"] == "warning"]
    assert any(
        "META_STRATEGY_EPSILN" in w
        and "META_STRATEGY_EPSILON" in w.split("META_STRATEGY_EPSILN")[1]
        for w in warnings
    )
    assert any("REGIME_HIGH_VOL" in w and "REGIME_HIGH_VOL_ATR_PCT" in w for w in warnings)


async def test_doctor_warns_about_an_unknown_variable(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)

    done = await deployment.run("doctor", META_STRATEGY_EPSILO="0.3", meta_strategy_alhpa="0.3")

    assert done.code == 0, done
    assert [line for line in done.out.splitlines() if "is no setting" in line] == [
        "warning settings: META_STRATEGY_EPSILO: is no setting; the nearest is META_STRATEGY_EPSILON",
        "warning settings: meta_strategy_alhpa: is no setting; the nearest is META_STRATEGY_ALPHA",
    ]


async def test_an_unknown_variable_in_the_env_file_is_warned_about_too(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    (deployment.directory / ".env").write_text("META_STRATEGY_POLICI=thompson\n")
    warning = "META_STRATEGY_POLICI: is no setting; the nearest is META_STRATEGY_POLICY"

    worker = await deployment.started()
    done = await deployment.run("doctor")

    assert warning in [line["event"] for line in worker.lines() if line["level"] == "warning"]
    assert f"warning settings: {warning}" in done.out.splitlines()


async def test_a_secret_never_appears_in_an_error(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)
    canary = "canary-5e1c"

    for settings in (
        {"REDIS_URL": f"http://user:{canary}@localhost"},
        {"KAFKA_SASL_PASSWORD": canary, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
    ):
        done = await deployment.run("worker", **settings)
        assert_refused(done, code=2)
        assert canary not in done.err + done.out


@contextlib.asynccontextmanager
async def somebody(deployment: Deployment) -> AsyncIterator[AIOKafkaProducer]:
    """A producer whose transactions take their time."""
    producer = AIOKafkaProducer(
        bootstrap_servers=deployment.stack.bootstrap_servers,
        transactional_id=f"{deployment.group}-somebody",
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def test_decisions_that_cannot_be_read_yet_are_waited_for(deploy: Deploy) -> None:
    """A broker acknowledges a transaction before all can read it: a death in between shows for a while."""
    deployment = await deploy(partitions=1)
    async with somebody(deployment) as producer:
        worker = await deployment.started()
        await producer.begin_transaction()
        await producer.send_and_wait(deployment.topics.decisions, b"{}", partition=0)
        await deployment.send_signals(*(keyed(make_signal()) for _ in range(5)))

        async def is_folded() -> bool:
            return int((await deployment.watermark(0)).get("decisions", 0)) > 5

        await eventually(is_folded, what="a table that is ahead of what can be read")
        await worker.terminate()
        worker.start()
        await eventually(
            lambda: "a transaction is open" in worker.text().rpartition("Enabled")[2],
            what="a word of it",
        )
        assert worker.is_running
        await producer.abort_transaction()
        await worker.wait_ready()
    await deployment.send_signals(*(keyed(make_signal()) for _ in range(5)))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(10)
    await deployment.settled()


async def test_input_that_cannot_be_read_yet_is_waited_for(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    log = TopicPartition(deployment.topics.signals, 0)
    await deployment.send_signals(*(keyed(make_signal()) for _ in range(3)))
    async with somebody(deployment) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(log.topic, b"{}", partition=0)
        await deployment.send_signals(*(keyed(make_signal()) for _ in range(3)))
        connection = KafkaConnection(bootstrap_servers=deployment.stack.bootstrap_servers)
        await commit_offsets(connection, deployment.group, {log: 7})

        worker = deployment.worker()
        worker.start()
        await eventually(
            lambda: "a transaction is open before offset 7" in worker.text(), what="a word of it"
        )
        assert worker.is_running
        await producer.abort_transaction()
        await worker.wait_ready()
