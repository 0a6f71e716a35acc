"""A named tuple at half of its constructor's price, for what every decision and every trade makes.

The constructor of a NamedTuple is a function in Python that calls the one below. Here the values come as one
tuple or list, all of them and in the order of the fields: neither their number nor their types are looked at.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

_T = TypeVar("_T", bound=tuple[Any, ...])

quick: Final[Callable[[type[_T], Iterable[Any]], _T]] = tuple.__new__
