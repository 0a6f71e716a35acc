"""How the chaos run and the tests compare what two views hold."""

import pytest

from chaos.views import is_same

MARK = {"decisions": "8", "trades": "3"}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (MARK, True),
        (MARK | {"decisions": "9"}, True),
        (MARK | {"decisions": "10"}, False),
        (MARK | {"trades": "4"}, False),
        (MARK | {"candles": "5"}, False),
        ({"rebuild": "8cfe4f34f27874b9"}, False),
        (MARK | {"rebuild": "8cfe4f34f27874b9"}, False),
        (None, False),
    ],
)
def test_watermarks_are_the_same_but_for_one_marker_of_decisions(
    other: dict[str, str] | None, same: bool
) -> None:
    assert is_same("x:{0}:watermark", MARK, other) is same
    assert is_same("x:{0}:watermark", other, MARK) is same


def test_other_hashes_are_the_same_to_the_bit() -> None:
    assert is_same("x:{0}:totals", {"trades": "1"}, {"trades": "1"})
    assert not is_same("x:{0}:totals", {"trades": "1"}, {"trades": "2"})
