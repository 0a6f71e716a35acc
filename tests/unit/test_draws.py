"""Random draws that a replay makes again."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.draws import KeyedDraws

seeds = st.integers(-(2**70), 2**70)
ids = st.text(min_size=1, max_size=128)


def numbers(seed: int, draw_id: str, count: int) -> list[float]:
    draws = KeyedDraws(seed, draw_id)
    return [draws.random() for _ in range(count)]


@given(seeds, ids, st.integers(1, 40))
def test_same_seed_and_id_give_the_same_numbers(seed: int, draw_id: str, count: int) -> None:
    found = numbers(seed, draw_id, count)

    assert numbers(seed, draw_id, count + 5)[:count] == found
    assert all(0.0 <= number < 1.0 for number in found)


@given(st.lists(seeds, min_size=2, max_size=2, unique=True), ids)
def test_other_seeds_give_other_numbers(pair: list[int], draw_id: str) -> None:
    assert numbers(pair[0], draw_id, 4) != numbers(pair[1], draw_id, 4)


@given(st.integers(0, 9), st.lists(ids, min_size=2, max_size=2, unique=True))
def test_other_ids_give_other_numbers(seed: int, pair: list[str]) -> None:
    assert numbers(seed, pair[0], 4) != numbers(seed, pair[1], 4)


@pytest.mark.parametrize("seed", [0, -1, 2**64, 10**100, -(10**100)])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    """`META_STRATEGY_SEED` has no limits: none may stop the worker at its first signal."""
    assert 0.0 <= KeyedDraws(seed, "one").random() < 1.0


def test_first_numbers_of_many_ids_are_uniform() -> None:
    """One draw a decision explores: ids in a row must not explore together."""
    n, bins = 10_000, 20

    found = [KeyedDraws(7, f"decision-{number}").random() for number in range(n)]

    counts = [0] * bins
    for number in found:
        counts[int(number * bins)] += 1
    # chi-square of 19 degrees of freedom: 50 is exceeded once in 8,000 seeds; this seed is fixed
    assert sum((count - n / bins) ** 2 / (n / bins) for count in counts) < 50
    # correlation of neighbours: 4 standard errors of 1 / sqrt(n)
    covariance = sum((a - 0.5) * (b - 0.5) for a, b in pairwise(found)) / n
    assert abs(covariance * 12) < 4 / n**0.5


def test_numbers_in_a_row_are_uniform() -> None:
    n = 5_000

    found = numbers(7, "one", n)

    assert len(set(found)) == n
    # the mean of n uniform numbers has a standard error of sqrt(1 / 12 n); four of them
    assert abs(sum(found) / n - 0.5) < 4 * (1 / (12 * n)) ** 0.5


def test_numbers_are_fine_grained() -> None:
    """A propensity below 2^-32 would be a lie with coarser numbers."""
    found = numbers(7, "one", 64)

    assert any(number * 2**40 % 1.0 for number in found)
    assert all(number * 2**53 % 1.0 == 0.0 for number in found)
