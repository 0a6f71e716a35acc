"""A Kafka and a Redis that are set up by the files of `deploy/`."""

import asyncio
import os
import shutil
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from redis.asyncio import Redis

from consumer.local.kafka import KafkaBroker, default_cache
from consumer.local.redis_server import RedisServer, find_binary
from consumer.local.server import HOST, free_port
from tests.support.kafka_io import eventually
from tests.support.servers import REPOSITORY

SECRET = "canary-secret"  # noqa: S105  it is none
"""Part of every password: it may appear in nothing that anybody reads."""
KAFKA_FILES = REPOSITORY / "deploy" / "kafka"
REDIS_FILES = REPOSITORY / "deploy" / "redis"


def run_script(script: Path, *arguments: str, path: Path | None = None) -> str:
    """Run a script of `deploy/` to its end, and give what it wrote."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script.name}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def plant_passwords(directory: Path, *users: str) -> None:
    """Choose passwords that are found wherever they leak; the scripts take what is there."""
    directory.mkdir(parents=True, exist_ok=True)
    for user in users:
        (directory / f"{user}.password").write_text(f"{SECRET}-{user}-{uuid.uuid4().hex}\n")


class SecuredKafka(KafkaBroker):
    """The local broker with `deploy/kafka/server.properties` laid over its own settings."""

    ports_needed: ClassVar[int] = 3  # clients, controller, brokers

    def __init__(self, directory: Path, log: Path, secrets: Path) -> None:
        super().__init__(directory, log, cache=default_cache())
        self._secrets = secrets

    @property
    def brokers_address(self) -> str:
        """The listener for brokers and for whoever makes users and rules."""
        return f"{HOST}:{self._ports[2]}"

    def deployed(self, name: str) -> str:
        """Give a file of `deploy/kafka` with this broker's addresses and directories."""
        port, controller_port, brokers_port = self._ports
        text = (KAFKA_FILES / name).read_text()
        for host in ("0.0.0.0", "kafka"):  # noqa: S104  what the file says
            for named, own in (("9093", port), ("9094", brokers_port), ("9095", controller_port)):
                text = text.replace(f"{host}:{named}", f"{HOST}:{own}")
        text = text.replace("/var/lib/kafka/data", str(self._data))
        return text.replace("/etc/kafka/secrets", str(self._secrets))

    def _properties(self) -> str:
        return super()._properties() + self.deployed("server.properties")

    @property
    def _client_options(self) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=str(self._secrets / "ca.crt"))
        context.load_cert_chain(self._secrets / "kafka.pem")
        return {
            "bootstrap_servers": self.brokers_address,
            "security_protocol": "SSL",
            "ssl_context": context,
        }


def find_tls_server() -> Path | None:
    """Find a Redis-protocol server of the machine that was built with TLS."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) and b"libssl" in Path(found).read_bytes():
            return Path(found)
    return None


def write_redis_users(directory: Path, address: str) -> None:
    """Make the users by their script, and one besides for the tests' own questions."""
    plant_passwords(directory, "worker", "operator", "dashboards")
    run_script(REDIS_FILES / "users.sh", str(directory), address)
    (directory / "admin.password").write_text("admin")
    with (directory / "users.acl").open("a") as rules:
        rules.write("user admin on >admin ~* &* +@all\n")


class SecuredRedis(RedisServer):
    """The local server with `deploy/redis/redis.conf` and its users.

    The server of the wheel was built without TLS: it listens on a plain port of loopback, and
    `TlsFront` stands before it, with the same certificate. `tls.conf` is read by a server that was
    built with it.

    Args:
        directory: Where it keeps configuration and data.
        log: File its output is appended to.
        users: Directory of `users.acl` and the passwords.
        more: Further lines of its configuration.
        program: A server with TLS; the wheel's, without, when None.
        certificates: For TLS.
    """

    def __init__(
        self,
        directory: Path,
        log: Path,
        users: Path,
        *,
        more: str = "",
        program: Path | None = None,
        certificates: Path | None = None,
    ) -> None:
        super().__init__(directory, log)
        self._users = users
        self._more = more
        self._program = program
        self._certificates = certificates

    @property
    def _admin_url(self) -> str:
        password = (self._users / "admin.password").read_text()
        if self._program is None:
            return f"redis://admin:{password}@{self.address}/0"
        query = f"?ssl_ca_certs={self._certificates}/ca.crt"
        return f"rediss://admin:{password}@{self.address}/0{query}"

    def admin_client(self) -> Redis:
        """Give a client that may do everything; the users' rules are not asked."""
        return Redis.from_url(self._admin_url, decode_responses=True)

    def _command(self) -> list[str]:
        self._data.mkdir(parents=True, exist_ok=True)
        listening = f"port {self.port}\nbind {HOST}"
        if self._program is not None:
            tls = (REDIS_FILES / "tls.conf").read_text()
            tls = tls.replace("tls-port 6379", f"tls-port {self.port}")
            (self.directory / "tls.conf").write_text(
                tls.replace("/etc/redis/tls", str(self._certificates))
            )
            listening = f"include {self.directory}/tls.conf\nbind {HOST}"
        text = (REDIS_FILES / "redis.conf").read_text()
        text = text.replace("include /etc/redis/tls.conf", f"{listening}\n{self._more}")
        text = text.replace("/etc/redis", str(self._users))
        config = self.directory / "redis.conf"
        config.write_text(text.replace("dir /data", f"dir {self._data}"))
        return [str(self._program or find_binary()), str(config)]


class TlsFront:
    """Takes TLS connections and passes what they say on to a plain port."""

    def __init__(self, certificates: Path, name: str, target_port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        self._target_port = target_port
        self._open: set[asyncio.StreamWriter] = set()
        self.port = free_port()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(HOST, self._target_port)
        self._open |= {writer, target_writer}

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while content := await source.read(65_536):
                    target.write(content)
                    await target.drain()
            target.close()

        await asyncio.gather(pass_on(reader, target_writer), pass_on(target_reader, writer))
        self._open -= {writer, target_writer}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the end of the block."""
        server = await asyncio.start_server(self._serve, HOST, self.port, ssl=self._context)
        try:
            yield
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()
            await eventually(lambda: not self._open, what="all connections closed")
