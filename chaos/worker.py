"""The ordinary worker, with places at which it can be struck dead or frozen, and a clock to move.

    CHAOS_CONTROL=FILE python -m chaos.worker [worker | plain]

Nothing of this is in the product: the calls of an opening and of a transaction are wrapped here, and
then the ordinary command runs. Another environment variable, CHAOS_SESSION_MS, sets the session timeout
of its group membership; CHAOS_NAME makes the plain worker's transactional id its own.
"""

import asyncio
import functools
import inspect
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.points import Control, Moment

_DURING_S = 0.004
"""A call to Kafka or Redis takes some milliseconds here: the strike falls anywhere into it."""


class Striker:
    """Carries out what the control file says.

    Args:
        control: Where the orders come from.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def wrap(self, owner: Any, name: str, point: str) -> None:
        """Make a function or method a place of this name."""
        original = getattr(owner, name)
        wrapper: Callable[..., Any]
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def wrapper(*arguments: Any, **named: Any) -> Any:
                is_due = self._enter(point)
                result = await original(*arguments, **named)
                if is_due:
                    self._strike(point, "after")
                return result

        else:

            @functools.wraps(original)
            def wrapper(*arguments: Any, **named: Any) -> Any:
                is_due = self._enter(point)
                result = original(*arguments, **named)
                if is_due:
                    self._strike(point, "after")
                return result

        setattr(owner, name, wrapper)

    def _enter(self, point: str) -> bool:
        """Strike before or during the call, if that is ordered; tell whether after it is."""
        if not self._control.memory[0]:
            return False
        _, wanted, moment, *_ = self._control.read()
        if wanted != point or self._control.count_down() > 0:
            return False
        if moment == "before":
            self._strike(point, moment)
        elif moment == "during":
            delay_s = random.uniform(0.0, _DURING_S)
            asyncio.get_running_loop().call_later(delay_s, self._strike, point, moment)
            self._control.disarm()
        return moment == "after"

    def _strike(self, point: str, moment: Moment) -> None:
        number = self._control.read()[3]
        self._control.disarm()
        os.write(2, f"[CHAOS] struck by {number} {moment} {point}\n".encode())
        os.kill(os.getpid(), number)


def move_clock(control: Control) -> None:
    """Let `time.time` and `time.time_ns` be off by what the control file says."""
    now_s, now_ns = time.time, time.time_ns
    time.time = lambda: now_s() + control.clock_offset_s
    time.time_ns = lambda: now_ns() + control.clock_offset_s * 1_000_000_000


def wrap_product(striker: Striker) -> None:
    """Name the places of the worker; a name that is no more ends the process."""
    from aiokafka import AIOKafkaProducer

    from consumer import serving
    from consumer.store.redis_view import RedisView
    from consumer.stream import ownership, session, transaction
    from consumer.stream.assignment import Assignment
    from consumer.stream.at_least_once import AtLeastOnceSink
    from consumer.stream.partition import Partition

    for owner, name, point in (
        (session.Session, "on_partitions_assigned", "assigned"),
        (transaction.ProducerSink, "start", "sink start"),
        (ownership, "_committed", "offsets read"),
        (ownership, "_shut_out", "shut out"),
        (Assignment, "_claim", "claim"),
        (RedisView, "load", "load"),
        (serving, "catch_up", "catch-up"),
        (Partition, "_begin", "seek"),
        (AIOKafkaProducer, "begin_transaction", "begin"),
        (transaction.ProducerSink, "send", "send"),
        (AIOKafkaProducer, "send_offsets_to_transaction", "offsets"),
        (AtLeastOnceSink, "_commit", "offsets"),
        (AIOKafkaProducer, "commit_transaction", "commit"),
        (Partition, "committed", "committed"),
        (RedisView, "write", "view write"),
        (RedisView, "rewrite", "view rewrite"),
        (Assignment, "_recycle", "recycle"),
        (session.Session, "on_partitions_revoked", "revoked"),
        (session, "stop_within", "leave"),
    ):
        striker.wrap(owner, name, point)


def set_session(timeout_ms: int) -> None:
    """Let a dead member be missed after this time."""
    from aiokafka import AIOKafkaConsumer

    original = AIOKafkaConsumer.__init__

    @functools.wraps(original)
    def init(self: Any, *topics: str, **options: Any) -> None:
        if options.get("group_id") is not None:
            options |= {
                "session_timeout_ms": timeout_ms,
                "heartbeat_interval_ms": timeout_ms // 4,
            }
        original(self, *topics, **options)

    AIOKafkaConsumer.__init__ = init


def name_plain_worker(name: str) -> None:
    """Let two plain workers not shut each other out by one transactional id."""
    from aiokafka import AIOKafkaProducer

    original = AIOKafkaProducer.__init__

    @functools.wraps(original)
    def init(self: Any, **options: Any) -> None:
        options["transactional_id"] += f"-{name}"
        original(self, **options)

    AIOKafkaProducer.__init__ = init


def main() -> None:
    """Wrap, and run the ordinary worker or the plain one."""
    control = Control(Path(os.environ["CHAOS_CONTROL"]))
    move_clock(control)
    if timeout_ms := os.environ.get("CHAOS_SESSION_MS"):
        set_session(int(timeout_ms))
    if sys.argv[1:] == ["plain"]:
        import uvloop

        from bench import plain_worker

        name_plain_worker(os.environ["CHAOS_NAME"])
        uvloop.run(plain_worker.main())
        return
    wrap_product(Striker(control))
    from consumer.cli.main import main as command

    sys.argv = ["meta-strategy", "worker"]
    command()


if __name__ == "__main__":
    main()
