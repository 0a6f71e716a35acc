"""The broker's jars: pinned by hash, fetched once, verified at every start."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.local.errors import StackError
from consumer.local.locks import try_lock
from consumer.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # (coordinate, empty directory to work in) -> the file fetched; blocks, raises OSError or
    # RuntimeError when it cannot
    Fetch = Callable[[str, Path], Path]

# Limited by round trips, not by bandwidth: 8 at once fetch all in 5 s, and bother no server.
_PARALLEL = 8
_TRIES = 3
# How often a process looks whether another one has finished fetching [s]
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned artifact: its coordinate `group:artifact:version` and the SHA-256 of its bytes."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name in the cache, unique among the pinned ones."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned_jars() -> list[Jar]:
    """Read the list that belongs to this package, in the order of the class path."""
    text = resources.files("consumer.local").joinpath("jars.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Jar(*line.split()) for line in lines]


def fetch_with_jgo(coordinate: str, directory: Path) -> Path:
    """Fetch one jar into `directory`, from where jgo looks for artifacts; blocks.

    Raises:
        OSError: The network failed, or the disk.
        RuntimeError: There is no such artifact there.
    """
    from jgo.maven import MavenContext  # 0.3 s, needed at the very first start only

    group, artifact, version = coordinate.split(":")
    context = MavenContext(repo_cache=directory, timeout=30)
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def ensure_jars(
    cache: Path,
    *,
    jars: Sequence[Jar] | None = None,
    fetch: Fetch = fetch_with_jgo,
    report: Callable[[str], None] = lambda _: None,
    cancelled: threading.Event | None = None,
) -> list[Path]:
    """Return the jars' paths, fetching what the cache lacks; blocks, at most one process fetches.

    A jar appears in the cache by a rename, after its hash was found right; a cached one whose hash is
    wrong is removed and fetched again.

    Args:
        cache: Directory that may be shared by any number of processes.
        jars: What is wanted; the pinned ones by default.
        fetch: How to get one.
        report: Is told, in one line, when something has to be fetched.
        cancelled: Set by another thread to give up.

    Raises:
        StackError: A jar cannot be fetched, is not what was pinned, or `cancelled` was set.
    """
    wanted = list(jars) if jars is not None else pinned_jars()
    cancelled = cancelled or threading.Event()
    folder = cache / "jars"
    paths = [folder / jar.filename for jar in wanted]
    if not _missing(wanted, folder):
        return paths
    with ExitStack() as stack:
        while (lock := try_lock(cache / "jars.lock")) is None:
            _give_up_if(cancelled)
            cancelled.wait(_LOCK_POLL_S)
        stack.enter_context(lock)
        missing = _missing(wanted, folder)  # whoever had the lock may have fetched them
        if missing:
            report(
                f"fetching {len(missing)} {plural(len(missing), 'jar')} of the Kafka broker, this once"
            )
            folder.mkdir(parents=True, exist_ok=True)
            work = Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=cache, prefix="fetch-"))
            )
            pool = stack.enter_context(ThreadPoolExecutor(_PARALLEL))
            try:
                for _ in pool.map(
                    lambda jar: _install(jar, folder, work, fetch, cancelled), missing
                ):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return paths


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    """Name the jars that are absent or damaged: 70 ms for all, so at every start."""
    missing = []
    for jar in jars:
        try:
            is_right = _sha256(folder / jar.filename) == jar.sha256
        except FileNotFoundError:
            is_right = False
        if not is_right:
            missing.append(jar)
    return missing


def _install(jar: Jar, folder: Path, work: Path, fetch: Fetch, cancelled: threading.Event) -> None:
    for tries_left in reversed(range(_TRIES)):
        _give_up_if(cancelled)
        # new for every try: jgo takes the half file that a broken connection leaves for a whole one
        directory = Path(tempfile.mkdtemp(dir=work))
        try:
            fetched = fetch(jar.coordinate, directory)
        except (OSError, RuntimeError) as error:
            if tries_left:
                continue
            raise StackError(
                f"cannot fetch {jar.coordinate} ({type(error).__name__}): is the network reachable?"
            ) from error
        actual = _sha256(fetched)
        if actual != jar.sha256:
            shutil.rmtree(directory)
            raise StackError(
                f"refused {jar.coordinate}: its SHA-256 is {actual}, pinned is {jar.sha256}"
            )
        fetched.replace(folder / jar.filename)  # atomic: same file system
        return


def _give_up_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise StackError("fetching was cancelled")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
