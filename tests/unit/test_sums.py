"""Sums on which workers of any Python agree."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.sums import total
from tests.support.fold_oracle import added

FINITE = st.floats(-1e6, 1e6)


def test_what_floats_lose_is_not_made_good() -> None:
    """Else a worker on Python 3.12 and one on 3.11 would learn something else from the same trade."""
    assert total([1e16, 1.0, -1e16]) == 0.0
    assert total([0.1] * 10) == 0.9999999999999999


@given(st.lists(FINITE, max_size=20))
def test_it_is_added_one_after_the_other(values: list[float]) -> None:
    assert total(values) == added(values)


def test_nothing_is_zero() -> None:
    assert total([]) == 0.0
