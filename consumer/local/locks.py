"""Locks between processes: one fetches the jars, one owns a run directory."""

from __future__ import annotations

import fcntl
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def try_lock(path: Path) -> IO[bytes] | None:
    """Take the lock that `path` stands for, without waiting.

    Returns:
        The open file, or None while another process holds the lock. Closing the file gives the lock
        back, and so does the end of the process, however it comes; a child that was handed the file
        holds the lock as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
