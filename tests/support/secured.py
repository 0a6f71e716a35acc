"""A deployment with users and rules: both servers, and processes of the product that use them."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from consumer.connection import KafkaConnection
from consumer.local.class_archive import ClassArchive
from consumer.local.jars import Jar, ensure_jars
from consumer.local.kafka import _JVM_FLAGS, default_cache, find_java
from consumer.local.server import HOST, free_port
from tests.support.kafka_io import KafkaIo
from tests.support.secured_servers import (
    KAFKA_FILES,
    SECRET,
    SecuredKafka,
    SecuredRedis,
    TlsFront,
    plant_passwords,
    run_script,
    write_redis_users,
)
from tests.support.servers import REPOSITORY, Finished, WorkerProcess, run_command

PARTITIONS = 2

# kafka-acls.sh; the broker itself does not need it
_TOOLS = Jar(
    "org.apache.kafka:kafka-tools:4.3.0",
    "b88bc6ccc520d648142515526e4042c285612ce94b032434a88e3e936e38b600",
)
_COMMANDS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}


class Secured:
    """Both servers with their users, and processes of the product that use them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificates = directory / "certificates"
        self.kafka_users = directory / "kafka-users"
        self.redis_users = directory / "redis-users"
        self.kafka = SecuredKafka(directory / "kafka", directory / "kafka.log", self.certificates)
        self.redis = SecuredRedis(directory / "redis", directory / "redis.log", self.redis_users)
        self.front: TlsFront
        self._workers = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Secured"]:
        """Make certificates, start the servers, and make users and rules by the scripts."""
        for name in ("kafka", "redis"):
            run_script(KAFKA_FILES / "certificates.sh", str(self.certificates), name, HOST)
        # another authority, which nobody here trusts
        run_script(KAFKA_FILES / "certificates.sh", str(self.directory / "other"), "kafka", HOST)
        try:
            await self.kafka.start()
            await asyncio.gather(self._make_kafka_users(), self._start_redis())
            async with self.front.running():
                done = await self.run(
                    "topics", "create", "--partitions", str(PARTITIONS), user="operator"
                )
                assert done.code == 0, done
                yield self
        finally:
            await asyncio.gather(self.kafka.stop(), self.redis.stop())

    async def _make_kafka_users(self) -> None:
        path = self.directory / "bin"
        path.mkdir()
        broker_jars = await asyncio.to_thread(ensure_jars, default_cache())
        tools_jars = await asyncio.to_thread(ensure_jars, default_cache(), jars=[_TOOLS])
        # the broker's classes, mapped: a command takes a third of the time
        archive = ClassArchive(default_cache(), find_java(), broker_jars)
        java = [
            str(find_java()),
            *_JVM_FLAGS,
            *archive.flags(self.directory / "classes.lst"),
            *("-cp", os.pathsep.join(map(str, [*broker_jars, *tools_jars]))),
        ]
        for name, java_class in _COMMANDS.items():
            command = path / name
            command.write_text(f'#!/bin/sh\nexec {shlex.join(java)} {java_class} "$@"\n')
            command.chmod(0o755)
        admin = self.directory / "admin.properties"
        admin.write_text(self.kafka.deployed("admin.properties"))
        plant_passwords(self.kafka_users, "executor", "selector", "router", "operator")
        server = self.kafka.brokers_address
        users = (server, str(self.kafka_users), str(admin))
        await asyncio.gather(
            asyncio.to_thread(run_script, KAFKA_FILES / "users.sh", *users, path=path),
            asyncio.to_thread(run_script, KAFKA_FILES / "acls.sh", server, str(admin), path=path),
        )

    async def _start_redis(self) -> None:
        front_port = free_port()
        write_redis_users(self.redis_users, f"{HOST}:{front_port}")
        await self.redis.start()
        self.front = TlsFront(self.certificates, "redis", self.redis.port)
        self.front.port = front_port

    # Who uses them

    def password(self, user: str) -> str:
        """Give the password of a Kafka user."""
        return (self.kafka_users / f"{user}.password").read_text().strip()

    def connection(self, user: str, **changes: Any) -> KafkaConnection:
        """Say how a Kafka user connects."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka.address,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": self.password(user),
            "ssl_cafile": str(self.certificates / "ca.crt"),
        }
        return KafkaConnection(**(options | changes))

    def clients(self, user: str, *, writes: bool = False) -> KafkaIo:
        """Give the clients of a Kafka user."""
        return KafkaIo(writes=writes, **self.connection(user).options())

    def redis_client(self) -> Redis:
        """Give a client that may do everything."""
        return self.redis.admin_client()

    def redis_url(self, user: str) -> str:
        """Give the URL that a Redis user connects by."""
        url = (self.redis_users / f"{user}.url").read_text().strip()
        return f"{url}?ssl_ca_certs={self.certificates / 'ca.crt'}"

    def environment(self, user: str, **settings: str) -> dict[str, str]:
        """Give the environment of a process that runs as a user of both, secrets from files."""
        redis_user = {"selector": "worker"}.get(user, user)
        url_file = self.directory / f"{redis_user}.url"
        url_file.write_text(self.redis_url(redis_user) + "\n")
        own = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.address,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(self.kafka_users / f"{user}.password"),
            "KAFKA_SSL_CAFILE": str(self.certificates / "ca.crt"),
            "KAFKA_POOL_TOPIC": "strategy-pool",
            "REDIS_URL_FILE": str(url_file),
            "HTTP_PORT": str(free_port()),
            "LOG_FORMAT": "json",
        }
        changed = own | settings
        return {name: value for name, value in changed.items() if value}

    def worker(self, user: str = "selector", **settings: str) -> WorkerProcess:
        """Describe a worker; an empty setting is left out."""
        self._workers += 1
        name = f"secured-worker-{self._workers}"
        return WorkerProcess(self.environment(user, **settings), self.directory, name)

    async def run(self, *arguments: str, user: str = "selector", **settings: str) -> Finished:
        """Run a command of the product to its end; it must keep all secrets to itself."""
        environment = self.environment(user, **settings)
        done = await run_command(arguments, environment, self.directory)
        assert SECRET not in done.out + done.err, arguments
        return done


@asynccontextmanager
async def serving(worker: WorkerProcess) -> AsyncIterator[WorkerProcess]:
    """Run a worker for the length of a block; it must keep all secrets to itself."""
    worker.start()
    try:
        await worker.wait_ready()
        yield worker
        assert SECRET not in worker.text()
    except BaseException:
        print(worker.tail())
        raise
    finally:
        worker.kill()
