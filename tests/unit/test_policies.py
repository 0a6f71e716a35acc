"""The policies that lean on parents: honest, the same for the same rows, never out of their limits."""

from collections import Counter
from functools import cache
from math import log, sqrt
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.policies.base import Policy, Situation
from consumer.domain.policies.beliefs import Alike, Apart, Estimate
from consumer.domain.policies.catalog import SharedPolicy, make_policy
from consumer.domain.policies.estimators import Estimator, correlation_of
from consumer.domain.policies.evidence import Ladders, deviations_of, seen_in
from consumer.domain.policies.objective import DOWNSIDE_WEIGHT, MEASURES, Objective, utilities
from consumer.domain.policies.thompson import Thompson, best_probabilities
from consumer.domain.policies.ucb import Ucb
from consumer.domain.qtable import (
    HALF_LIFE,
    NO_REWARDS,
    NO_ROW,
    Row,
    decay_of,
    fold_paper_reward,
    fold_reward,
)
from consumer.domain.strategies import STRATEGY_PROFILES
from schemas import MarketRegime, Mode, StrategyID
from tests.support.examples import examples

NAMES: tuple[SharedPolicy, ...] = get_args(SharedPolicy)
ARMS = tuple(str(name) for name in StrategyID)
LADDERS = Ladders.of_profiles(STRATEGY_PROFILES, "atr")
DECAY = decay_of(HALF_LIFE)


def policy(name: SharedPolicy, objective: Objective = "profit") -> Policy:
    return make_policy(
        name,
        STRATEGY_PROFILES,
        unit="atr",
        half_life=HALF_LIFE,
        default_strategy="ultra_aggressive",
        objective=objective,
    )


def row(rewards: dict[str, list[float]], *, on_paper: bool = False) -> Row:
    found = {}
    for name, values in rewards.items():
        stats = NO_REWARDS
        for value in values:
            if on_paper:
                stats = fold_paper_reward(stats, value, DECAY)
            else:
                stats = fold_reward(stats, value, 0.2, DECAY)
        found[name] = stats
    return found


def spread(mean: float, deviation: float, count: int) -> list[float]:
    """Give rewards with this mean, half of them above and half below it."""
    return [mean + (deviation if number % 2 else -deviation) for number in range(count)]


def situation(own: Row, parents: tuple[Row, Row] = (NO_ROW, NO_ROW), **fields: Any) -> Situation:
    usual = {"regime": MarketRegime.TREND_UP, "regime_confidence": 0.5, "candidates": ARMS}
    return Situation(row=own, parents=parents, **{**usual, **fields})


rewards = st.floats(-4.0, 12.0)
# a byte is one of 256 rewards: bytes are drawn at once
some_rewards = st.binary(max_size=12).map(lambda drawn: [byte / 255 * 16.0 - 4.0 for byte in drawn])
tables = st.dictionaries(st.sampled_from(ARMS), some_rewards)


@examples(2)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(list(MarketRegime)),
    st.lists(st.sampled_from(ARMS), min_size=1, unique=True),
    st.tuples(tables, tables, tables),
    st.integers(0, 99),
)
def test_choice_is_a_candidate_with_honest_propensities(
    name: SharedPolicy,
    regime: MarketRegime,
    candidates: list[str],
    found: tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[float]]],
    seed: int,
) -> None:
    widest, parent, own = map(row, found)
    here = situation(own, (widest, parent), regime=regime, candidates=tuple(candidates))

    choice = policy(name).choose(here, Random(seed))

    assert choice.arm in candidates
    assert list(choice.propensities) == candidates
    assert all(0.0 <= share <= 1.0 for share in choice.propensities.values())
    assert sum(choice.propensities.values()) == pytest.approx(1.0, abs=1e-12)
    assert choice.propensity > 0.0
    assert choice == policy(name).choose(here, Random(seed)), "nothing but rows and draws counts"


@pytest.mark.parametrize("name", NAMES)
def test_propensities_are_the_frequencies(name: SharedPolicy) -> None:
    table = row({arm: spread(0.1 * number, 2.0, 12) for number, arm in enumerate(ARMS)})
    here = situation(table, (table, table))
    draws, chooser = Random(7), policy(name)
    count = 4000

    seen = Counter(chooser.choose(here, draws).arm for _ in range(count))

    for arm, share in chooser.choose(here, draws).propensities.items():
        # four deviations of a share
        assert seen[arm] / count == pytest.approx(share, abs=4 * sqrt(0.25 / count))


@pytest.mark.parametrize("name", NAMES)
def test_before_any_reward_the_regime_decides(name: SharedPolicy) -> None:
    choice = policy(name).choose(situation({}), Random(1))

    assert (choice.arm, choice.mode, choice.propensity) == (
        "ultra_aggressive",
        Mode.HEURISTIC,
        1.0,
    )
    calm = situation({}, regime=MarketRegime.RANGE_LOW_VOL)
    assert policy(name).choose(calm, Random(1)).arm == "scalp"


@pytest.mark.parametrize("name", ["ucb", "kernel_ucb", "full_information"])
def test_an_arm_that_is_clearly_best_is_taken(name: SharedPolicy) -> None:
    """Whichever it is: the belief that arms are alike must give way."""
    for best in ARMS:
        table = row({arm: spread(2.0 if arm == best else 0.5, 1.5, 60) for arm in ARMS})

        assert policy(name).choose(situation(table, (table, table)), Random(1)).arm == best


@pytest.mark.parametrize("are_alike", [False, True])
def test_a_context_without_rewards_has_its_parents_means(*, are_alike: bool) -> None:
    estimator = Estimator(ladders=LADDERS, half_life=HALF_LIFE, are_alike=are_alike)
    by_width = sorted(ARMS, key=LADDERS.log_width.__getitem__)
    parent = row({arm: spread(0.2 * number, 2.0, 80) for number, arm in enumerate(by_width)})

    found = estimator.estimate(situation({}, (parent, parent)), ARMS[0])

    assert found is not None
    assert found.means == pytest.approx(found.prior_means)
    means = dict(zip(ARMS, found.means, strict=True))
    assert sorted(ARMS, key=means.__getitem__) == by_width, "shrunk, not turned around"


@cache
def row_of_many() -> Row:
    """5,000 rewards of each arm, none of them forgotten."""
    decay = decay_of(1e6)
    found = {}
    for number, arm in enumerate(ARMS):
        stats = NO_REWARDS
        for value in spread(-0.2 * number, 1.0, 5_000):
            stats = fold_reward(stats, value, 0.2, decay)
        found[arm] = stats
    return found


@pytest.mark.parametrize("are_alike", [False, True])
def test_a_context_with_many_rewards_has_its_own_means(*, are_alike: bool) -> None:
    estimator = Estimator(ladders=LADDERS, half_life=1e6, are_alike=are_alike)
    table = row({arm: spread(0.3 * number, 1.0, 2) for number, arm in enumerate(ARMS)})

    found = estimator.estimate(situation(row_of_many(), (table, table)), ARMS[0])

    assert found is not None
    assert found.means == pytest.approx([-0.2 * number for number in range(7)], abs=0.02)


def test_deviations_shrink_with_rewards() -> None:
    estimator = Estimator(ladders=LADDERS, half_life=HALF_LIFE)
    parent = row({arm: spread(0.0, 2.0, 50) for arm in ARMS})
    few = row({arm: spread(0.0, 2.0, 4) for arm in ARMS})
    many = row({arm: spread(0.0, 2.0, 90) for arm in ARMS})

    little, much = (
        estimator.estimate(situation(own, (parent, parent)), ARMS[0]) for own in (few, many)
    )

    assert little is not None
    assert much is not None
    assert all(a < b for a, b in zip(much.deviations, little.deviations, strict=True))


def test_neighbours_tell_of_each_other_while_they_pay_alike() -> None:
    parent = row({arm: spread(0.0, 2.0, 30) for arm in ARMS})
    own = row({"defensive": spread(0.8, 1.5, 30)})
    near, far = ARMS.index("scalp"), ARMS.index("trend_rider")

    apart, alike = (
        Estimator(ladders=LADDERS, half_life=HALF_LIFE, are_alike=are_alike).estimate(
            situation(own, (parent, parent)), ARMS[0]
        )
        for are_alike in (False, True)
    )

    assert apart is not None
    assert alike is not None
    assert apart.means[near] == pytest.approx(apart.prior_means[near])
    assert alike.means[near] - alike.prior_means[near] > 0.05
    scale = LADDERS.variance["trend_rider"] ** 0.5 / LADDERS.variance["scalp"] ** 0.5
    gains = [alike.means[arm] - alike.prior_means[arm] for arm in (near, far)]
    assert gains[1] / scale < 0.5 * gains[0], "a far one hears less"


def test_correlations_fall_with_distance() -> None:
    first, *_ = correlation_of([0.0, 0.5, 1.0, 3.0])

    assert first[0] == 1.0
    assert list(first) == sorted(first, reverse=True)
    assert first[-1] < 0.01


@pytest.mark.parametrize("variance", [0.0, 1e6])
@pytest.mark.parametrize("are_alike", [False, True])
def test_many_arms_with_many_rewards_are_no_trouble(*, are_alike: bool, variance: float) -> None:
    """The product of what is unsure of each lies far outside of what a float holds."""
    count, n = 150, 1e7
    none = [0.0] * count
    correlation = tuple(
        tuple(float(one == other) for other in range(count)) for one in range(count)
    )
    before = Alike.before(none, 0.0, correlation) if are_alike else Apart.before(none, 0.0)

    after = before.widened(sqrt(variance)).told([(arm, n, 0.0) for arm in range(count)])

    assert after.log_evidence == pytest.approx(-0.5 * count * log(variance + 1.0 / n))


@examples(2)
@given(st.dictionaries(st.sampled_from(ARMS), some_rewards.filter(len), min_size=1))
def test_order_of_arms_in_a_row_tells_nothing(table: dict[str, list[float]]) -> None:
    known = row(table)
    turned = dict(reversed(known.items()))
    for name in NAMES:
        one, other = (
            policy(name).choose(situation(found, (found, found)), Random(3))
            for found in (known, turned)
        )
        assert one == other


def test_rewards_are_measured_by_their_own_deviation() -> None:
    wide = spread(0.0, 3.0, 40)
    known = row({"scalp": wide})
    deviation, _ = deviations_of("scalp", known["scalp"], LADDERS)
    unknown, _ = deviations_of("moderate", NO_REWARDS, LADDERS)
    seen = seen_in(known, ("scalp", "moderate"), [deviation, unknown], DECAY)

    assert 2.8 < deviation < 3.1
    assert unknown == pytest.approx(LADDERS.variance["moderate"] ** 0.5)
    ((number, weight, mean),) = seen
    assert number == 0
    assert weight == pytest.approx(40, rel=0.1)
    assert mean == pytest.approx(known["scalp"].recent_r / (weight * deviation), abs=1e-12)


def test_nothing_is_believed_before_the_first_reward_of_a_candidate() -> None:
    known = row({"scalp": [1.0]})
    estimator = Estimator(ladders=LADDERS, half_life=HALF_LIFE)

    assert estimator.estimate(situation(known, (NO_ROW, NO_ROW)), "scalp") is None
    assert estimator.estimate(situation(known, (known, NO_ROW)), "scalp") is not None


def test_ladders_in_risk_count_in_stops() -> None:
    """A ladder's spread follows its stop: in multiples of the stop it is that much less."""
    risk = Ladders.of_profiles(STRATEGY_PROFILES, "risk")

    assert risk.variance["trend_rider"] == pytest.approx(LADDERS.variance["trend_rider"] / 4.0)
    assert risk.variance["moderate"] == pytest.approx(LADDERS.variance["moderate"])
    assert risk.log_width == LADDERS.log_width


def test_probabilities_of_being_best() -> None:
    equal = best_probabilities([1.0, 1.0, 1.0, 1.0], [0.5] * 4)
    assert equal == pytest.approx([0.25] * 4)

    # of two Gaussians: the share of their difference above 0; 0.841 at one deviation
    shares = best_probabilities([1.0, 0.0], [sqrt(0.5), sqrt(0.5)])
    assert shares == pytest.approx([0.841, 0.159], abs=0.01)
    assert best_probabilities([50.0, 0.0], [1.0, 1.0]) == [1.0, 0.0]


def test_reasoning_explains_itself() -> None:
    table = row({arm: spread(0.5, 1.0, 34) for arm in ARMS})
    here = situation(table, (table, table))

    for name, opening in (("ucb", "UCB: bound "), ("thompson", "Thompson: the best with ")):
        reasoning = policy(name).choose(here, Random(1)).reasoning  # type: ignore[arg-type]
        assert reasoning.startswith(opening)
        assert "of 34 rewards, prior " in reasoning
        assert reasoning.endswith(" from trend_up")


def test_outcomes_on_paper_stay_apart_from_what_was_earned() -> None:
    earned = {arm: spread(2.0 if arm == "scalp" else 0.0, 1.0, 60) for arm in ARMS}
    paper = {arm: spread(2.0 if arm == "moderate" else 0.0, 1.0, 60) for arm in ARMS}
    both = {}
    for arm, real in row(earned).items():
        stats = real
        for value in paper[arm]:
            stats = fold_paper_reward(stats, value, DECAY)
        both[arm] = stats

    for table, known, unknown in ((both, "moderate", "scalp"), (row(earned), "scalp", "scalp")):
        here = situation(table, (table, table))
        assert policy("full_information").choose(here, Random(1)).arm == known
        assert policy("kernel_ucb").choose(here, Random(1)).arm == unknown


@pytest.mark.parametrize("name", NAMES)
def test_parameters_tell_policies_apart(name: SharedPolicy) -> None:
    others = [policy(other).parameters() for other in NAMES if other != name]

    assert policy(name).name == name
    assert policy(name).parameters() not in others
    assert policy(name).parameters() == policy(name).parameters()
    assert policy(name).initial_epsilon == 0.0


def test_values_out_of_range_are_refused() -> None:
    estimator = Estimator(ladders=LADDERS, half_life=HALF_LIFE)

    with pytest.raises(ValueError, match=r"width must be at least 0, was -1\.0"):
        Ucb(estimator=estimator, width=-1.0)
    with pytest.raises(ValueError, match=r"scale must be above 0, was 0\.0"):
        Thompson(estimator=estimator, scale=0.0)


_SOME_ROWS: tuple[Row, ...] = (
    NO_ROW,
    row({"scalp": spread(0.4, 1.0, 6), "moderate": spread(-0.2, 1.5, 8)}),
    row({"scalp": spread(-0.5, 1.0, 5)}),
    row({arm: spread(0.2 * number, 2.0, 9) for number, arm in enumerate(ARMS)}),
)
_SOME_CANDIDATES = (ARMS, ARMS[:3], ARMS[4:], ("trend_rider",))
_SOME_FEATURES: tuple[tuple[float, ...], ...] = ((), (0.5,) * 12, (-0.5,) * 12)


@examples(2)
@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(
            st.sampled_from((MarketRegime.TREND_UP, MarketRegime.UNKNOWN)),
            st.sampled_from((0.5, 0.95)),
            st.sampled_from(_SOME_ROWS),
            st.sampled_from(_SOME_CANDIDATES),
            st.tuples(st.sampled_from(_SOME_ROWS), st.sampled_from(_SOME_ROWS)),
            st.booleans(),
            st.sampled_from(_SOME_FEATURES),
        ),
        max_size=12,
    ),
)
def test_what_was_chosen_before_changes_no_choice(
    name: SharedPolicy, asked: list[tuple[Any, ...]]
) -> None:
    """Results are kept by row: of the same ones, in other situations too."""
    old = policy(name)

    for fields in asked:
        here = Situation(*fields)
        assert old.choose(here, Random(1)) == policy(name).choose(here, Random(1))


def test_a_long_life_keeps_no_more_than_some_results() -> None:
    """Every reward makes new rows: results of old ones must not pile up."""
    chooser = policy("ucb")
    parent = row({"scalp": [1.0]})

    for number in range(1500):
        chooser.choose(situation({"scalp": parent["scalp"]}, (parent, parent)), Random(number))

    assert len(chooser._kept._found._found) <= 1024  # type: ignore[attr-defined]


# What is to be earned

CALM, WILD, SKEWED = "moderate", "trend_rider", "ultra_aggressive"
"""The second has the highest mean reward, but rare great losses; the third has rare great gains."""
SEEN = {
    CALM: [0.0, 1.0] * 2_000,
    WILD: [2.5, 2.5, -5.0, 2.5, 2.5] * 800,
    SKEWED: [-0.5, -0.5, 6.5, -0.5, -0.5] * 800,
}


@cache
def row_of_seen() -> Row:
    return row(SEEN)


@pytest.mark.parametrize(
    ("objective", "best"), [("profit", WILD), ("sharpe", CALM), ("drawdown", SKEWED)]
)
@pytest.mark.parametrize("name", ["ucb", "kernel_ucb", "thompson"])
def test_another_objective_has_another_best_strategy(
    name: SharedPolicy, objective: Objective, best: str
) -> None:
    known = row_of_seen()
    asked = situation(known, (known, known), candidates=(CALM, WILD, SKEWED))

    choice = policy(name, objective).choose(asked, Random(1))

    assert max(choice.propensities, key=choice.propensities.__getitem__) == best
    assert f" {MEASURES[objective]} " in choice.reasoning


def test_paper_serves_each_objective_as_well() -> None:
    known = row(SEEN, on_paper=True)
    asked = situation(known, (known, known), candidates=(CALM, WILD, SKEWED))

    chosen = {aim: policy("full_information", aim).choose(asked, Random(1)).arm for aim in MEASURES}

    assert chosen == {"profit": WILD, "sharpe": CALM, "drawdown": SKEWED}


@given(
    st.lists(
        st.tuples(rewards, st.floats(0.1, 9.0), st.floats(0.1, 9.0), st.floats(0.0, 9.0)),
        min_size=1,
    )
)
def test_utilities_are_what_they_say(arms: list[tuple[float, float, float, float]]) -> None:
    means, unsure, deviations, downsides = map(list, zip(*arms, strict=True))
    estimate = Estimate(means, unsure, means)

    def of(objective: Objective) -> Estimate:
        return utilities(estimate, objective, deviations=deviations, downsides=downsides)

    assert of("profit") == estimate
    for index, (mean, sure, deviation, downside) in enumerate(arms):
        assert of("sharpe").means[index] * deviation == pytest.approx(mean)
        assert of("sharpe").deviations[index] * deviation == pytest.approx(sure)
        assert of("drawdown").means[index] == mean - DOWNSIDE_WEIGHT * downside
        assert of("drawdown").deviations[index] == sure


def test_the_objective_is_part_of_the_version() -> None:
    told = {aim: policy("ucb", aim).parameters() for aim in MEASURES}

    assert len({tuple(sorted(parameters.items())) for parameters in told.values()}) == 3


@given(st.lists(rewards, max_size=60))
def test_downside_is_that_of_the_losses_and_of_the_ladder_before_any(values: list[float]) -> None:
    seen = row({"scalp": [0.0, *values]})
    _, downside = deviations_of("scalp", seen["scalp"], LADDERS)

    prior, count = LADDERS.loss_variance["scalp"], len(values) + 1
    losses = sum(value * value for value in values if value < 0.0)
    assert downside == pytest.approx(sqrt((3 * prior + losses) / (3 + count)))
    assert 0.0 < prior < LADDERS.variance["scalp"]
