"""Blocks of what is remembered: few, small parts of each write, and only of accounts that have something new."""

import pytest

from consumer.connection import TopicNames
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.store import codec
from consumer.store.blocks import BLOCK_HASHES, BLOCK_SIZE, SMALL_BLOCK, BlockNames
from consumer.store.meta import Meta
from consumer.store.view_sync import REWRITE_FROM
from tests.support.folds import decide, pair, remembered_by
from tests.support.hash_view import KEYS, Hashes, Writer

TOPICS = TopicNames(signals="s", trades="t", decisions="d", dead_letters="l")
MONTH_MS = 31 * 86_400_000


def read_back(hashes: Hashes, settings: FoldSettings) -> PartitionState:
    """Open what was written."""
    state = PartitionState(settings)
    state.restore(hashes.raw(Meta(settings, 1, TOPICS)).decode("it", "fold the logs"))
    return state


def block_names(hashes: Hashes) -> set[str]:
    """Give the fields of all blocks."""
    raw = hashes.raw(Meta(FoldSettings(), 1, TOPICS))
    return {field for name in BLOCK_HASHES for field in raw.blocks(name)}


@pytest.mark.parametrize("step", [1, 3, 40, 90, 200])
@pytest.mark.parametrize("window", [400, 2_000])
def test_small_writes_leave_few_blocks(step: int, window: int) -> None:
    """A partition with little traffic writes each pair alone, and is read as quickly as others."""
    settings = FoldSettings(dedupe_window=window, open_decisions_max=window)
    state, hashes = PartitionState(settings), Hashes()
    writer = Writer(state, hashes)
    writer.rewrite()
    for number in range(1_400):
        pair(state, f"n{number}")
        if number % step == 0:
            writer.write()
        if number == 700:  # somebody else goes on
            writer.write()
            state = read_back(hashes, settings)
            writer = Writer(state, hashes)
            writer.know(hashes.raw(Meta(settings, 1, TOPICS)))
    writer.write()

    raw = hashes.raw(Meta(settings, 1, TOPICS))
    assert remembered_by(read_back(hashes, settings)) == remembered_by(state)
    for name in BLOCK_HASHES:
        counts = [codec.block_of(field)[2] for field in raw.blocks(name)]
        assert len(counts) <= min(window, 1_400) / SMALL_BLOCK + 9
        assert max(counts) <= BLOCK_SIZE


def test_what_two_writers_left_is_read_as_one_whatever_is_put_together() -> None:
    """One that was thought dead wrote in between, cut otherwise."""
    settings = FoldSettings(dedupe_window=300, open_decisions_max=300)
    states = [PartitionState(settings), PartitionState(settings)]
    hashes = Hashes()
    writers = [Writer(state, hashes) for state in states]
    writers[1].rewrite()
    writers[0].rewrite()
    for number in range(1_200):
        for state in states:
            pair(state, f"n{number}")
        if number % 50 < 20:
            writers[1].write()
        if number % 7 == 0:
            writers[0].write()
            assert remembered_by(read_back(hashes, settings)) == remembered_by(states[0])


def test_only_accounts_with_something_new_are_written() -> None:
    """Accounts are never forgotten: a write that looked at all of them would hold everybody up."""
    state, hashes = PartitionState(FoldSettings()), Hashes()
    writer = Writer(state, hashes)
    writer.rewrite()
    for number in range(50):
        pair(state, "first", f"a{number}")
    writer.write()
    before = block_names(hashes)

    pair(state, "second", "a7")
    writer.write()

    assert {codec.block_of(field)[0] for field in block_names(hashes) - before} == {"", "a7"}
    state.touch_all()
    assert state.take_changes().accounts == {f"a{number}" for number in range(50)}
    assert not state.take_changes().accounts


def test_a_rewrite_of_many_accounts_takes_few_parts() -> None:
    state, hashes = PartitionState(FoldSettings()), Hashes()
    for number in range(2_000):
        pair(state, "only", f"a{number}")
    writer = Writer(state, hashes)
    state.touch_all()

    parts = list(writer.prepared(Position()).parts(5_000))

    assert sum(part.entries for part in parts) >= 3 * 2_000
    assert all(part.entries <= 5_000 for part in parts)
    assert len(parts) < 40


def test_what_is_forgotten_open_counts_as_pending() -> None:
    """One decision after an idle month may end many: such a write is a rewrite, in parts."""
    state = PartitionState(FoldSettings())
    for number in range(REWRITE_FROM + 1):
        decide(state, f"n{number}")
    state.take_changes()

    decide(state, "a month later", ts=MONTH_MS)

    assert len(state.decisions.open) == 1
    assert state.pending > REWRITE_FROM < state.pending_fields
    assert state.all_fields < state.pending_fields
    state.take_changes()
    assert not state.pending
    assert not state.pending_fields


def test_many_pairs_of_few_arms_are_few_fields() -> None:
    state, hashes = PartitionState(FoldSettings()), Hashes()
    for number in range(3_000):
        pair(state, f"n{number}")
    pending = state.pending_fields - 3_000  # each decision was touched, and is open no more

    assert pending < 200
    assert state.all_fields < 200
    Writer(state, hashes).rewrite()
    raw = hashes.raw(Meta(FoldSettings(), 1, TOPICS))
    rows = sum(len(one) for key, one in hashes.keys.items() if key.startswith(KEYS.row_prefix))
    written = rows + len(raw.decisions) + sum(len(raw.blocks(name)) for name in BLOCK_HASHES)
    assert written / 5 < state.all_fields < written * 5


def test_small_blocks_are_named_from_the_newest_back_to_the_first_that_is_not_small() -> None:
    blocks = BlockNames()
    for last in (1, 2, 3):
        blocks.add("trades", "a", last, 1)
    blocks.add("trades", "a", 200, SMALL_BLOCK)
    for last in range(201, 208):
        blocks.add("trades", "a", last, 1)
    assert blocks.take_small("trades", "a", 207) == (207, [])

    blocks.add("trades", "a", 208, 1)
    since, gone = blocks.take_small("trades", "a", 208)

    assert since == 200
    assert gone == [codec.block_name("a", last, 1) for last in range(201, 209)]
    assert blocks.take_small("trades", "a", 208) == (208, [])
    assert blocks.take_older("trades", "a", 201) == [
        *(codec.block_name("a", last, 1) for last in (1, 2, 3)),
        codec.block_name("a", 200, SMALL_BLOCK),
    ]
