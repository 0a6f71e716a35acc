"""The broker's jars come from a network: only what was pinned may ever reach the class path."""

from __future__ import annotations

import hashlib
import re
import threading
from typing import TYPE_CHECKING

import pytest

from consumer.local.errors import StackError
from consumer.local.jars import Jar, ensure_jars, pinned_jars
from consumer.local.locks import try_lock

if TYPE_CHECKING:
    from pathlib import Path


class FakeRepository:
    """Serves bytes by coordinate; fails the first `failures` times it is asked."""

    def __init__(self, contents: dict[str, bytes], failures: int = 0) -> None:
        self._contents = contents
        self._failures = failures
        self.asked: list[str] = []

    def fetch(self, coordinate: str, directory: Path) -> Path:
        self.asked.append(coordinate)
        path = directory / "some.jar"
        if len(self.asked) <= self._failures:
            path.write_bytes(b"half a")
            raise ConnectionError("broken\nin the middle")
        path.write_bytes(self._contents[coordinate])
        return path


def make_jar(coordinate: str, content: bytes) -> Jar:
    return Jar(coordinate, hashlib.sha256(content).hexdigest())


def test_every_pinned_jar_has_a_version_a_hash_and_its_own_file() -> None:
    jars = pinned_jars()

    assert "org.apache.kafka:kafka-clients:4.3.0" in {jar.coordinate for jar in jars}
    for jar in jars:
        assert re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", jar.coordinate)
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)
    assert len({jar.filename for jar in jars}) == len(jars)


def test_jars_are_fetched_once(tmp_path: Path) -> None:
    """The second start has to work without any network."""
    jars = [make_jar("org.a:one:1", b"first"), make_jar("org.a:two:2", b"second")]
    repository = FakeRepository({"org.a:one:1": b"first", "org.a:two:2": b"second"})
    reports: list[str] = []

    paths = ensure_jars(tmp_path, jars=jars, fetch=repository.fetch, report=reports.append)
    again = ensure_jars(tmp_path, jars=jars, fetch=repository.fetch, report=reports.append)

    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert again == paths
    assert sorted(repository.asked) == ["org.a:one:1", "org.a:two:2"]
    assert len(reports) == 1


def test_a_jar_with_another_hash_is_refused_and_removed(tmp_path: Path) -> None:
    jar = make_jar("org.a:one:1", b"pinned")
    repository = FakeRepository({"org.a:one:1": b"something else"})

    with pytest.raises(StackError, match=r"refused org\.a:one:1") as caught:
        ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch)

    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.jar"))
    assert repository.asked == ["org.a:one:1"], "asking again would give the same"


def test_a_damaged_jar_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    jar = make_jar("org.a:one:1", b"pinned")
    repository = FakeRepository({"org.a:one:1": b"pinned"})
    (path,) = ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch)
    path.write_bytes(b"pinn")

    ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch)

    assert path.read_bytes() == b"pinned"


def test_a_broken_connection_is_tried_again_from_nothing(tmp_path: Path) -> None:
    """What a broken transfer leaves behind must not be taken for the jar."""
    jar = make_jar("org.a:one:1", b"pinned")
    repository = FakeRepository({"org.a:one:1": b"pinned"}, failures=2)

    (path,) = ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch)

    assert path.read_bytes() == b"pinned"


def test_without_a_network_one_line_names_the_jar(tmp_path: Path) -> None:
    jar = make_jar("org.a:one:1", b"pinned")
    repository = FakeRepository({}, failures=1_000)

    with pytest.raises(
        StackError, match=r"^cannot fetch org\.a:one:1 \(ConnectionError\)"
    ) as caught:
        ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch)

    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.jar"))


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    """Test runs start side by side on a new machine: the second waits for the first, then reads."""
    jar = make_jar("org.a:one:1", b"pinned")
    repository = FakeRepository({"org.a:one:1": b"pinned"})
    lock = try_lock(tmp_path / "jars.lock")
    assert lock is not None
    paths: list[Path] = []
    second = threading.Thread(
        target=lambda: paths.extend(ensure_jars(tmp_path, jars=[jar], fetch=repository.fetch))
    )

    second.start()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / jar.filename).write_bytes(b"pinned")  # what the first one does
    lock.close()
    second.join(10)

    assert [path.read_bytes() for path in paths] == [b"pinned"]
    assert repository.asked == []


def test_waiting_for_another_process_can_be_given_up(tmp_path: Path) -> None:
    """Ctrl-C must not have to wait for somebody else's download."""
    lock = try_lock(tmp_path / "jars.lock")
    assert lock is not None
    cancelled = threading.Event()
    cancelled.set()

    with lock, pytest.raises(StackError, match="cancelled"):
        ensure_jars(
            tmp_path,
            jars=[make_jar("org.a:one:1", b"pinned")],
            fetch=FakeRepository({}).fetch,
            cancelled=cancelled,
        )
