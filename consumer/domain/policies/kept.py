"""What was worked out for the same rows before."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from consumer.domain.features import Features
from consumer.domain.policies.base import Situation

_LIMIT: Final = 1024
"""Results kept: the contexts of a busy partition; more only cost memory."""

K = TypeVar("K")
T = TypeVar("T")


class Bounded(Generic[K, T]):
    """What was worked out lately; full, it begins anew: finding what is oldest would cost more.

    Args:
        limit: Entries at most.
    """

    __slots__ = ("_found", "_limit")

    def __init__(self, limit: int) -> None:
        self._found: dict[K, T] = {}
        self._limit = limit

    def get(self, key: K) -> T | None:
        """Give what was kept; None: nothing."""
        return self._found.get(key)

    def keep(self, key: K, value: T) -> T:
        """Keep a value, and give it."""
        if len(self._found) >= self._limit:
            self._found.clear()
        self._found[key] = value
        return value


class Kept(Generic[T]):
    """Results by situation: a burst of signals finds the rows that the last reward left.

    Rows and candidates never change once made, so they are told by identity; what they name is held
    here, so that no other object comes to have it.

    Args:
        leans_on_parents: Whether results depend on the rows of the context's parents, too.
    """

    __slots__ = ("_found", "_leans_on_parents")

    def __init__(self, *, leans_on_parents: bool = True) -> None:
        self._leans_on_parents = leans_on_parents
        self._found = Bounded[tuple[int | str | Features, ...], tuple[Situation, T]](_LIMIT)

    def get(self, situation: Situation, cold_start: str, make: Callable[[Situation, str], T]) -> T:
        """Give what `make` gives for a situation and its cold-start choice."""
        regime, _, row, candidates, (widest, parent), _, features = situation
        key: tuple[int | str | Features, ...]
        if self._leans_on_parents:
            key = (id(row), id(widest), id(parent), id(candidates), cold_start, regime, features)
        else:
            key = (id(row), id(candidates), cold_start, regime, features)
        found = self._found.get(key)
        if found is not None:
            return found[1]
        return self._found.keep(key, (situation, make(situation, cold_start)))[1]
