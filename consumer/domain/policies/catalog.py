"""The policies that learn from shared rows, by the names that settings give them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from consumer.domain.policies.base import Policy
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.evidence import Ladders, on_paper
from consumer.domain.policies.full_information import FullInformation
from consumer.domain.policies.linear import LinearEstimator, paper_by_features
from consumer.domain.policies.objective import Objective
from consumer.domain.policies.thompson import Thompson
from consumer.domain.policies.ucb import Ucb
from consumer.domain.reward import RewardUnit
from schemas import StrategyProfile

SharedPolicy = Literal["ucb", "kernel_ucb", "linear", "thompson", "full_information"]
PolicyName = Literal[
    "epsilon_greedy", "ucb", "kernel_ucb", "linear", "thompson", "full_information"
]

LOOKS_AT_FEATURES: frozenset[PolicyName] = frozenset({"linear", "full_information"})
"""Those whose signals are measured."""

_PATH_WIDTH, _FOLLOWED_WIDTH = 1.0, 0.5
"""Deviations of the bound on paper: where paths end at the exit a wide ladder has to be held for longer
to be seen to its end, where candles go on nothing has to be tried."""


def make_policy(
    name: SharedPolicy,
    profiles: Mapping[str, StrategyProfile],
    *,
    unit: RewardUnit,
    half_life: float,
    default_strategy: str,
    objective: Objective = "profit",
    follows: bool = False,
) -> Policy:
    """Make a policy.

    Args:
        name: Which.
        profiles: All strategies by id.
        unit: Of the rewards.
        half_life: As the rows are folded [rewards].
        default_strategy: Id of the strategy taken where the regime is unknown.
        objective: What is to be earned.
        follows: Whether outcomes on paper come from candles, which go on, and not from paths.
    """
    apart = Estimator(
        ladders=Ladders.of_profiles(profiles, unit), half_life=half_life, objective=objective
    )
    alike = replace(apart, are_alike=True)
    ucb = Ucb(estimator=alike, default_strategy=default_strategy, name="kernel_ucb")
    match name:
        case "ucb":
            return replace(ucb, estimator=apart, name=name)
        case "kernel_ucb":
            return ucb
        case "linear":
            return replace(ucb, estimator=LinearEstimator(base=alike), name=name)
        case "thompson":
            return Thompson(estimator=apart, default_strategy=default_strategy)
        case "full_information":
            paper = replace(alike, rewards=on_paper)
            return FullInformation(
                on_paper=Ucb(
                    estimator=LinearEstimator(base=paper, sums_of=paper_by_features),
                    width=_FOLLOWED_WIDTH if follows else _PATH_WIDTH,
                    default_strategy=default_strategy,
                ),
                earned=ucb,
            )
