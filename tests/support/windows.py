"""Windows that pack what is remembered long before there are hundreds of entries."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from consumer.domain import window


@contextlib.contextmanager
def small_windows(group: int = 2, loose: int = 0) -> Iterator[None]:
    """Pack so many entries together, and all but so many; of the whole process while it lasts."""
    with mock.patch.object(window, "GROUP", group), mock.patch.object(window, "LOOSE", loose):
        yield
