"""What was worked out for the same rows before."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from consumer.domain.policies.base import Situation
from schemas import MarketRegime

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
    here, so that no other object comes to have it. One result a row: of other situations with the same
    row the last one stays, for the others' time has mostly passed.

    Args:
        leans_on_parents: Whether results depend on the rows of the context's parents, too.
    """

    __slots__ = ("_found", "_leans_on_parents")

    def __init__(self, *, leans_on_parents: bool = True) -> None:
        self._leans_on_parents = leans_on_parents
        self._found = Bounded[tuple[int, MarketRegime, str], tuple[Situation, T]](_LIMIT)

    def get(self, situation: Situation, cold_start: str, make: Callable[[Situation, str], T]) -> T:
        """Give what `make` gives for a situation and its cold-start choice."""
        regime, _, row, candidates, (widest, parent), _, features = situation
        # contexts without rewards have one row in common, not their regime's
        key = (id(row) if row else id(parent), regime, cold_start)
        found = self._found.get(key)
        if found is not None:
            was, result = found
            _, _, was_row, was_candidates, (was_widest, was_parent), _, was_features = was
            if (
                was_row is row
                and was_candidates is candidates
                and was_features == features
                and (not self._leans_on_parents or (was_widest is widest and was_parent is parent))
            ):
                return result
        return self._found.keep(key, (situation, make(situation, cold_start)))[1]
