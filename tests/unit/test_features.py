"""What is measured of signals, and how rewards are told by it: sums, and a regression on them."""

from math import log, pi
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.decision_log import decode_logged_decision
from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.features import (
    FEATURES,
    NO_FEATURES,
    PRODUCTS,
    Features,
    centre_of,
    features_of,
    fold_features,
    revise_features,
)
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.base import Policy, Situation
from consumer.domain.policies.catalog import SharedPolicy, make_policy
from consumer.domain.policies.evidence import Ladders, deviations_of
from consumer.domain.policies.objective import Objective
from consumer.domain.policies.slopes import Design, Slopes
from consumer.domain.policies.ucb import Ucb
from consumer.domain.qtable import HALF_LIFE, NO_REWARDS, ArmStats, Row, decay_of, fold_reward
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.settings import Settings
from consumer.wire import DecisionEncoder
from schemas import MarketRegime, Signal, TradeClosed
from tests.support.builders import OMIT, START_MS, FakeRecord, make_signal, make_trade

ALONG_THE_SIDE = {"side", "trend", "news sentiment", "higher timeframes"}
ARMS = tuple(STRATEGY_PROFILES)
DECAY = decay_of(HALF_LIFE)
LADDERS = Ladders.of_profiles(STRATEGY_PROFILES, "atr")


def measured(**fields: Any) -> dict[str, float]:
    higher = fields.pop("higher", OMIT)
    signal = Signal.model_validate(make_signal(higher_timeframes=higher, **fields))
    return dict(zip(FEATURES, features_of(signal), strict=True))


# Measuring


def test_features_in_numbers() -> None:
    found = measured(
        side="SHORT",
        atr_pct=0.001,
        adx=30.0,
        trend_strength=0.4,
        volume_24h=1e11,
        depth_5bps=1e4,
        spread_bps=10.0,
        market_cap_rank=10,
        correlation_to_btc=0.7,
        recent_news_sentiment=-0.5,
        confidence=0.75,
        higher=[{"timeframe": "1h", "trend_strength": 0.2}, {"timeframe": "4h", "adx": 20.0}],
    )

    assert found == pytest.approx(
        {
            "side": -1.0,
            "trend": -0.4,
            "adx": 0.2,
            "atr": -1.0,
            "volume": 1.0,
            "depth": -1.0,
            "spread": 0.5,
            "market cap": 0.5,
            "correlation to BTC": 0.7,
            "news sentiment": 0.5,
            "higher timeframes": -0.2,
            "confidence": 0.5,
        }
    )


def test_what_is_not_told_is_usual() -> None:
    names = ("adx", "trend_strength", "volume_24h", "depth_5bps", "spread_bps")
    found = measured(**dict.fromkeys(names, OMIT), atr_pct=0.01)

    assert found == {name: float(name == "side") for name in FEATURES}


sizes = st.sampled_from([OMIT, 0.0, 5e-324, 1e-300, 1.0, 1e6, 1e15])
signed = st.sampled_from([OMIT, -1.0, 0.0, 0.3, 1.0])


@given(
    st.fixed_dictionaries(
        {
            "adx": st.sampled_from([OMIT, 0.0, 25.0, 100.0]),
            "atr_pct": st.sampled_from([1e-300, 0.01, 1e15]),
            "volume_24h": sizes,
            "depth_5bps": sizes,
            "spread_bps": sizes,
            "market_cap_rank": st.sampled_from([OMIT, 1, 10**9]),
            "trend_strength": signed,
            "correlation_to_btc": signed,
            "recent_news_sentiment": signed,
            "confidence": st.sampled_from([OMIT, 0.0, 1.0]),
        }
    ),
    signed,
)
def test_features_lie_within_one_and_turn_with_the_side(
    fields: dict[str, Any], higher: float
) -> None:
    trends = [{"timeframe": "4h", "trend_strength": higher}] if higher is not OMIT else OMIT
    long = measured(**fields, side="LONG", higher=trends)
    short = measured(**fields, side="SHORT", higher=trends)

    assert all(-1.0 <= value <= 1.0 for value in long.values())
    # equal numbers have one spelling: what is kept is compared as text
    assert "-0.0," not in repr([*short.values(), 0])
    for name, value in long.items():
        assert short[name] == (-value if name in ALONG_THE_SIDE else value)


# Sums


def drawn(rng: Random) -> Features:
    return tuple(rng.uniform(-1.0, 1.0) for _ in FEATURES)


def summed(seen: list[tuple[Features, float]], decay: float) -> list[float]:
    """The sums as their definition says."""
    weights = [decay**later for later in reversed(range(len(seen)))]
    z = np.array([(1.0, *x) for x, _ in seen])
    rewards = np.array([reward for _, reward in seen])
    products = (z.T * weights) @ z
    return [*products[np.triu_indices(len(FEATURES) + 1)], *(z.T * weights) @ rewards]


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([1.0, 0.9]))
def test_sums_are_weighted_by_what_came_later(seed: int, count: int, decay: float) -> None:
    rng = Random(seed)
    seen = [(drawn(rng), rng.uniform(-4.0, 12.0)) for _ in range(count)]

    sums: tuple[float, ...] = ()
    for features, reward in seen:
        sums = fold_features(sums, features, reward, decay)

    assert sums == pytest.approx(summed(seen, decay))


@given(st.integers(0, 2**32), st.integers(1, 12), st.data())
def test_a_correction_stands_as_if_it_had_always_stood_there(
    seed: int, count: int, data: st.DataObject
) -> None:
    rng = Random(seed)
    seen = [(drawn(rng), rng.uniform(-4.0, 12.0)) for _ in range(count)]
    place = data.draw(st.integers(0, count - 1))
    corrected = [*seen]
    corrected[place] = (seen[place][0], 7.0)
    sums: tuple[float, ...] = ()
    for features, reward in seen:
        sums = fold_features(sums, features, reward, 0.9)

    change = 7.0 - seen[place][1]
    found = revise_features(sums, seen[place][0], change, 0.9 ** (count - 1 - place))

    assert found == pytest.approx(summed(corrected, 0.9))


def test_rewards_without_features_make_the_others_older() -> None:
    """Else the weight of a correction would not follow from the rewards that came later."""
    features = drawn(Random(1))
    once = fold_features((), features, 2.0, 0.9)

    assert fold_features(once, (), 5.0, 0.9) == pytest.approx([0.9 * value for value in once])
    assert fold_features((), (), 5.0, 0.9) == ()
    assert revise_features((), features, 1.0, 1.0) == ()
    assert revise_features(once, (), 1.0, 1.0) == once


# The regression


def history(seed: int, count: int, slope: float = 0.4) -> list[tuple[Features, float]]:
    """Rewards of deviation 2 that one feature, the tenth, has to do with."""
    rng = Random(seed)
    found = []
    for _ in range(count):
        features = drawn(rng)
        found.append((features, 2.0 * (0.5 + slope * features[9] + rng.gauss(0.0, 1.0))))
    return found


def slopes_of(seen: list[tuple[Features, float]], width: float) -> Slopes:
    sums = tuple(summed(seen, 1.0))
    return Slopes.of_sums(sums, 2.0, Design.of_products(sums[:PRODUCTS], width))


@pytest.mark.parametrize("count", [1, 5, 200])
def test_slopes_are_the_posterior_of_a_linear_model(count: int) -> None:
    """Against the formulas written out with matrices: features and rewards about their means, noise 1."""
    seen = history(1, count)
    x = np.array([features for features, _ in seen])
    y = np.array([reward for _, reward in seen]) / 2.0
    x, y, usual = x - x.mean(axis=0), y - y.mean(), x.mean(axis=0)
    covariance = np.linalg.inv(np.eye(len(FEATURES)) / 0.2**2 + x.T @ x)
    means = covariance @ x.T @ y

    found = slopes_of(seen, 0.2)

    assert found.design.centre == pytest.approx(usual)
    assert found.means == pytest.approx(means)
    asked = drawn(Random(9))
    away = np.array(asked) - usual
    assert found.design.variance([*away]) == pytest.approx(away @ covariance @ away)


@pytest.mark.parametrize("count", [2, 40])
def test_evidence_is_that_of_the_rewards_with_and_without_slopes(count: int) -> None:
    seen = history(2, count)
    x = np.array([features for features, _ in seen])
    y = np.array([reward for _, reward in seen]) / 2.0
    x, y = x - x.mean(axis=0), y - y.mean()

    def log_density(covariance: Any) -> float:
        _, size = np.linalg.slogdet(covariance)
        return float(-0.5 * (size + y @ np.linalg.solve(covariance, y) + count * log(2 * pi)))

    wanted = log_density(np.eye(count) + 0.2**2 * x @ x.T) - log_density(np.eye(count))
    assert slopes_of(seen, 0.2).log_evidence == pytest.approx(wanted)


def test_without_rewards_nothing_is_added_and_little_is_known() -> None:
    features = drawn(Random(3))

    found = Slopes.of_sums((), 2.0, Design.of_products((), 0.2))

    assert (found.means, found.log_evidence) == ([0.0] * len(FEATURES), 0.0)
    wanted = 0.2**2 * sum(value * value for value in features)
    assert found.design.variance(features) == pytest.approx(wanted)


def test_what_is_all_forgotten_was_never_there() -> None:
    """With a short half-life nothing may be left of a weight."""
    sums: tuple[float, ...] = fold_features((), drawn(Random(1)), 2.0, 0.001)
    for _ in range(200):
        sums = fold_features(sums, (), 1.0, 0.001)
    assert sums[0] == 0.0

    found = Slopes.of_sums(sums, 2.0, Design.of_products(sums[:PRODUCTS], 0.2))

    assert (found.means, found.log_evidence) == ([0.0] * len(FEATURES), 0.0)
    assert centre_of(sums) == (0.0, (0.0,) * len(FEATURES))


def test_a_feature_that_never_changes_tells_nothing() -> None:
    """Its sums may be a little off what they are in truth: no root of less than nothing."""
    features = (1.0,) + (0.1,) * (len(FEATURES) - 1)
    sums: tuple[float, ...] = ()
    for number in range(1000):
        sums = fold_features(sums, features, float(number % 7), DECAY)

    found = Slopes.of_sums(sums, 2.0, Design.of_products(sums[:PRODUCTS], 0.2))

    assert found.means == pytest.approx([0.0] * len(FEATURES), abs=1e-9)


# The policy


def told(seen: list[tuple[Features, float]]) -> dict[str, ArmStats]:
    """A row in which each arm had these rewards."""
    stats, sums = NO_REWARDS, NO_FEATURES
    for features, reward in seen:
        sums = fold_features(sums, features, reward, 1.0)
        stats = fold_reward(stats, reward, 0.2)
    return dict.fromkeys(ARMS, stats.with_sums(sums, ()))


def asked(row: dict[str, ArmStats], features: Features) -> Situation:
    return Situation(MarketRegime.TREND_UP, 0.8, row, ARMS, (row, row), features=features)


def estimates(policy: Policy, here: Situation) -> list[float]:
    assert isinstance(policy, Ucb)
    found = policy.estimator.estimate(here, "moderate")
    assert found is not None
    return found.means


def made(name: SharedPolicy, objective: Objective = "profit") -> Policy:
    return make_policy(
        name,
        STRATEGY_PROFILES,
        unit="atr",
        half_life=1e9,
        default_strategy="moderate",
        objective=objective,
    )


@pytest.mark.parametrize(("slope", "least", "most"), [(0.0, 0.0, 0.1), (0.4, 0.25, 0.45)])
def test_features_move_estimates_by_what_they_tell(slope: float, least: float, most: float) -> None:
    """In deviations of a reward: hardly where they tell nothing."""
    row = told(history(7, 400, slope))
    features = tuple(0.9 * (name == "news sentiment") for name in FEATURES)

    plain, moved = (
        estimates(made(name), asked(row, features)) for name in ("kernel_ucb", "linear")
    )

    for one, other in zip(plain, moved, strict=True):
        assert 0.9 * 2.0 * least <= abs(other - one) <= 0.9 * 2.0 * most


def of_two_regimes(truth: float) -> dict[str, Row]:
    """Rows by regime, and the account's, where one arm earns `truth` in one regime and as much less in the other.

    ADX is what tells the regimes apart, and nothing else.
    """
    rng = Random(3)
    rows: dict[str, dict[str, ArmStats]] = {"up": {}, "down": {}, "all": {}}
    for arm in ("moderate", "scalp"):
        for _ in range(1000):
            for regime, sign in (("up", 1.0), ("down", -1.0)):
                features = tuple(sign * (name == "adx") for name in FEATURES)
                reward = rng.gauss(sign * truth if arm == "moderate" else 0.0, 2.0)
                for row in (regime, "all"):
                    stats = rows[row].get(arm, NO_REWARDS)
                    sums = fold_features(stats.feature_sums, features, reward, 1.0)
                    rows[row][arm] = fold_reward(stats, reward, 0.2).with_sums(sums, ())
    return rows


@pytest.mark.parametrize("truth", [0.6, 1.5])
def test_what_tells_regimes_apart_is_not_counted_twice(truth: float) -> None:
    """The rows know it already."""
    rows = of_two_regimes(truth)
    for regime, sign in (("up", 1.0), ("down", -1.0)):
        here = Situation(
            MarketRegime.TREND_UP,
            0.8,
            rows[regime],
            ("moderate", "scalp"),
            (rows["all"], rows[regime]),
            features=tuple(sign * (name == "adx") for name in FEATURES),
        )

        plain, moved = estimates(made("kernel_ucb"), here), estimates(made("linear"), here)

        assert moved == pytest.approx(plain, abs=0.15 * truth)


def test_without_features_it_is_kernel_ucb() -> None:
    row = told(history(8, 50))

    assert estimates(made("linear"), asked(row, ())) == estimates(
        made("kernel_ucb"), asked(row, ())
    )


def test_by_the_sharpe_ratio_they_count_in_deviations() -> None:
    row = told(history(7, 400))
    features = drawn(Random(2))

    found = estimates(made("linear", "sharpe"), asked(row, features))

    for value, mean in zip(found, estimates(made("linear"), asked(row, features)), strict=True):
        assert value == pytest.approx(
            mean / deviations_of("scalp", row["scalp"], LADDERS)[0], rel=0.02
        )


def test_reasoning_names_what_moved_the_choice_most() -> None:
    features = tuple(0.9 * (name == "news sentiment") for name in FEATURES)

    choice = made("linear").choose(asked(told(history(7, 300)), features), Random(1))

    assert ", most by news sentiment +0." in choice.reasoning


# The fold


def test_only_the_log_is_needed_to_know_it_again() -> None:
    """Decisions carry what was measured: a rebuild and a replay have nothing else."""
    settings = Settings(meta_strategy_policy="linear", _env_file=None)  # type: ignore[call-arg]
    live, again = PartitionState(settings.fold), PartitionState(settings.fold)
    encoder = DecisionEncoder("linear", "")
    rng = Random(4)
    for number in range(40):
        signal = Signal.model_validate(
            make_signal(recent_news_sentiment=rng.uniform(-1.0, 1.0), adx=rng.uniform(26.0, 50.0))
        )
        decision = settings.decider.decide(signal, live, now_ms=START_MS + number, degraded=False)
        assert decision is not None
        logged = decode_logged_decision(encoder.encode(decision, FakeRecord(b"")).value, START_MS)
        assert logged is not None
        assert logged.remembered.features == features_of(signal)
        again.admit(logged.remembered, is_exploration=logged.is_exploration, entry=logged.entry)
        trade = TradeClosed.model_validate(
            make_trade(decision_id=decision.decision_id, realized_r=rng.gauss(0.2, 2.0))
        )
        for state in (live, again):
            state.fold_trade(trade, START_MS + number)

    assert again.table.parents == live.table.parents
    account = live.table.parents[ParentKey("default", None)]
    assert sum(bool(stats.feature_sums) for stats in account.values()) >= 2
    row = live.table.row(ContextKey("default", "BTCUSDT", MarketRegime.TREND_UP))
    for name, stats in row.items():
        # one regime, one symbol: what the context keeps is the beginning of what the account does
        assert stats.feature_sums == account[name].feature_sums[: len(FEATURES) + 1]


@pytest.mark.parametrize("features", [[0.5], [0.1] * 13, [2.0] * 12, "x", [None] * 12])
def test_a_decision_with_other_features_is_none_or_has_none(features: Any) -> None:
    """Another release may measure other things: its decisions count all the same."""
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    state = PartitionState(settings.fold)
    signal = Signal.model_validate(make_signal())
    decision = settings.decider.decide(signal, state, now_ms=START_MS, degraded=False)
    assert decision is not None
    value = DecisionEncoder("linear", "").encode(decision, FakeRecord(b"")).value
    assert value is not None
    changed = value.replace(
        b'"features":null',
        b'"features":' + repr(features).replace("'", '"').replace("None", "null").encode(),
    )
    assert changed != value

    logged = decode_logged_decision(changed, START_MS)

    assert logged is None or logged.remembered.features == ()
    assert (logged is not None) == (features in ([0.5], [0.1] * 13))


def test_only_for_policies_that_look_at_them_are_signals_measured() -> None:
    """Nobody else pays for it, and what the log tells is folded whoever decides: to turn to such a policy
    needs no rebuild."""
    names = ("epsilon_greedy", "ucb", "kernel_ucb", "linear", "thompson", "full_information")
    measured_by = []
    for name in names:
        settings = Settings(meta_strategy_policy=name, _env_file=None)  # type: ignore[call-arg]
        signal = Signal.model_validate(make_signal())
        decision = settings.decider.decide(
            signal, PartitionState(settings.fold), now_ms=START_MS, degraded=False
        )
        assert decision is not None
        if decision.features:
            measured_by.append(name)

    assert measured_by == ["linear", "full_information"]
