"""What was worked out for the same rows before."""

from collections.abc import Callable
from typing import Generic, TypeVar

from consumer.domain.features import Features
from consumer.domain.policies.base import Situation

_LIMIT = 1024
"""Results kept: the contexts of a busy partition; more only cost memory."""

T = TypeVar("T")


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
        self._found: dict[tuple[int | str | Features, ...], tuple[Situation, T]] = {}

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
        result = make(situation, cold_start)
        if len(self._found) >= _LIMIT:
            self._found.clear()
        self._found[key] = (situation, result)
        return result
