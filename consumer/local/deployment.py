"""Where a demo run works: names of its own on servers that are shared, the contract's on its own."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient

import consumer
from consumer.connection import KafkaConnection
from consumer.local.paper_executor import Topics
from consumer.local.paper_signals import ACCOUNT
from consumer.local.server import HOST, free_port
from consumer.local.table_reader import TableReader

if TYPE_CHECKING:
    from consumer.local.stack import Stack

_GUARANTEE = "KAFKA_PROCESSING_GUARANTEE"

# What would make a demo read, change or depend on more than it has put there itself.
_NOT_PASSED_ON = (
    "KAFKA_CANDLES_TOPIC",
    "KAFKA_START",
    "META_STRATEGY_KEY_PREFIX",
    "META_STRATEGY_LEARN_EXCLUDE",
    "META_STRATEGY_MAX_SIGNAL_AGE_S",
    "META_STRATEGY_STATE_FILE",
)


class Deployment:
    """Topics, keys, group and port of one demo run, and the environment of its processes.

    Args:
        stack: The running servers. When the environment names one of them, somebody else may be
            using it, too: all names then carry an id that no other run has.

    Raises:
        SettingsError: A variable that tells how to reach the servers is wrong.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._own_kafka = not os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        self._own_redis = not os.environ.get("REDIS_URL")
        run = f"demo-{secrets.token_hex(4)}"
        mark = f"{run}-" if self.is_shared else ""
        names = Topics()
        self.topics = Topics(
            signals=mark + names.signals,
            trade_closed=mark + names.trade_closed,
            decisions=mark + names.decisions,
            dead_letters=mark + names.dead_letters,
        )
        self.group = f"{mark}meta-strategy"
        self.key_prefix = f"{mark}ms"
        self.port = free_port()
        self.repeats_allowed = os.environ.get(_GUARANTEE) == "at_least_once"
        self.connection = KafkaConnection(bootstrap_servers=stack.bootstrap_servers)
        self._is_cluster = False
        if self.is_shared:
            from consumer import settings  # loads for a second; own servers need none

            loaded = settings.load()
            self.connection = self.connection if self._own_kafka else loaded.connection
            self._is_cluster = loaded.redis_cluster and not self._own_redis

    @property
    def is_shared(self) -> bool:
        """Whether a server may hold what is not of this run."""
        return not (self._own_kafka and self._own_redis)

    @property
    def page_url(self) -> str:
        """Where the worker shows its page."""
        return f"http://{HOST}:{self.port}/"

    @property
    def cwd(self) -> Path:
        """Where processes run: away from a .env file that speaks of other servers."""
        return Path.cwd() if self.is_shared else self._stack.directory

    def table(self) -> TableReader:
        """Make a reader of this run's table."""
        return TableReader(
            self._stack.redis_url, self.key_prefix, ACCOUNT, is_cluster=self._is_cluster
        )

    def command(self, *arguments: str) -> list[str]:
        """Give a command line of this package with the environment it is to see.

        Nothing secret is on it: what the environment holds stays there.
        """
        return [
            "env",
            *(part for name in self._unset() for part in ("-u", name)),
            *(f"{name}={value}" for name, value in self._values().items()),
            sys.executable,
            "-m",
            "consumer.cli.main",
            *arguments,
        ]

    async def remove(self) -> None:
        """Delete this run's topics and keys; the broker forgets the empty group by itself."""
        topics = self.topics
        admin = AIOKafkaAdminClient(**self.connection.options())
        try:
            await admin.start()
            await admin.delete_topics(
                [topics.signals, topics.trade_closed, topics.decisions, topics.dead_letters]
            )
        finally:
            await admin.close()
        async with self.table() as table:
            await table.remove()

    def _unset(self) -> list[str]:
        """Name what would lead processes to other servers or to other data."""
        own = (["KAFKA_"] if self._own_kafka else []) + (["REDIS_"] if self._own_redis else [])
        return [
            *_NOT_PASSED_ON,
            *(n for n in os.environ if n.startswith(tuple(own)) and n != _GUARANTEE),
        ]

    def _values(self) -> dict[str, str]:
        values = {
            "KAFKA_GROUP_ID": self.group,
            "KAFKA_SIGNALS_TOPIC": self.topics.signals,
            "KAFKA_TRADE_CLOSED_TOPIC": self.topics.trade_closed,
            "KAFKA_DECISIONS_TOPIC": self.topics.decisions,
            "KAFKA_DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "META_STRATEGY_KEY_PREFIX": self.key_prefix,
            "HTTP_HOST": HOST,
            "HTTP_PORT": str(self.port),
            "LOG_FORMAT": "json",
            "PYTHONPATH": _package_path(),
        }
        if self._own_kafka:
            values["KAFKA_BOOTSTRAP_SERVERS"] = self._stack.bootstrap_servers
        if self._own_redis:
            values["REDIS_URL"] = self._stack.redis_url
        if profiles := os.environ.get("META_STRATEGY_PROFILES_FILE"):
            values["META_STRATEGY_PROFILES_FILE"] = str(Path(profiles).absolute())
        return values


def _package_path() -> str:
    """Let processes find this very package, also when they run in another directory."""
    here = str(Path(consumer.__file__).absolute().parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
