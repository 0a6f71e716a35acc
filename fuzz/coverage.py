"""Which lines of the worker an input reaches: what makes it worth keeping."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_ROOT = str(Path(__file__).parents[1])
_WATCHED = tuple(f"{_ROOT}/{package}/" for package in ("consumer", "schemas"))


class Lines:
    """All lines that were reached so far."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()
        self._is_new = False

    def __len__(self) -> int:
        return len(self._seen)

    def reaches_new(self, work: Callable[[], object]) -> bool:
        """Do something; tell whether it came to a line where nobody was before.

        It takes several times as long as the work alone.
        """
        self._is_new = False
        sys.settrace(self._enter)
        try:
            work()
        finally:
            sys.settrace(None)
        return self._is_new

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_WATCHED):
            return None
        return self._line(frame, event, argument)

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002
        line = frame.f_code.co_filename, frame.f_lineno
        if line not in self._seen:
            self._seen.add(line)
            self._is_new = True
        return self._line
