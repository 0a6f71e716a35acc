"""Partitions are folded by processes of their own: what they say arrives, and none outlives its command."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import active_children, get_context
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from consumer import refold
from consumer.errors import RefusedError, TransientError
from consumer.refold import Offsets, refold_all
from consumer.settings import Settings, load

_LIMIT_S = 30.0


def _counted(_: Settings, partitions: int, number: int, __: Offsets) -> str:
    refold._count(1_000)
    return f"partition {number} of {partitions}"


def _silent_server(*_: object) -> str:
    raise TransientError("Kafka: does not answer")


def _killed(*_: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _stuck(*_: object) -> str:
    with Path(sys.argv[1], str(os.getpid())).open("w") as file:  # the lock goes with the process
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(_LIMIT_S)
    return ""


async def _refolded(partitions: int) -> tuple[list[str], int]:
    done: list[int] = []
    sizes = {number: 100 + number for number in range(partitions)}
    lines = await refold_all(load(), sizes, {}, on_progress=done.append)
    return lines, sum(done)


async def test_every_partition_is_folded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refold, "_refold", _counted)

    lines, done = await _refolded(5)

    assert lines == [f"partition {number} of 5" for number in range(5)]
    assert done == 5_000


def _one_after_the_other(_: Settings, __: int, number: int, ___: Offsets) -> str:
    with Path(os.environ["ORDER"]).open("a") as file:
        file.write(f"{number} ")
    return f"{number}"


async def test_the_largest_partitions_are_folded_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = tmp_path / "order"
    monkeypatch.setenv("ORDER", str(order))
    monkeypatch.setattr(refold, "_refold", _one_after_the_other)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)

    lines = await refold_all(load(), {0: 5, 1: 7, 2: 6}, {}, on_progress=lambda _: None)

    assert order.read_text() == "1 2 0 "
    assert lines == ["0", "1", "2"]


def _looked_at_twice(*_: object) -> str:
    for look in range(2):
        refold._count(1)
        _until(Path(os.environ["LOOKS"], f"{look}").exists)
    return "folded"


async def test_another_process_of_the_command_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKS", str(tmp_path))
    monkeypatch.setattr(refold, "_refold", _looked_at_twice)
    other = get_context("spawn").Process(target=time.sleep, args=(_LIMIT_S,))
    other.start()
    looks = itertools.count()

    def ended(_: int) -> None:
        other.kill()
        other.join()
        (tmp_path / f"{next(looks)}").touch()

    assert await refold_all(load(), {0: 1}, {}, on_progress=ended) == ["folded"]


async def test_what_a_process_raises_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refold, "_refold", _silent_server)

    with pytest.raises(TransientError, match=r"^Kafka: does not answer$"):
        await _refolded(2)


async def test_a_process_that_is_killed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refold, "_refold", _killed)

    with pytest.raises(RefusedError, match="ended from outside"):
        await _refolded(2)


def _silent_server_or_stuck(_: Settings, __: int, number: int, ___: Offsets) -> str:
    if number:
        threading.Event().wait()
    return _silent_server()


def _killed_or_stuck(_: Settings, __: int, number: int, ___: Offsets) -> str:
    if not number:
        threading.Event().wait()
    return _killed()


async def test_what_is_still_folded_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refold, "_refold", _silent_server_or_stuck)

    with pytest.raises(TransientError):
        await _refolded(2)

    _until(lambda: not active_children())


async def test_what_is_still_folded_ends_with_one_that_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refold, "_refold", _killed_or_stuck)

    with pytest.raises(RefusedError, match="ended from outside"):
        await _refolded(2)

    _until(lambda: not active_children())


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT_S / 2
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _has_ended(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_command(how: signal.Signals, tmp_path: Path) -> None:
    command = Popen(
        [sys.executable, "-m", "tests.integration.test_refold", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        stderr=DEVNULL,
    )
    try:
        folding = tmp_path.iterdir
        _until(lambda: any(not _has_ended(path) for path in folding()))
        if how is signal.SIGINT:  # a terminal tells all of them
            os.killpg(command.pid, how)
        else:
            command.send_signal(how)
        command.wait(_LIMIT_S / 2)
        _until(lambda: all(_has_ended(path) for path in folding()))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


if __name__ == "__main__":
    refold._refold = _stuck  # type: ignore[assignment]
    asyncio.run(_refolded(2))
