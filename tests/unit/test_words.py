"""Numbers in sentences."""

import pytest

from consumer.words import plural


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 signals"), (1, "1 signal"), (2, "2 signals"), (1000, "1000 signals")],
)
def test_a_number_has_the_word_that_it_asks_for(number: int, text: str) -> None:
    assert f"{number} {plural(number, 'signal')}" == text


def test_a_plural_of_its_own_is_given() -> None:
    assert [plural(n, "copy", "copies") for n in (1, 2)] == ["copy", "copies"]
    assert [plural(n, "is", "are") for n in (1, 2)] == ["is", "are"]
