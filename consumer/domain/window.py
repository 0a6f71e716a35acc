"""What is remembered by key, oldest first, until newer ones take its place."""

from collections import deque
from typing import Generic, TypeVar

V = TypeVar("V")


class Window(Generic[V]):
    """Values by key, in the order in which they came.

    A plain dict would go over all that have left each time, to find its first: up to a tenth of a
    millisecond. An `OrderedDict` finds it at once, for twice the memory of this.
    """

    __slots__ = ("_order", "by_key")

    def __init__(self) -> None:
        self.by_key: dict[str, V] = {}
        """By key; one may be replaced, what comes and goes does so by the methods."""
        self._order: deque[str] = deque()

    def add(self, key: str, value: V) -> None:
        """Put the newest, whose key is not there."""
        self.by_key[key] = value
        self._order.append(key)

    @property
    def oldest(self) -> V:
        """The first of them.

        Raises:
            IndexError: There is none.
        """
        return self.by_key[self._order[0]]

    @property
    def newest(self) -> V:
        """The last of them.

        Raises:
            IndexError: There is none.
        """
        return self.by_key[self._order[-1]]

    def remove(self, key: str) -> V:
        """Take one out, the sooner the older it is.

        Raises:
            KeyError: It is not there.
        """
        value = self.by_key.pop(key)
        self._order.remove(key)
        return value

    def pop_oldest(self) -> tuple[str, V]:
        """Take the first one out, with its key.

        Raises:
            IndexError: There is none.
        """
        key = self._order.popleft()
        return key, self.by_key.pop(key)

    def clear(self) -> None:
        """Forget all."""
        self.by_key.clear()
        self._order.clear()
