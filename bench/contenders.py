"""Who is measured: the worker and its variants, the plain worker, the floor, and the peers."""

import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from consumer.settings import Settings

ROOT = Path(__file__).parent.parent
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""Interpreter of the bench environment, made by `make bench` when peers are asked for."""

NATIVE = ROOT / "build" / "native"
"""This tree with its hot modules compiled, made by `make bench` where there is a C compiler."""
IS_COMPILED = any(NATIVE.glob("consumer__mypyc.*"))

EXACTLY_ONCE = "exactly once"
AT_LEAST_ONCE = "at least once"


class Contender(NamedTuple):
    """One way to do the job."""

    name: str
    title: str
    arguments: Sequence[str]
    """Of the Python interpreter."""
    guarantee: str
    package: str = ""
    """Library of the bench environment that it is built on; empty for the worker's environment."""
    remark: str = ""
    """What is different about it."""
    environment: Mapping[str, str] = {}
    """Settings on top of those that all get."""
    decides: bool = True
    """Whether its records are decisions, to be judged."""
    commits: bool = True
    """Whether it commits offsets to its group; else its progress is seen by what it wrote."""
    share: float = 1.0
    """Of a backlog that it gets: a slow one need not take minutes."""

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(PEER_PYTHON) if self.package else sys.executable

    @property
    def module(self) -> str:
        """The module that is run, for a profile of it."""
        return self.arguments[1]


_WORKER = ("-m", "consumer.cli.main", "worker")
_SHIPPED = {"PYTHONPATH": str(NATIVE)} if IS_COMPILED else {}
"""As an image has it: compiled."""

WORKER = Contender(
    "worker",
    "this worker",
    _WORKER,
    EXACTLY_ONCE,
    remark="" if IS_COMPILED else "not compiled: there was no C compiler",
    environment=_SHIPPED,
)
SOURCES = Contender(
    "worker-sources",
    "this worker, not compiled",
    _WORKER,
    EXACTLY_ONCE,
    remark="its sources as they are; in the other rows of this worker mypyc has compiled the hot modules",
)
PLAIN = Contender(
    "plain", "plain aiokafka", ("-m", "bench.plain_worker"), EXACTLY_ONCE, remark="the yardstick"
)
FLOOR = Contender(
    "floor",
    "no work",
    ("-m", "bench.floor"),
    EXACTLY_ONCE,
    remark="signals in, ready records out; no decision, no Redis, no trades",
    decides=False,
)
AT_LEAST = Contender(
    "worker-alo",
    "this worker, at least once",
    _WORKER,
    AT_LEAST_ONCE,
    environment=_SHIPPED | {"KAFKA_PROCESSING_GUARANTEE": "at_least_once"},
)
LOGGING = Contender(
    "worker-logs",
    "this worker, with sampled log lines",
    _WORKER,
    EXACTLY_ONCE,
    remark="LOG_LEVEL=INFO, LOG_RECORDS=sampled; all others log warnings only",
    environment=_SHIPPED | {"LOG_LEVEL": "INFO", "LOG_RECORDS": "sampled"},
)
DEFAULT_POLICY = Contender(
    "worker-default",
    "this worker, its default policy",
    _WORKER,
    EXACTLY_ONCE,
    remark=f"`{Settings.model_fields['meta_strategy_policy'].default}`; all others learn and choose by "
    "epsilon-greedy over a moving average",
    environment=_SHIPPED | {"META_STRATEGY_POLICY": ""},  # as if it were not set
)
PEERS = (
    Contender(
        "confluent",
        "confluent-kafka",
        ("-m", "bench.peers.confluent_worker"),
        EXACTLY_ONCE,
        package="confluent-kafka",
        remark="librdkafka, synchronous Redis",
    ),
    Contender(
        "bytewax",
        "bytewax",
        ("-m", "bytewax.run", "bench.peers.bytewax_worker:flow"),
        AT_LEAST_ONCE,
        package="bytewax",
        remark="no transactions, no consumer group: one process, offsets in a store of its own",
        commits=False,
    ),
    Contender(
        "quix",
        "Quix Streams",
        ("-m", "bench.peers.quix_worker"),
        EXACTLY_ONCE,
        package="quixstreams",
        remark="a record at a time, its own checkpoints: a transaction each 0.1 s (default 5 s)",
        share=0.1,
    ),
    Contender(
        "faststream",
        "FastStream",
        ("-m", "bench.peers.faststream_worker"),
        AT_LEAST_ONCE,
        package="faststream",
        remark="in batches; no transaction over input and output",
    ),
)
ALL = (WORKER, SOURCES, PLAIN, FLOOR, DEFAULT_POLICY, AT_LEAST, LOGGING, *PEERS)
BY_NAME = {contender.name: contender for contender in ALL}


@functools.cache
def peer_versions() -> dict[str, str]:
    """Give the versions of what the bench environment has of what the peers are built on."""
    names = [*dict.fromkeys(peer.package for peer in PEERS), "aiokafka", "pydantic", "redis"]
    program = (
        "import importlib.metadata as m, json, sys\n"
        "there = {d.name.lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: there[n] for n in sys.argv[1:] if n in there}))"
    )
    try:
        done = subprocess.run(
            [PEER_PYTHON, "-c", program, *names], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return found


def missing_peers() -> list[Contender]:
    """List the peers that cannot run, since their library is not installed."""
    return [peer for peer in PEERS if peer.package not in peer_versions()]
