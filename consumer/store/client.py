"""Clients of Redis: quick to fail, and what they fail with."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from consumer.errors import TransientError, describe

RedisClient = Redis | RedisCluster

ANSWER_TIMEOUT_S = 0.5
"""Longest wait for a command while serving: a decision must not hang on a frozen server."""
BULK_TIMEOUT_S = 15.0
"""Longest wait for a whole partition: tens of megabytes at the worst."""
REDIS_ERRORS = (RedisError, RedisClusterException)
"""What the clients raise: what a cluster's client says when no node answers is no RedisError."""
_OF_CLOSED = (AttributeError, TypeError, RuntimeError)
_INSIDES = ("redis.asyncio.connection", "redis.asyncio.cluster")


def connect(url: str, *, cluster: bool, timeout_s: float = ANSWER_TIMEOUT_S) -> RedisClient:
    """Make a client that answers or fails in time; nothing is sent yet.

    It never retries by itself: only the view knows which of its commands may be repeated.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    if cluster:
        return RedisCluster.from_url(url, **options)
    return Redis.from_url(url, **options)


@contextmanager
def asking() -> Iterator[None]:
    """Ask Redis in this.

    Raises:
        TransientError: It does not do what it was asked, or does not answer.
    """
    try:
        with heeding_cancel():
            yield
    except REDIS_ERRORS as error:
        raise _translated(error) from error
    except _OF_CLOSED as error:
        # a server that goes, or the cluster's client that looks for another one, closes the connection
        # that this task is about to write to: the client touches what is no longer there, and what
        # comes of it depends on loop and Python (redis-py issue 4287, not mended in 8.1.0); so it is
        # where a cluster moves a slot to a node that the client has not heard of yet
        frames = (frame for frame, _ in walk_tb(error.__traceback__))
        if not any(frame.f_globals.get("__name__") in _INSIDES for frame in frames):
            raise
        raise TransientError(
            f"Redis does not answer: connection closed, or node not known ({error})"
        ) from error


@contextmanager
def heeding_cancel() -> Iterator[None]:
    """Let a cancel that reaches the task while it sends commands end it, as everywhere else.

    The client sends under `asyncio.wait_for`, which loses a cancel that comes as the sending ends
    (Python before 3.12): the command is answered, and the task that was to end goes on for good.
    """
    task = cast("asyncio.Task[object]", asyncio.current_task())
    before = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


def _translated(error: Exception) -> TransientError:
    """Say that Redis does not do what it was asked; see REDIS_ERRORS."""
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        return TransientError(f"Redis does not answer: {describe(error)}")
    # busy loading, read-only replica, out of memory, cluster down: all pass or need an operator,
    # and none may end the process while decisions can go on from memory
    return TransientError(f"Redis refuses: {describe(error)}")
