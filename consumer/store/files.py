"""Files that a crash cannot break."""

import os
import tempfile
from pathlib import Path


def write_in_one_step(path: Path, text: str) -> None:
    """Replace a file by another, so that a reader or a crash sees the old or the new one whole.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
