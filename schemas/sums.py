"""Sums that are the same to the last bit in every version of Python."""

from collections.abc import Iterable
from functools import reduce
from operator import add


def total(values: Iterable[float]) -> float:
    """Add from left to right.

    Since Python 3.12 `sum` makes good what floats lose on the way. What was learned, and what is decided from
    it, must be the same whichever version computed it: workers of two may share a group, and a decision is made
    again years later.
    """
    return reduce(add, values, 0.0)
