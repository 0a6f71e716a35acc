from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.window import Window
from tests.support.examples import examples


@examples(0.5)
@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "oldest"]), st.integers(0, 5))))
def test_keeps_the_order_in_which_keys_came(steps: list[tuple[str, int]]) -> None:
    window: Window[int] = Window()
    model: OrderedDict[str, int] = OrderedDict()

    for value, (step, number) in enumerate(steps):
        key = str(number)
        match step:
            case "put" if key in model:  # replaced, it keeps its place
                window.by_key[key] = model[key] = value
            case "put":
                window.add(key, value)
                model[key] = value
            case "remove" if key in model:
                assert window.remove(key) == model.pop(key)
            case "oldest" if model:
                assert window.pop_oldest() == model.popitem(last=False)
        assert list(window.by_key.items()) == list(model.items())
        if model:
            assert window.oldest == next(iter(model.values()))


def test_what_is_not_there_cannot_leave() -> None:
    window: Window[int] = Window()
    window.add("a", 1)

    with pytest.raises(KeyError):
        window.remove("b")
    window.clear()
    with pytest.raises(IndexError):
        window.pop_oldest()
    with pytest.raises(IndexError):
        _ = window.oldest
    assert window.by_key == {}
