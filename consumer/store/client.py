"""Clients of Redis: quick to fail, and what they fail with."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from consumer.errors import TransientError

RedisClient = Redis | RedisCluster

ANSWER_TIMEOUT_S = 0.5
"""Longest wait for a command while serving: a decision must not hang on a frozen server."""
BULK_TIMEOUT_S = 15.0
"""Longest wait for a whole partition: tens of megabytes at the worst."""
REDIS_ERRORS = (RedisError, RedisClusterException)
"""All that the clients raise: what a cluster's client says when no node answers is no RedisError."""


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
def heeding_cancel() -> Iterator[None]:
    """Send commands in this: a cancel that reaches the task meanwhile ends it, as everywhere else.

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


def describe(error: BaseException) -> str:
    """Say what an error says; its class, when that is nothing."""
    return str(error) or type(error).__name__


def translated(error: Exception) -> TransientError:
    """Say that Redis does not do what it was asked; see REDIS_ERRORS."""
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        return TransientError(f"Redis does not answer: {describe(error)}")
    # busy loading, read-only replica, out of memory, cluster down: all pass or need an operator,
    # and none may end the process while decisions can go on from memory
    return TransientError(f"Redis refuses: {describe(error)}")
