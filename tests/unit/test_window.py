from collections import OrderedDict
from collections.abc import Iterator, Sequence
from random import Random

import pytest

from consumer.domain import key_index
from consumer.domain.window import Row, Window
from consumer.process import is_compiled
from tests.support.windows import small_windows


def rows_of(keys: Sequence[str], values: Sequence[float]) -> list[Row]:
    return list(zip(keys, values, strict=True))


def value_of(row: Row) -> float:
    return float(row[1])


def a_window() -> Window[float]:
    return Window(rows_of, value_of)


@pytest.fixture(params=[(1, 0), (3, 2), (8, 0), (64, 500)], ids=str, autouse=True)
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let most of a few entries be packed, too."""
    with small_windows(*request.param):
        yield


def assert_same(window: Window[float], model: OrderedDict[str, float]) -> None:
    assert window.items() == list(model.items())
    assert window.values() == list(model.values())
    assert list(window.newest_first()) == list(reversed(model.items()))
    assert len(window) == len(model)
    assert bool(window) == bool(model)
    for number in range(KEYS):
        key = str(number)
        assert (key in window) == (key in model)
        assert window.get(key) == model.get(key)
    if model:
        assert window.newest == next(reversed(model.values()))


KEYS = 60
STEPS = ["put"] * 8 + ["remove", "remove", "remove", "replace", "replace", "oldest", "pack"]


@pytest.fixture(params=[0x3FFF_FFFF, 3], ids=["hashes of 30 bits", "of 2"])
def hash_bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a key be looked for where it is not, too."""
    if is_compiled() and request.param == 3:
        pytest.skip("compiled code has the number in it")
    monkeypatch.setattr(key_index, "_HASH_BITS", request.param)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("hash_bits")
def test_keeps_the_order_in_which_keys_came(seed: int) -> None:
    rng = Random(seed)
    window = a_window()
    model: OrderedDict[str, float] = OrderedDict()

    for value in range(1_500):
        key = str(rng.randrange(KEYS))
        match rng.choice(STEPS):
            case "put" if key not in model:
                window.add(key, value)
                model[key] = value
            case "remove" if key in model:
                window.remove(key)
                del model[key]
            case "replace" if key in model:
                window.replace(key, value)
                model[key] = value
            case "oldest" if model:
                assert window.oldest == next(iter(model.values()))
                assert window.pop_oldest() == model.popitem(last=False)
            case "pack":
                window.pack()
        if rng.random() < 0.1:
            assert_same(window, model)
    assert_same(window, model)
    while model:
        assert window.pop_oldest() == model.popitem(last=False)
    assert window._packed == window._gone == window._loose == {}
    assert window._index._count == 0


def test_a_full_window_lets_the_oldest_go_for_every_new_one() -> None:
    window = a_window()
    for number in range(3_000):
        window.add(f"key {number}", number)
        if number % 700 == 0:
            window.pack()
        if number >= 1_000:
            assert window.oldest == number - 1_000
            assert window.pop_oldest() == (f"key {number - 1_000}", number - 1_000)

    window.pack()
    assert [value for _, value in window.items()] == list(range(2_000, 3_000))
    assert f"key {1_999}" not in window
    assert all(window.get(f"key {number}") == number for number in range(2_000, 3_000))


def test_what_is_not_there_cannot_leave() -> None:
    window = a_window()
    for number in range(5):
        window.add(str(number), number)
    window.pack()

    for key in ("5", ""):
        with pytest.raises(KeyError):
            window.remove(key)
        with pytest.raises(KeyError):
            window.replace(key, 1)
    assert len(window) == 5
    window.clear()
    with pytest.raises(IndexError):
        window.pop_oldest()
    with pytest.raises(IndexError):
        _ = window.oldest
    with pytest.raises(IndexError):
        _ = window.newest
    assert window.items() == []
    assert "1" not in window
