from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.key_index import GROUPS, KeyIndex
from tests.support.examples import examples

GROUP = st.sampled_from([0, 1, 7, GROUPS])


@examples(3.0)
@given(
    st.lists(st.tuples(st.integers(0, 300), GROUP), min_size=60, max_size=200),
    st.lists(st.integers(0, 300), max_size=200),
)
def test_a_key_is_found_until_it_is_taken_out(put: list[tuple[int, int]], taken: list[int]) -> None:
    index = KeyIndex()
    model: dict[str, int] = {}
    for number, group in put:
        if str(number) not in model:
            index.add(str(number), group)
            model[str(number)] = group
    for number in taken:
        if (group_of := model.pop(str(number), None)) is not None:
            index.remove(str(number), group_of)

    for number in range(301):
        key = str(number)
        alike = [group for one, group in model.items() if (hash(one) ^ hash(key)) & 0x3FFFFFFF == 0]
        assert sorted(index.groups(key)) == sorted(alike)


def test_many_come_and_go() -> None:
    index = KeyIndex()
    for number in range(20_000):
        index.add(f"key {number}", number // 64)
        if number >= 5_000:
            index.remove(f"key {number - 5_000}", (number - 5_000) // 64)

    for number in range(20_000):
        groups = index.groups(f"key {number}")
        assert number < 15_000 or number // 64 in groups
    assert sum(bool(index.groups(f"key {number}")) for number in range(15_000)) < 5
    index.clear()
    assert index.groups("key 19999") == ()
