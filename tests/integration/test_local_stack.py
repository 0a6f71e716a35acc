"""The local stack carries the demo and all tests of failures: it must start, break and end on command."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import CliRunner
from redis.asyncio import Redis

from consumer.cli.stack import stack as stack_command
from consumer.local.class_archive import ClassArchive
from consumer.local.process import GuardedProcess
from consumer.local.server import free_port
from consumer.local.stack import Stack, StackError, running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


async def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def create_topic(stack: Stack, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def send(stack: Stack, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.bootstrap_servers, transactional_id=f"test-{topic}"
    )
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def committed(stack: Stack, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=stack.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack() as running:
        yield running


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.redis_url, socket_timeout=1.0) as client:
        yield client
    if not stack.redis.is_running:
        await stack.redis.start()


async def test_transactions_run_by_the_rules_of_a_new_cluster(stack: Stack) -> None:
    """`transaction.version` 2 is what a cluster formatted today has; 0 would test other rules."""
    await create_topic(stack, "transactions")

    await send(stack, "transactions", b"one")

    assert await committed(stack, "transactions", 1) == [b"one"]
    log = (stack.logs / "kafka.log").read_text()
    assert "transaction.version=2" in log


async def test_redis_never_evicts_and_appends_to_disk(redis: Redis) -> None:
    """The contract asks for both; the demo must not run on less."""
    assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
    assert (await redis.config_get("appendonly"))["appendonly"] == "yes"
    assert (await redis.config_get("appendfsync"))["appendfsync"] == "everysec"


async def test_a_killed_broker_comes_back_with_its_topics(stack: Stack) -> None:
    await create_topic(stack, "killed")
    await send(stack, "killed", b"before")
    address, pid = stack.bootstrap_servers, stack.kafka.pid

    stack.kafka.kill()
    assert not is_alive(pid)
    assert not stack.kafka.is_running
    await stack.kafka.start()

    assert stack.bootstrap_servers == address
    await send(stack, "killed", b"after")
    assert await committed(stack, "killed", 2) == [b"before", b"after"]


async def test_a_killed_redis_comes_back_with_what_it_wrote(stack: Stack, redis: Redis) -> None:
    await redis.set("kept", "yes")
    await redis.waitaof(1, 0, 5_000)  # else the last second may be gone, as in production
    url = stack.redis_url

    stack.redis.kill()
    await stack.redis.start()

    assert stack.redis_url == url
    await redis.connection_pool.disconnect()
    assert await redis.get("kept") == b"yes"


async def test_a_paused_server_answers_when_resumed(stack: Stack, redis: Redis) -> None:
    stack.redis.pause()
    # a signal arrives when it does: the server may answer once more
    async with asyncio.timeout(10):
        question = asyncio.create_task(redis.ping())
        while (await asyncio.wait({question}, timeout=0.3))[0]:
            question = asyncio.create_task(redis.ping())

    stack.redis.resume()

    assert await question


async def test_a_paused_server_can_be_stopped(stack: Stack, redis: Redis) -> None:
    stack.redis.pause()

    await asyncio.wait_for(stack.redis.stop(), 5)

    assert not stack.redis.is_running
    with pytest.raises(StackError, match="redis does not run"):
        stack.redis.resume()


async def test_redis_is_emptied_on_request(stack: Stack, redis: Redis) -> None:
    await redis.set("flushed", "yes")
    await stack.redis.flush()
    assert await redis.dbsize() == 0

    await redis.set("wiped", "yes")
    await redis.waitaof(1, 0, 5_000)
    await stack.redis.wipe()

    await redis.connection_pool.disconnect()
    assert await redis.dbsize() == 0


async def test_a_directory_keeps_data_and_ports_between_stacks(tmp_path: Path) -> None:
    async with Stack(tmp_path / "run") as first:
        await create_topic(first, "kept")
        await send(first, "kept", b"value")
        async with Redis.from_url(first.redis_url) as client:
            await client.set("kept", "yes")
        kafka_port, redis_port = first.kafka.port, first.redis.port

    second = Stack(tmp_path / "run", kafka_port=kafka_port, redis_port=redis_port)
    async with second:
        assert second.bootstrap_servers == f"127.0.0.1:{kafka_port}"
        assert await committed(second, "kept", 1) == [b"value"]
        async with Redis.from_url(second.redis_url) as client:
            assert await client.get("kept") == b"yes"
        with pytest.raises(StackError, match="another stack runs in"):
            await Stack(tmp_path / "run").start()
    assert (tmp_path / "run" / "logs" / "kafka.log").exists()


async def test_a_temporary_directory_is_removed() -> None:
    stack = Stack(bootstrap_servers="elsewhere:9092")
    async with stack:
        directory, port = stack.directory, stack.redis.port
        assert (stack.logs / "redis.log").exists()

    assert not directory.exists()
    assert not is_open(port)


async def test_a_port_in_use_is_named(stack: Stack) -> None:
    other = Stack(redis_port=stack.redis.port, bootstrap_servers="elsewhere:9092")

    with pytest.raises(StackError, match=f"port {stack.redis.port} is in use"):
        await other.start()


async def test_a_port_lost_in_between_is_replaced(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a port and listening on it, a stack beside this one may take it."""
    ports = iter([stack.redis.port, stack.redis.port, free_port()])
    monkeypatch.setattr("consumer.local.server.free_port", lambda: next(ports))

    async with Stack(bootstrap_servers="elsewhere:9092") as other:
        assert other.redis.port != stack.redis.port
        assert other.redis.pid != stack.redis.pid


async def test_a_server_that_ends_at_start_shows_its_log(tmp_path: Path) -> None:
    data = tmp_path / "redis" / "data" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(StackError, match=r"redis ended with exit code 1; the end of") as caught:
        await Stack(tmp_path, bootstrap_servers="elsewhere:9092").start()

    assert "manifest" in str(caught.value)


async def test_servers_of_the_environment_are_used_and_left_alone(stack: Stack) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers, "REDIS_URL": stack.redis_url}

    async with running_stack(environ=environ) as other:
        assert other.is_external
        assert other.bootstrap_servers == stack.bootstrap_servers
        assert other.redis_url == stack.redis_url
        with pytest.raises(StackError, match="started no Redis server"):
            await other.redis.flush()
        with pytest.raises(StackError, match="started no Kafka broker"):
            other.kafka.kill()

    assert stack.kafka.is_running
    assert stack.redis.is_running


async def test_only_what_the_environment_lacks_is_started(stack: Stack) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers}

    async with running_stack(environ=environ) as other:
        assert not other.is_external
        assert other.bootstrap_servers == stack.bootstrap_servers
        assert other.redis.port != stack.redis.port


class FakeJava:
    """Stands in for the JVM that makes a class archive: `script` gets the draft's path as $draft."""

    def __init__(self, home: Path, script: str) -> None:
        self.path = home / "bin" / "java"
        self.path.parent.mkdir(parents=True)
        (home / "lib").mkdir()
        (home / "lib" / "modules").touch()
        find_draft = "for word; do draft=${word#-XX:SharedArchiveFile=}; done"
        self.path.write_text(f"#!/bin/sh\n{find_draft}\n{script}\n")
        self.path.chmod(0o755)


async def test_the_class_archive_is_made_once_and_then_used(tmp_path: Path) -> None:
    java = FakeJava(tmp_path / "java", 'echo archive > "$draft"')
    class_list = tmp_path / "classes.lst"
    archive = ClassArchive(tmp_path, java.path, [])
    assert archive.flags(class_list) == [f"-XX:DumpLoadedClassList={class_list}"]
    class_list.write_text("java/lang/Object\njava/lang/Str")

    archive.train(class_list, ["-Xmx1m"])

    await eventually(lambda: bool(list(tmp_path.glob("*.jsa"))))
    (made,) = tmp_path.glob("*.jsa")
    assert made.read_text() == "archive\n"
    assert class_list.with_suffix(".training").read_text() == "java/lang/Object\n"
    assert archive.flags(class_list) == [f"-XX:SharedArchiveFile={made}"]
    archive.abandon()


async def test_an_unfinished_class_archive_is_never_used(tmp_path: Path) -> None:
    """A JVM that maps half an archive may crash."""
    java = FakeJava(tmp_path / "java", 'echo half > "$draft"; kill -STOP $$')
    class_list = tmp_path / "classes.lst"
    class_list.write_text("java/lang/Object\n")
    archive = ClassArchive(tmp_path, java.path, [])
    archive.train(class_list, [])
    await eventually(lambda: bool(list(tmp_path.glob("*.draft"))))

    archive.abandon()

    assert archive.flags(class_list) == [f"-XX:DumpLoadedClassList={class_list}"]


SCRIPT = """
import asyncio, pathlib, sys
from consumer.local.stack import Stack

async def main():
    async with Stack(pathlib.Path(sys.argv[1])) as stack:
        print(stack.kafka.port, stack.redis.port, stack.kafka.pid, stack.redis.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """A test run that is killed leaves no broker behind, which no handler of ours could see to."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        line = await asyncio.to_thread(owner.stdout.readline)
        kafka_port, redis_port, kafka_pid, redis_pid = map(int, line.split())
        assert is_open(kafka_port)
        os.kill(kafka_pid, signal.SIGSTOP)  # and not even then

        owner.kill()

    await eventually(lambda: not (is_open(kafka_port) or is_open(redis_port)))
    await eventually(lambda: not (is_alive(kafka_pid) or is_alive(redis_pid)))


async def test_stack_up_prints_the_environment_and_stops_on_sigterm(tmp_path: Path) -> None:
    code = "from consumer.cli.stack import stack; stack()"
    command = [sys.executable, "-c", code, "up", "--dir", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(3)]

        process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(process.wait, 15) == 0
    names = [line.partition("=")[0] for line in lines[:2]]
    assert names == ["export KAFKA_BOOTSTRAP_SERVERS", "export REDIS_URL"]
    assert str(tmp_path / "run" / "logs") in lines[2]
    assert not is_open(int(lines[0].rpartition(":")[2]))


def test_stack_up_says_in_lines_what_is_wrong(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = CliRunner().invoke(
            stack_command, ["up", "--dir", str(tmp_path), "--redis-port", str(port)]
        )

    assert result.exit_code == 1
    assert result.output == f"error: redis: port {port} is in use\n"


async def test_what_was_killed_before_it_told_its_process_id_is_gone(tmp_path: Path) -> None:
    """A guard that fails to tell it must not leave its command behind, unguarded."""
    mark = f"sleep 31.{os.getpid()}"
    process = GuardedProcess(["bash", "-c", f"{mark} & wait"], cwd=tmp_path, log=tmp_path / "log")

    process.kill()

    # the guard starts its command after that: it has to end it, too
    left = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    assert left.stdout == ""
    assert (tmp_path / "log").read_text() == ""
