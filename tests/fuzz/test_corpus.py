"""The fuzzer's corpus: inputs that once behaved in a way of their own, replayed in seconds."""

from collections import Counter
from random import Random

import pytest

from consumer.domain.policies.catalog import PolicyName
from consumer.errors import BadMessageError
from consumer.process import is_compiled
from fuzz import grammar, mutate, records, targets
from fuzz.coverage import Lines
from fuzz.job import BATCH, run_job
from fuzz.mutate import Mutator, seeds
from fuzz.records import Input
from fuzz.targets import POLICIES, ViolationError, check_batch, decoded
from schemas import DeadLetterCode

CORPUS = records.load()


def test_the_corpus_is_there_and_small() -> None:
    assert 50 <= len(CORPUS) <= 400
    assert {one.topic for one in CORPUS} == {"signals", "trade-closed", "strategy-decisions"}
    assert records.CORPUS.stat().st_size < 1 << 20


@pytest.mark.parametrize("start", range(0, len(CORPUS), 4 * BATCH))
def test_each_input_of_the_corpus_is_answered_once(start: int) -> None:
    for one in CORPUS[start : start + 4 * BATCH]:
        decoded(one)
        check_batch([one])
    for first in range(start, start + 4 * BATCH, BATCH):
        check_batch(CORPUS[first : first + BATCH], POLICIES[first // BATCH % len(POLICIES)])


@pytest.mark.parametrize("policy", POLICIES)
def test_golden_messages_are_answered_once(policy: PolicyName) -> None:
    counts = check_batch(seeds(), policy)

    assert counts["decisions"] >= 5
    assert counts["rewards"] >= 5


def test_an_input_survives_being_kept() -> None:
    one = Input("signals", None, b"\xff", (("a", None), ("", b"\0")), -1)

    assert records.unpacked(one.packed()) == one


def test_the_same_seed_makes_the_same_inputs() -> None:
    """So that a finding can be made again."""
    one, other = (Mutator(Random("7"), seeds()) for _ in range(2))

    assert [one.next() for _ in range(200)] == [other.next() for _ in range(200)]


@pytest.mark.parametrize("policy", POLICIES)
def test_numbers_at_their_limits_are_decided_and_learned_from(
    policy: PolicyName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused at once says nothing of what policies do with the rest."""
    monkeypatch.setattr(mutate, "_STRAINED", 1.0)
    mutator = Mutator(Random("7"), seeds())

    counts = check_batch([mutator.next() for _ in range(200)], policy)

    assert counts["decisions"] > 50
    assert counts["rewards"] > 10


def test_a_job_checks_as_many_inputs_as_it_was_told() -> None:
    told: list[int] = []

    report = run_job("7", 100, [], told.append)

    assert report.failures == []
    assert report.inputs == sum(told) == sum(report.codes.values()) == 100
    assert sum(report.answers.values()) == 100


def test_a_line_is_new_once() -> None:
    lines, one = Lines(), seeds()[0]

    assert lines.reaches_new(lambda: decoded(one))
    assert not lines.reaches_new(lambda: decoded(one))


# The invariants themselves: each one must be able to fail


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


BAD = Input("signals", b"{")


@pytest.mark.skipif(is_compiled(), reason="compiled code calls its own methods directly")
def test_a_lost_message_is_found(broken: pytest.MonkeyPatch) -> None:
    def refuse(step: object, record: object, error: object, now_ms: int) -> None:
        """Drop it."""

    broken.setattr(targets.Pipeline, "_refuse", staticmethod(refuse))

    with pytest.raises(ViolationError, match="signals@102 has 0 answers"):
        check_batch([BAD])


def test_an_error_without_a_field_is_found(broken: pytest.MonkeyPatch) -> None:
    def fail(record: object) -> None:
        raise BadMessageError(DeadLetterCode.INVALID_MESSAGE, "something is wrong\nhere")

    broken.setattr(targets, "decode_signal", fail)

    with pytest.raises(ViolationError, match="no line"):
        decoded(BAD)


def test_any_other_error_is_a_finding(broken: pytest.MonkeyPatch) -> None:
    def fail(record: object) -> None:
        raise KeyError("x")

    broken.setattr(targets, "decode_signal", fail)

    report = run_job("7", 64, [], lambda _: None)

    assert [text for text, _ in report.failures] == ["ucb: KeyError: 'x'"]
    assert len(report.failures[0][1]) == 1, "the one that fails alone is blamed"


def test_a_hang_is_a_finding(broken: pytest.MonkeyPatch) -> None:
    broken.setattr("fuzz.job.HANG_S", -1.0)

    report = run_job("7", 64, [], lambda _: None)

    assert "took" in report.failures[0][0]


def test_counts_are_of_inputs_alone() -> None:
    """The good messages around them are not counted."""
    assert check_batch([BAD, BAD]) == Counter({"dead letters": 2})


def test_half_of_a_pair_in_a_symbol_makes_keys_like_any_other() -> None:
    """What is fuzzed with was read from JSON, which may escape what UTF-8 cannot write."""
    assert {type(grammar.key(Random(seed), "\ud800")) for seed in range(100)} == {bytes, type(None)}
