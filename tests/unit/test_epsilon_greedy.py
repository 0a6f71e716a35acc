"""The specification's rule of choice: honest about its randomness, or all research is biased."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy, arm_confidence
from consumer.domain.qtable import ArmStats
from schemas import MarketRegime, Mode
from tests.support.examples import examples

TREND = ("moderate", "moderate_aggressive", "balanced_aggressive", "ultra_aggressive")
COLD = "ultra_aggressive"
"""What a trend of less than 0.9 takes while it is not known."""


class Always:
    """Draws that are the same number for ever."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self) -> float:
        return self._number


EXPLORING = Always(0.0)
EXPLOITING = Always(1.0 - 2**-53)


def arm(count: int, ema: float) -> ArmStats:
    return ArmStats(count=count, ema_reward=ema, total_r=ema * count)


def situation(row: dict[str, ArmStats], **fields: Any) -> Situation:
    sure = {"regime": MarketRegime.TREND_UP, "regime_confidence": 0.85, "candidates": TREND}
    return Situation(row=row, **{**sure, **fields})


def choose(row: dict[str, ArmStats], draws: Any = EXPLOITING, **rules: Any) -> Choice:
    return EpsilonGreedy(**rules).choose(situation(row), draws)


averages = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 3.245])


@st.composite
def rows(draw: st.DrawFn) -> dict[str, ArmStats]:
    """Few values, so that ties are frequent; arms that are no candidates have rewards, too."""
    known = draw(st.lists(st.sampled_from([*TREND, "scalp", "gone"]), unique=True))
    return {name: arm(draw(st.integers(1, 9)), draw(averages)) for name in known}


situations = st.builds(
    situation,
    # few, so that most of what tells two apart is alike
    st.sampled_from([{}, *({name: arm(2, 0.5)} for name in TREND), {TREND[0]: arm(7, 0.5)}]),
    regime=st.sampled_from([MarketRegime.TREND_UP, MarketRegime.UNKNOWN]),
    regime_confidence=st.sampled_from([0.85, 0.95]),
    candidates=st.sampled_from([TREND, TREND[:2], (*TREND, "trend_rider")]),
)


@examples(3)
@given(st.lists(situations, min_size=2, max_size=20), st.sampled_from([5, 40]))
def test_what_was_worked_out_before_changes_no_choice(
    asked: list[Situation], min_samples: int
) -> None:
    """Choices are kept, by all that they depend on."""
    rules = {"min_samples": min_samples, "epsilon_min": 0.01}
    kept = EpsilonGreedy(**rules)  # type: ignore[arg-type]

    for one in asked:
        for draws in (EXPLOITING, EXPLORING):
            assert kept.choose(one, draws) == EpsilonGreedy(**rules).choose(one, draws)  # type: ignore[arg-type]


@examples(3)
@given(
    rows(),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.4, 0.5, 0.8, 1.0]),
    st.integers(0, 1000),
)
def test_choice_follows_the_rule(
    row: dict[str, ArmStats], epsilon: float, min_samples: int, trusted: float, seed: int
) -> None:
    """The contract's section 3, word by word."""
    policy = EpsilonGreedy(
        base_epsilon=epsilon, min_samples=min_samples, min_confidence_for_exploit=trusted
    )
    rewards = sum(stats.count for stats in row.values())
    values = [row[name].ema_reward if name in row else 0.0 for name in TREND]
    best = TREND[values.index(max(values))]
    best_count = row[best].count if best in row else 0
    is_known = rewards >= min_samples and 1 - 2 ** (-best_count / 4) >= trusted
    greedy, mode = (best, Mode.EXPLOIT) if is_known else (COLD, Mode.HEURISTIC)

    choice = policy.choose(situation(row), Random(seed))

    for name in TREND:
        share = epsilon / len(TREND) + (1.0 - epsilon) * (name == greedy)
        assert choice.propensities[name] == pytest.approx(share, abs=1e-12)
    assert list(choice.propensities) == list(TREND)
    assert sum(choice.propensities.values()) == pytest.approx(1.0, abs=1e-12)
    assert choice.propensity == choice.propensities[choice.arm]
    assert choice.arm in TREND
    if choice.mode is Mode.EXPLORE:
        assert epsilon > 0.0
    else:
        assert (choice.arm, choice.mode) == (greedy, mode)
        assert epsilon < 1.0
    chosen_count = row[choice.arm].count if choice.arm in row else 0
    assert choice.confidence == pytest.approx(1 - 2 ** (-chosen_count / 4), abs=1e-12)
    assert choice.reasoning
    assert "\n" not in choice.reasoning
    if choice.mode is Mode.EXPLOIT:
        assert choice.reasoning == f"Exploitation: highest Q-value={max(values):.3f}"


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("row", [{}, {"moderate": arm(20, 1.0)}], ids=["cold start", "known"])
def test_propensity_is_the_frequency_of_the_arm(epsilon: float, row: dict[str, ArmStats]) -> None:
    """Off-policy estimates divide by the propensity: a wrong one biases all research."""
    rng, n = Random(7), 5_000
    policy = EpsilonGreedy(base_epsilon=epsilon)
    here = situation(row)

    choices = [policy.choose(here, rng) for _ in range(n)]

    picks = Counter(choice.arm for choice in choices)
    for name, share in choices[0].propensities.items():
        # four standard errors of a share p of n draws are at most 4 sqrt(p (1 - p) / n)
        assert picks[name] / n == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    explored = sum(choice.mode is Mode.EXPLORE for choice in choices)
    assert explored / n == pytest.approx(epsilon, abs=4 * (epsilon * (1.0 - epsilon) / n) ** 0.5)


def test_exploring_can_hit_the_greedy_arm() -> None:
    """It is a draw from all candidates: the greedy one's share of it is part of its propensity."""
    policy, rng = EpsilonGreedy(base_epsilon=0.5), Random(3)
    here = situation({"moderate": arm(20, 1.0)})

    choices = [policy.choose(here, rng) for _ in range(300)]

    explored = {choice.arm for choice in choices if choice.mode is Mode.EXPLORE}
    assert explored == set(TREND)


def test_same_draws_give_the_same_choice() -> None:
    policy, here = EpsilonGreedy(base_epsilon=0.5), situation({"moderate": arm(9, 1.0)})

    chosen = [[policy.choose(here, rng) for _ in range(50)] for rng in (Random(5), Random(5))]

    assert chosen[0] == chosen[1]


def test_exploiting_names_the_q_value() -> None:
    choice = choose({"moderate": arm(12, 3.2451), COLD: arm(40, 3.2449)})

    assert choice.arm == "moderate"
    assert choice.reasoning == "Exploitation: highest Q-value=3.245"
    assert f"{choice.confidence:.0%}" == "88%"


def test_an_untried_arm_counts_as_zero() -> None:
    """A strategy that only lost must not be kept because the others are unknown."""
    lost = {"moderate": arm(20, -0.5), "moderate_aggressive": arm(20, -0.1)}

    choice = choose(lost, min_confidence_for_exploit=0.0)

    assert choice.arm == "balanced_aggressive"
    assert choice.mode is Mode.EXPLOIT
    assert choice.reasoning == "Exploitation: highest Q-value=0.000"


def test_an_untrusted_best_arm_gives_way_to_the_cold_start() -> None:
    """The best one here was never tried: its Q-value of 0 is no knowledge."""
    choice = choose({"moderate": arm(20, -0.5)})

    assert (choice.arm, choice.mode) == (COLD, Mode.HEURISTIC)


def test_ties_go_to_the_order_of_the_table() -> None:
    """And not to the order in which the arms were tried."""
    tied = {name: arm(20, 1.0) for name in reversed(TREND)}

    assert choose(tied).arm == TREND[0]


@pytest.mark.parametrize(("rewards", "mode"), [(4, Mode.HEURISTIC), (5, Mode.EXPLOIT)])
def test_exploiting_starts_at_min_samples_of_the_context(rewards: int, mode: Mode) -> None:
    one_arm = choose({"moderate": arm(rewards, 1.0)})
    other_arms = choose({"moderate": arm(4, 1.0), "gone": arm(rewards - 4, -9.0)})

    assert one_arm.mode is mode
    assert other_arms.mode is mode


@pytest.mark.parametrize(("count", "mode"), [(3, Mode.HEURISTIC), (4, Mode.EXPLOIT)])
def test_exploiting_needs_half_confidence(count: int, mode: Mode) -> None:
    """Four rewards give exactly 0.5, which is not below the limit."""
    choice = choose({"moderate": arm(count, 1.0), COLD: arm(20, 0.5)})

    assert choice.mode is mode


@pytest.mark.parametrize(("count", "confidence"), [(0, 0.0), (4, 0.5), (8, 0.75), (12, 0.875)])
def test_confidence_halves_its_distance_to_one_every_four_rewards(
    count: int, confidence: float
) -> None:
    assert arm_confidence(count) == pytest.approx(confidence, abs=1e-12)
    assert 0.0 <= arm_confidence(10**6) <= 1.0


@pytest.mark.parametrize("draws", [EXPLORING, EXPLOITING])
def test_confidence_is_the_chosen_arms_in_every_mode(draws: Any) -> None:
    row = {name: arm(8, 0.5) for name in TREND} | {COLD: arm(2, 0.4)}

    choice = choose(row, draws, base_epsilon=0.5)

    assert choice.confidence == pytest.approx(0.75 if choice.arm != COLD else 1 - 2**-0.5)
    cold = choose({COLD: arm(2, 0.4)})
    assert cold.mode is Mode.HEURISTIC
    assert cold.confidence == pytest.approx(1 - 2**-0.5)


def test_exploring_applies_in_cold_start_too() -> None:
    choice = choose({}, EXPLORING, base_epsilon=0.2)

    assert choice.mode is Mode.EXPLORE
    assert choice.propensities[COLD] == pytest.approx(0.85)
    assert choice.propensities["moderate"] == pytest.approx(0.05)


def test_without_epsilon_nothing_is_ever_explored() -> None:
    assert choose({}, EXPLORING, base_epsilon=0.0).mode is Mode.HEURISTIC


def test_one_candidate_is_certain() -> None:
    here = situation({}, candidates=("moderate",))

    choice = EpsilonGreedy(base_epsilon=0.3).choose(here, EXPLOITING)

    assert dict(choice.propensities) == {"moderate": pytest.approx(1.0)}
    assert choice.propensity == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "strategy"),
    [
        ({"regime_confidence": 0.9, "candidates": (*TREND, "trend_rider")}, "trend_rider"),
        ({"regime_confidence": 0.89, "candidates": (*TREND, "trend_rider")}, COLD),
        ({"regime_confidence": 0.9}, "moderate"),
        ({"candidates": ("balanced_aggressive", "moderate")}, "balanced_aggressive"),
        ({"regime": MarketRegime.UNKNOWN}, "moderate_aggressive"),
        ({"regime": MarketRegime.UNKNOWN, "candidates": ("scalp",)}, "scalp"),
    ],
)
def test_cold_start_choice_gives_way_to_the_first_candidate(
    fields: dict[str, Any], strategy: str
) -> None:
    policy = EpsilonGreedy(default_strategy="moderate_aggressive")

    choice = policy.choose(situation({}, **fields), EXPLOITING)

    assert (choice.arm, choice.mode) == (strategy, Mode.HEURISTIC)


DECAY: list[tuple[dict[str, float], int, float]] = [
    ({"base_epsilon": 0.1}, 0, 0.1),
    ({"base_epsilon": 0.1}, 5_000, 0.1),  # constant without a minimum of its own
    ({"base_epsilon": 0.2, "epsilon_min": 0.05}, 0, 0.2),
    ({"base_epsilon": 0.2, "epsilon_min": 0.05}, 100, 0.2 * 0.995**100),
    ({"base_epsilon": 0.2, "epsilon_min": 0.05}, 5_000, 0.05),
    ({"base_epsilon": 0.2, "epsilon_min": 0.0, "epsilon_decay": 0.5}, 3, 0.025),
    ({"base_epsilon": 0.2, "epsilon_min": 0.0, "epsilon_decay": 1.0}, 99, 0.2),
    ({"base_epsilon": 0.2, "epsilon_min": 0.0, "epsilon_decay": 0.5}, 10**7, 0.0),
]


@pytest.mark.parametrize(("rules", "rewards", "epsilon"), DECAY)
def test_epsilon_decays_with_the_rewards_of_the_context(
    rules: dict[str, float], rewards: int, epsilon: float
) -> None:
    assert EpsilonGreedy(**rules).epsilon(rewards) == pytest.approx(epsilon, abs=1e-15)


@pytest.mark.parametrize(
    ("rules", "epsilon"),
    [
        ({}, 0.1),
        ({"base_epsilon": 0.2, "epsilon_min": 0.05}, 0.2),
        ({"base_epsilon": 0.2, "epsilon_min": 0.3}, 0.3),
    ],
)
def test_the_first_epsilon_is_what_a_new_context_is_explored_with(
    rules: dict[str, float], epsilon: float
) -> None:
    policy = EpsilonGreedy(**rules)

    choice = policy.choose(situation({}), EXPLOITING)

    assert policy.initial_epsilon == epsilon
    assert choice.propensity == pytest.approx(1.0 - epsilon + epsilon / len(choice.propensities))


def test_propensities_follow_the_decayed_epsilon() -> None:
    row = {"moderate": arm(60, 1.0), "gone": arm(40, 1.0)}

    choice = choose(row, base_epsilon=0.2, epsilon_min=0.05)

    epsilon = 0.2 * 0.995**100
    assert choice.propensity == pytest.approx(1.0 - epsilon + epsilon / 4, abs=1e-12)


@pytest.mark.parametrize(
    "rules",
    [
        {"base_epsilon": -0.1},
        {"base_epsilon": 1.1},
        {"base_epsilon": float("nan")},
        {"epsilon_min": -0.1},
        {"epsilon_min": 1.5},
        {"epsilon_decay": 0.0},
        {"epsilon_decay": 1.5},
    ],
)
def test_rules_out_of_range_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        EpsilonGreedy(**rules)


def test_parameters_tell_policies_apart() -> None:
    """They are part of `policy_version`: two different rules must never share one."""
    rules: list[dict[str, Any]] = [
        {},
        {"base_epsilon": 0.2},
        {"epsilon_min": 0.05},
        {"epsilon_decay": 0.9},
        {"min_samples": 6},
        {"min_confidence_for_exploit": 0.6},
        {"default_strategy": "scalp"},
    ]

    found = [sorted(EpsilonGreedy(**rule).parameters().items()) for rule in rules]

    assert all(found.count(one) == 1 for one in found)
    assert EpsilonGreedy().name == "epsilon_greedy"
