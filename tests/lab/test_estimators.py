"""Off-policy estimators against closed forms and small cases worked by hand."""

import tracemalloc
from itertools import product

import numpy as np
import pytest

from lab import estimators
from lab.measures import Interval

# A bandit with two arms that pay 1 or 0: probability of 1, of the arm when logged, under the target.
PAYS, LOGGED, TARGET = (0.3, 0.7), (0.8, 0.2), (0.25, 0.75)
VALUE = sum(t * q for t, q in zip(TARGET, PAYS, strict=True))
# E[w^2 r^2] - v^2, with w = t / p: the variance of one decision's term
IPS_VARIANCE = sum(t * t / p * q for t, p, q in zip(TARGET, LOGGED, PAYS, strict=True)) - VALUE**2


def logs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, weights and arms of n logged decisions."""
    rng = np.random.default_rng(seed)
    arms = rng.choice(2, size=n, p=LOGGED)
    rewards = (rng.random(n) < np.array(PAYS)[arms]).astype(float)
    return rewards, estimators.weights(np.array(TARGET)[arms], np.array(LOGGED)[arms]), arms


def model_of(arms: np.ndarray, pays: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """What a model of these rewards expects of the target, and of the arms taken."""
    expected = sum(t * q for t, q in zip(TARGET, pays, strict=True))
    return np.full(arms.size, expected), np.array(pays)[arms]


def test_ips_is_unbiased_to_the_last_digit() -> None:
    """Over all logs of two decisions, each weighted by its probability."""
    outcomes = [
        (p * (q if r else 1 - q), t / p, float(r))
        for (p, t, q), r in product(zip(LOGGED, TARGET, PAYS, strict=True), (0, 1))
    ]
    mean = square = 0.0
    for (p1, w1, r1), (p2, w2, r2) in product(outcomes, repeat=2):
        value = estimators.ips(np.array([r1, r2]), np.array([w1, w2])).value
        mean += p1 * p2 * value
        square += p1 * p2 * value**2

    assert mean == pytest.approx(VALUE, abs=1e-15)
    assert square - mean**2 == pytest.approx(IPS_VARIANCE / 2, abs=1e-15)


def test_ips_interval_has_the_width_of_its_variance() -> None:
    n = 200_000
    found = estimators.ips(*logs(n, seed=1)[:2])

    half = 1.96 * (IPS_VARIANCE / n) ** 0.5
    assert found.high - found.value == pytest.approx(half, rel=0.02)
    assert found.value == pytest.approx(VALUE, abs=2 * half)


@pytest.mark.parametrize("name", ["ips", "snips", "doubly_robust"])
def test_intervals_hold_the_truth_in_95_of_100_logs(name: str) -> None:
    """Of 600 logs 95 % have a standard deviation of 0.9 %: 4 of them, and the skew of 300 terms."""
    held = 0
    for seed in range(600):
        rewards, w, arms = logs(300, seed)
        if name == "doubly_robust":
            found = estimators.doubly_robust(rewards, w, *model_of(arms, (0.5, 0.5)))
        else:
            found = getattr(estimators, name)(rewards, w)
        held += found.low <= VALUE <= found.high

    assert 0.91 < held / 600 < 0.985


def test_small_case_by_hand() -> None:
    """Two decisions of arm a (propensity 1/2), one of b (1/4); the target takes a with 1/4, b 3/4."""
    rewards = np.array([2.0, -1.0, 1.0])
    w = estimators.weights(np.array([0.25, 0.25, 0.75]), np.array([0.5, 0.5, 0.25]))

    assert w.tolist() == [0.5, 0.5, 3.0]
    # (1 - 1/2 + 3) / 3, and the same over the sum of weights
    assert estimators.ips(rewards, w).value == pytest.approx(3.5 / 3)
    snips = estimators.snips(rewards, w)
    assert snips.value == pytest.approx(3.5 / 4)
    # v = 0.875: 0.25 (1.125)^2 + 0.25 (1.875)^2 + 9 (0.125)^2 = 1.3359375, its root over 4
    assert snips.high - snips.value == pytest.approx(1.96 * 1.3359375**0.5 / 4)
    # 4^2 / (0.25 + 0.25 + 9)
    assert estimators.effective_sample_size(w) == pytest.approx(16 / 9.5)
    # a model that expects 1 of a and 0 of b: m = 1/4, errors 1, -2, 1
    model, taken = np.full(3, 0.25), np.array([1.0, 1.0, 0.0])
    found = estimators.doubly_robust(rewards, w, model, taken)
    assert found.value == pytest.approx(0.25 + (0.5 - 1.0 + 3.0) / 3)


def test_a_constant_is_added_to_snips_not_to_ips() -> None:
    """Rewards are measured from an arbitrary zero: the reason for self-normalizing."""
    rewards, w, _ = logs(50, seed=3)

    moved = estimators.snips(rewards + 10.0, w).value - estimators.snips(rewards, w).value
    ips = estimators.ips(rewards + 10.0, w).value - estimators.ips(rewards, w).value

    assert moved == pytest.approx(10.0)
    assert ips == pytest.approx(10.0 * w.mean())


def test_the_logging_policy_itself_is_worth_its_mean() -> None:
    rewards, _, arms = logs(100, seed=4)
    w = np.ones(100)

    _, taken = model_of(arms, (0.4, 0.4))
    for found in (
        estimators.ips(rewards, w),
        estimators.snips(rewards, w),
        estimators.doubly_robust(rewards, w, taken, taken),
    ):
        assert found.value == pytest.approx(rewards.mean())
    assert estimators.effective_sample_size(w) == pytest.approx(100.0)


def test_a_perfect_model_needs_no_correction() -> None:
    """Rewards without noise, and a model that knows them: DR is the model, without any width."""
    pays = (-1.0, 2.5)
    _, w, arms = logs(80, seed=5)
    model, taken = model_of(arms, pays)

    found = estimators.doubly_robust(np.array(pays)[arms], w, model, taken)

    assert found == estimators.direct(model)
    assert found.value == pytest.approx(0.25 * -1.0 + 0.75 * 2.5)
    assert found.high - found.low == pytest.approx(0.0, abs=1e-12)


def test_without_a_model_doubly_robust_is_ips() -> None:
    rewards, w, _ = logs(80, seed=6)
    nothing = np.zeros(80)

    assert estimators.doubly_robust(rewards, w, nothing, nothing) == estimators.ips(rewards, w)


def test_a_model_of_any_kind_leaves_doubly_robust_unbiased() -> None:
    """A model that is wrong on purpose; 400 logs, tolerance 4 standard errors of their mean."""
    found = []
    for seed in range(400):
        rewards, w, arms = logs(100, seed)
        found.append(estimators.doubly_robust(rewards, w, *model_of(arms, (5.0, -3.0))).value)

    values = np.array(found)
    assert values.mean() == pytest.approx(VALUE, abs=4 * values.std() / 20)


def test_gain_is_the_difference_of_both_values_and_none_over_oneself() -> None:
    rewards, w, arms = logs(80, seed=9)
    pays = (0.2, 0.6)
    model, taken = model_of(arms, pays)
    at_work = np.full(80, sum(p * q for p, q in zip(LOGGED, pays, strict=True)))

    found = estimators.gain(rewards, w, model - at_work, taken)

    other = estimators.doubly_robust(rewards, w, model, taken).value
    same = estimators.doubly_robust(rewards, np.ones(80), at_work, taken).value
    assert found.value == pytest.approx(other - same)
    nothing = estimators.gain(rewards, np.ones(80), np.zeros(80), taken)
    assert nothing == pytest.approx((0.0, 0.0, 0.0))


def test_an_unknown_reward_counts_as_the_model_expects() -> None:
    rewards, w, arms = logs(60, seed=7)
    model, taken = model_of(arms, (0.2, 0.6))
    unknown = np.arange(60) % 3 == 0

    found = estimators.doubly_robust(np.where(unknown, np.nan, rewards), w, model, taken)
    filled = estimators.doubly_robust(np.where(unknown, taken, rewards), w, model, taken)

    assert found == filled


def test_resampled_interval_agrees_with_the_normal_one() -> None:
    rewards, w, _ = logs(2000, seed=8)

    normal, drawn = estimators.snips(rewards, w), estimators.snips_bootstrap(rewards, w, seed=1)

    assert drawn.value == normal.value
    width = normal.high - normal.low
    assert drawn.low == pytest.approx(normal.low, abs=0.08 * width)
    assert drawn.high == pytest.approx(normal.high, abs=0.08 * width)
    assert drawn == estimators.snips_bootstrap(rewards, w, seed=1)


def test_effective_sample_size_of_one_heavy_decision_is_one() -> None:
    assert estimators.effective_sample_size(np.array([7.0, 0.0, 0.0])) == pytest.approx(1.0)
    assert estimators.effective_sample_size(np.zeros(3)) == 0.0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="propensity above 0"):
        estimators.weights(np.array([0.5]), np.array([0.0]))
    with pytest.raises(ValueError, match="none of the logged arms"):
        estimators.snips(np.array([1.0]), np.array([0.0]))


def test_one_decision_has_no_width() -> None:
    found = estimators.ips(np.array([1.0]), np.array([2.0]))

    assert found == Interval(2.0, float("-inf"), float("inf"))


def test_objectives_by_hand() -> None:
    """Weights 1, 1, 2: as the four trades -2, 1, 3, 3."""
    found = estimators.objectives(np.array([3.0, -2.0, 1.0]), np.array([2.0, 1.0, 1.0]), seed=1)

    assert found.profit == pytest.approx(5 / 4)
    assert found.sharpe == pytest.approx(1.25 / (23 / 4 - 1.25**2) ** 0.5)
    assert found.downside == pytest.approx(1.0)  # root of 4 / 4
    assert found.cvar == pytest.approx(-2.0)


def test_cvar_takes_part_of_a_heavy_trade() -> None:
    """A weight of 1 % at -10, the next 50 % at -1: the worst 5 % hold 1 of the one, 4 of the other."""
    found = estimators.objectives(np.array([-10.0, -1.0, 2.0]), np.array([1.0, 50.0, 49.0]), seed=1)

    assert found.cvar == pytest.approx((0.01 * -10 + 0.04 * -1) / 0.05)


def test_drawdown_of_a_certain_loss_is_all_of_it() -> None:
    found = estimators.objectives(np.full(10, -1.5), np.ones(10), seed=1)

    assert (found.drawdown, found.drawdown_95) == (15.0, 15.0)
    assert found.sharpe is None


def test_drawdowns_are_those_of_all_orders_drawn_at_once() -> None:
    """The same draws in the same order: the formula, over a matrix of 500 orders."""
    rewards, w, _ = logs(200, seed=2)
    rewards -= 0.5

    found = estimators.objectives(rewards, w, seed=3)

    drawn = np.random.default_rng(3).choice(rewards, size=(500, 200), p=w / w.sum())
    paths = np.cumsum(drawn, axis=1)
    falls = np.maximum(np.maximum.accumulate(paths, axis=1), 0.0) - paths
    assert [found.drawdown, found.drawdown_95] == list(np.percentile(falls.max(axis=1), [50, 95]))


def test_memory_grows_with_the_decisions_not_with_the_orders_drawn() -> None:
    """A hundred thousand trades fit: a column of 4,000 takes 32 kB, 500 orders of it 16 MB."""
    rewards = np.random.default_rng(1).normal(size=4000)

    tracemalloc.start()
    estimators.objectives(rewards, np.ones(4000), seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000
