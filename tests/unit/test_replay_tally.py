"""The demo's verdict: it may only be good when nothing is missing."""

import pytest

from consumer.local.replay_tally import ReplayTally
from consumer.local.table_reader import Arm, ArmRow

ARM = Arm("EURUSD", "trend_up", "scalp")


def make_row(count: int) -> ArmRow:
    return ArmRow("ms:{0}:q:paper:EURUSD:trend_up", count, 0.5, count, 0.5 * count)


def make_tally() -> ReplayTally:
    """Two signals, decided, traded and learned from."""
    tally = ReplayTally(2, sent=2, decided=2, trades=2, rewards=2)
    tally.rewards_due[ARM] = 2
    return tally


def test_a_complete_replay_has_no_shortfalls() -> None:
    assert make_tally().shortfalls({}, {ARM: make_row(2)}) == []


def test_rewards_that_were_there_before_do_not_count() -> None:
    tally = make_tally()

    assert tally.shortfalls({ARM: make_row(3)}, {ARM: make_row(5)}) == []
    assert tally.shortfalls({ARM: make_row(3)}, {ARM: make_row(4)}) == [
        "EURUSD trend_up scalp: 1 reward for 2 trades"
    ]


def test_a_reward_in_another_row_is_found() -> None:
    """A sum over the table would not see it."""
    other = ARM._replace(strategy="moderate")

    wrong = make_tally().shortfalls({}, {ARM: make_row(1), other: make_row(1)})

    assert wrong == [
        "EURUSD trend_up moderate: 1 reward for 0 trades",
        "EURUSD trend_up scalp: 1 reward for 2 trades",
    ]


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("unanswered", ["a"], "1 signal unanswered: a"),
        ("unanswered", list("abcdefg"), "7 signals unanswered: a, b, c, d, e, ..."),
        ("refused", ["a"], "1 signal refused: a"),
        ("sent", 1, "1 signal not sent"),
        ("trades", 1, "1 decision not traded"),
        ("rewards", 0, "2 trades not learned from"),
        ("repeats", 1, "1 decision too many: repeats"),
        ("dead_letters", ["dead letter from signals"], "dead letter from signals"),
        ("surprises", ["odd"], "odd"),
    ],
)
def test_each_shortfall_is_told(field: str, value: object, line: str) -> None:
    tally = make_tally()
    setattr(tally, field, value)

    assert line in tally.shortfalls({}, {ARM: make_row(2)})


def test_repeats_are_allowed_at_least_once() -> None:
    tally = make_tally()
    tally.repeats, tally.repeats_allowed = 3, True

    assert tally.shortfalls({}, {ARM: make_row(2)}) == []


def test_latencies_are_shares_of_the_decisions() -> None:
    tally = ReplayTally(100)

    assert tally.latency_ms(0.5) is None
    tally.latencies_ms += [float(n) for n in range(1, 101)]
    assert (tally.latency_ms(0.5), tally.latency_ms(0.99), tally.latency_ms(1.0)) == (50, 99, 100)
