"""The broker's classes, parsed once and mapped at later starts: 1.2 s instead of 3.5 s to be ready.

The first broker of a cache lists the classes it loads, at no measurable cost. As soon as it serves, a
second JVM of lower priority makes the archive from that list (10 s of one core); it is renamed into
place when whole, so it is there or not. One that does not fit is ignored by the JVM. An
ahead-of-time cache (JEP 483) would gain 0.3 s more, but delays the stop of the broker that records it by
4 s and more.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from consumer.local.locks import try_lock
from consumer.local.process import GuardedProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# 70 MB each; a second Python environment, or a new Java, needs another one.
_KEEP = 3


class ClassArchive:
    """The archive for one Java and one class path, in a cache shared between processes."""

    def __init__(self, cache: Path, java: Path, jars: Sequence[Path]) -> None:
        """Name the archive after all that the JVM compares before it uses one."""
        modules = java.parent.parent / "lib" / "modules"
        key = hashlib.sha256()
        for file in (modules, *jars):
            stat = file.stat()
            key.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        self._cache = cache
        self._java = java
        self._archive = cache / f"kafka-{key.hexdigest()[:16]}.jsa"
        self._training: GuardedProcess | None = None

    def flags(self, class_list: Path) -> list[str]:
        """Return the JVM flags that use the archive or, while there is none, list the classes."""
        if self._archive.exists():
            return [f"-XX:SharedArchiveFile={self._archive}"]
        return [f"-XX:DumpLoadedClassList={class_list}"]

    def train(self, class_list: Path, flags: Sequence[str]) -> None:
        """Begin to make the archive if it is missing, and nobody else is at it; returns at once.

        Args:
            class_list: What a serving broker has loaded.
            flags: The broker's JVM flags, class path included: those of its later starts.
        """
        if self._archive.exists() or not class_list.exists():
            return
        lock = try_lock(self._archive.with_suffix(".lock"))
        if lock is None:
            return
        # a copy of the whole lines: the broker goes on listing, and the next one begins anew
        text = class_list.read_bytes()
        classes = class_list.with_suffix(".training")
        classes.write_bytes(text[: text.rfind(b"\n") + 1])
        draft = self._archive.with_suffix(".draft")
        java = [
            str(self._java),
            *flags,
            "-Xshare:dump",
            f"-XX:SharedClassListFile={classes}",
            f"-XX:SharedArchiveFile={draft}",
        ]
        then_rename = 'draft=$1 archive=$2; shift 2; nice -n 5 "$@" && mv -f "$draft" "$archive"'
        with lock:  # from here on the guard holds it, until the archive is made
            self._training = GuardedProcess(
                ["/bin/sh", "-c", then_rename, "sh", str(draft), str(self._archive), *java],
                cwd=self._cache,
                log=class_list.with_suffix(".log"),
                holds=[lock.fileno()],
            )
        archives = sorted(self._cache.glob("kafka-*.jsa"), key=lambda file: file.stat().st_mtime)
        for old in archives[: -_KEEP + 1]:
            old.unlink(missing_ok=True)

    def abandon(self) -> None:
        """End an unfinished training: the next broker begins anew."""
        if self._training is not None:
            self._training.kill()
            self._training = None
