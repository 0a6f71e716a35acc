"""Statistics of an arm: counts, sums and the moving average, and what a correction does to them."""

from dataclasses import fields
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.qtable import (
    NO_REWARDS,
    ArmStats,
    fold_reward,
    revise_reward,
    rewards_of,
)
from consumer.process import is_compiled
from schemas import MarketRegime, Side
from tests.support.examples import examples

rewards = st.floats(-1000.0, 1000.0) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 3.5])
alphas = st.sampled_from([0.2, 1.0, 1e-3]) | st.floats(0.01, 1.0)
TOLERANCE = 1e-9


DECAY = 0.9


def fold(values: list[float], alpha: float) -> ArmStats:
    stats = NO_REWARDS
    for value in values:
        stats = fold_reward(stats, value, alpha, DECAY)
    return stats


def assert_is_fold_of(stats: ArmStats, values: list[float], alpha: float) -> None:
    """Compare with a recomputation from scratch, by the words of the contract."""
    ema = 0.0
    for number, value in enumerate(values):
        ema = value if number == 0 else (1.0 - alpha) * ema + alpha * value
    assert stats.count == len(values)
    assert stats.win_count == sum(value > 0 for value in values)
    assert stats.loss_count == sum(value < 0 for value in values)
    assert stats.total_r == pytest.approx(sum(values), abs=TOLERANCE)
    assert stats.ema_reward == pytest.approx(ema, abs=TOLERANCE)
    recent = sum(value * DECAY**age for age, value in enumerate(reversed(values)))
    assert stats.recent_r == pytest.approx(recent, abs=TOLERANCE)
    # of squares up to a million each
    assert stats.sum_squares == pytest.approx(sum(v * v for v in values), abs=1e-6)
    assert stats.loss_squares == pytest.approx(sum(v * v for v in values if v < 0), abs=1e-6)
    if values:
        assert stats.avg_reward == pytest.approx(sum(values) / len(values), abs=TOLERANCE)
        assert stats.win_rate == pytest.approx(stats.win_count / len(values), abs=1e-12)


@given(st.lists(rewards, max_size=40), alphas)
def test_rewards_are_counted_summed_and_averaged(values: list[float], alpha: float) -> None:
    assert_is_fold_of(fold(values, alpha), values, alpha)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int | None, float]]:
    """Rewards (None) and corrections (of the reward with this number), in some order."""
    events: list[tuple[int | None, float]] = []
    count = 0
    for _ in range(draw(st.integers(1, 30))):
        corrects = count > 0 and draw(st.booleans())
        events.append((draw(st.integers(0, count - 1)) if corrects else None, draw(rewards)))
        count += not corrects
    return events


@examples(2)
@given(histories(), alphas)
def test_a_correction_stands_as_if_it_had_always_stood_there(
    events: list[tuple[int | None, float]], alpha: float
) -> None:
    """Late fees must neither count twice nor stay: the arm equals one that never saw the error."""
    values: list[float] = []
    stats = NO_REWARDS
    for corrected, value in events:
        if corrected is None:
            values.append(value)
            stats = fold_reward(stats, value, alpha, DECAY)
        else:
            old, values[corrected] = values[corrected], value
            stats = revise_reward(
                stats, old=old, new=value, ordinal=corrected + 1, alpha=alpha, decay=DECAY
            )

        assert_is_fold_of(stats, values, alpha)


@pytest.mark.parametrize("later", [0, 1, 2, 7])
@pytest.mark.parametrize("earlier", [0, 1, 3])
def test_a_correction_moves_the_average_by_the_rewards_weight(earlier: int, later: int) -> None:
    before = fold([1.0] * (earlier + 1 + later), 0.2)

    after = revise_reward(before, old=1.0, new=3.0, ordinal=earlier + 1, alpha=0.2)

    weight = 0.8**later if earlier == 0 else 0.2 * 0.8**later
    assert after.ema_reward - before.ema_reward == pytest.approx(weight * 2.0, abs=1e-12)
    assert after.count == before.count
    assert after.total_r == before.total_r + 2.0


@pytest.mark.parametrize("old", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("new", [-1.0, 0.0, 1.0])
def test_a_correction_moves_wins_and_losses(old: float, new: float) -> None:
    stats = revise_reward(fold([old], 0.2), old=old, new=new, ordinal=1, alpha=0.2)

    assert (stats.win_count, stats.loss_count) == (int(new > 0), int(new < 0))


@pytest.mark.parametrize("reward", [-1000.0, -1.0, 0.0, 0.3, 1000.0])
def test_the_first_reward_is_the_average(reward: float) -> None:
    stats = fold_reward(NO_REWARDS, reward, 0.2)

    assert stats.ema_reward == stats.avg_reward == stats.total_r == reward


def test_the_update_rule_in_numbers() -> None:
    """The specification's example: alpha 0.2, so four parts old and one part new."""
    averages = [
        fold_reward(fold([3.0, 2.0], 0.2), 3.5, 0.2).ema_reward,
        fold([3.0, 2.0], 0.2).ema_reward,
    ]

    assert averages == pytest.approx([2.94, 2.8])


def test_a_flat_trade_is_neither_won_nor_lost() -> None:
    stats = fold([0.0, -0.0, 1.0], 0.2)

    assert (stats.count, stats.win_count, stats.loss_count) == (3, 1, 0)
    assert stats.win_rate == pytest.approx(1 / 3)


def test_an_arm_without_rewards_is_all_zero() -> None:
    assert ArmStats(0, 0.0, 0, 0, 0.0) == NO_REWARDS
    assert (NO_REWARDS.avg_reward, NO_REWARDS.win_rate) == (0.0, 0.0)


@given(st.lists(rewards, min_size=1, max_size=20), alphas)
def test_the_average_lies_within_the_rewards(values: list[float], alpha: float) -> None:
    averages = list(
        accumulate(
            values, lambda stats, value: fold_reward(stats, value, alpha), initial=NO_REWARDS
        )
    )

    for number, stats in enumerate(averages[1:], 1):
        seen = values[:number]
        assert min(seen) - TOLERANCE <= stats.ema_reward <= max(seen) + TOLERANCE


def test_statistics_never_change() -> None:
    before = fold([1.0], 0.2)

    fold_reward(before, 5.0, 0.2)
    revise_reward(before, old=1.0, new=5.0, ordinal=1, alpha=0.2)

    assert before == ArmStats(1, 1.0, 1, 0, 1.0, 1.0, 0.0, 1.0)


def test_numbers_are_all_fields_in_their_order() -> None:
    numbers = (*range(1, 14), (14.0,), (15.0,))
    stats = ArmStats(*numbers)  # type: ignore[arg-type]

    assert stats.numbers == numbers == tuple(getattr(stats, one.name) for one in fields(stats))
    assert stats.with_sums((1.0,), (2.0,)).numbers == (*numbers[:13], (1.0,), (2.0,))


@pytest.mark.skipif(not is_compiled(), reason="the sources leave it to the type checker")
@pytest.mark.parametrize(
    "kept",
    [
        ArmStats(),
        OpenDecision("d", "a", "X", Side.LONG, MarketRegime.UNKNOWN, None, "scalp", 1.0, 1.0, 0),
        FoldedTrade("a", "t", "X", MarketRegime.UNKNOWN, None, "scalp", 1.0, 1, 0, None, 1.0),
    ],
)
def test_what_is_kept_cannot_be_changed(kept: Any) -> None:
    for field in fields(kept):
        with pytest.raises(AttributeError):
            setattr(kept, field.name, getattr(kept, field.name))


def test_rewards_of_a_context_are_those_of_all_its_arms() -> None:
    assert rewards_of({}) == 0
    assert rewards_of({"scalp": ArmStats(count=3), "late": ArmStats(count=4)}) == 7
