"""Eligible arms -> policy -> choice."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields

from consumer.domain.draws import Draws
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.ladder import ladders_of
from consumer.domain.policies.base import NO_PARENTS, Choice, Policy, Situation
from consumer.domain.policies.epsilon_greedy import arm_confidence
from consumer.domain.qtable import NO_REWARDS, Row
from consumer.domain.quick import quick
from consumer.domain.regime import RegimeDetector, RegimeResult
from consumer.domain.strategies import CandidateRule, candidates
from consumer.domain.tpsl import has_valid_levels
from consumer.errors import BadMessageError
from schemas import DeadLetterCode, MarketRegime, Mode, Side, StrategyProfile


class Selector:
    """Chooses a strategy for a signal.

    Args:
        profiles: All strategies by id, in the order that settles ties.
        policy: How to choose among the eligible ones.
        candidate_rule: `suitable` or `all`.
        default_strategy: Id of the strategy taken when nothing suits, or when disabled.
        enabled: False takes the default strategy always.
        cost_bps: What a round trip costs besides the spread [basis points]: a strategy whose first
            target would not pay it is no candidate; None does not look at costs.
    """

    def __init__(
        self,
        profiles: Mapping[str, StrategyProfile],
        policy: Policy,
        *,
        candidate_rule: CandidateRule,
        default_strategy: str,
        enabled: bool = True,
        cost_bps: float | None = None,
    ) -> None:
        if default_strategy not in profiles:
            raise ValueError(
                f"default strategy must be one of {', '.join(profiles)}, was {default_strategy!r}"
            )
        self.profiles = profiles
        self.ladders = ladders_of(profiles)
        self.policy = policy
        self.enabled = enabled
        self._cost_bps = cost_bps
        self._default = default_strategy
        self._rule = candidate_rule
        self._by_regime: dict[MarketRegime, tuple[str, ...]] = {
            regime: tuple(
                str(p.strategy_id)
                for p in candidates(profiles, regime, candidate_rule, default_strategy)
            )
            for regime in MarketRegime
        }
        # below this many ATR of price no ladder can reach zero: the usual signal skips the check
        self._widest = max(max(one.stop, one.targets[2]) for one in self.ladders.values())

    def choose(
        self,
        regime: RegimeResult,
        row: Row,
        draws: Draws,
        *,
        side: Side,
        entry: float,
        atr: float,
        spread_bps: float | None = None,
        parents: tuple[Row, Row] = NO_PARENTS,
        trusts_paper: bool = True,
        features: Features = NO_FEATURES,
    ) -> Choice:
        """Choose a strategy.

        Args:
            regime: The market's state.
            row: What is known of each arm in this context.
            draws: The only source of randomness.
            side: Direction of the position.
            entry: Price at the signal [quote].
            atr: Average true range [quote].
            spread_bps: Bid-ask spread [basis points]; None counts as none.
            parents: The same over all symbols: of the account, and of the regime in it.
            trusts_paper: Whether outcomes on paper agreed with those that were earned.
            features: Of the signal, where they are kept.

        Raises:
            BadMessageError: Every strategy would have a level at or below zero.
        """
        if not self.enabled:
            arms = self._with_valid_levels((str(self._default),), side, entry, atr)
            return Choice(
                arms[0],
                {arms[0]: 1.0},
                Mode.DEFAULT,
                arm_confidence(row.get(arms[0], NO_REWARDS).count),
                "Default: the selector is disabled",
            )
        arms = self._by_regime[regime.regime]
        if not entry > self._widest * atr:
            arms = self._with_valid_levels(arms, side, entry, atr)
        if self._cost_bps is not None:
            cost_atr = (self._cost_bps + (spread_bps or 0.0)) / 10_000 * entry / atr
            arms = self._worth_their_costs(arms, cost_atr)
        return self.policy.choose(
            quick(
                Situation,
                (regime.regime, regime.confidence, row, arms, parents, trusts_paper, features),
            ),
            draws,
        )

    def _worth_their_costs(self, arms: tuple[str, ...], cost_atr: float) -> tuple[str, ...]:
        """Leave out whose first target is not beyond the costs; of none left, take the furthest."""
        first = {arm: self.profiles[arm].r_tp1 for arm in arms}
        furthest = max(first.values())
        return tuple(arm for arm in arms if first[arm] > cost_atr or first[arm] == furthest)

    def _with_valid_levels(
        self, arms: tuple[str, ...], side: Side, entry: float, atr: float
    ) -> tuple[str, ...]:
        found = tuple(arm for arm in arms if has_valid_levels(self.ladders[arm], side, entry, atr))
        if not found:
            raise BadMessageError(
                DeadLetterCode.INVALID_LEVELS,
                f"market.atr: is {atr:.6g} at a price of {entry:.6g}: every candidate "
                f"({', '.join(arms)}) has a level at or below zero",
            )
        return found

    def version(
        self, detector: RegimeDetector, fold: FoldSettings, seed: int, max_signal_age_ms: int = 0
    ) -> str:
        """Give a short hash of all that a decision depends on besides logs, signal and id."""
        content = {
            "policy": dict(self.policy.parameters()),
            "enabled": self.enabled,
            "default": self._default,
            "candidates": self._rule,
            "cost_bps": self._cost_bps,
            "profiles": [p.model_dump(mode="json") for p in self.profiles.values()],
            "regimes": asdict(detector),
            # how a table came of the logs; its ladders are the profiles'
            "fold": {
                one.name: sorted(value) if isinstance(value, frozenset) else value
                for one in fields(fold)
                if one.name != "ladders"
                for value in [getattr(fold, one.name)]
            },
            "seed": seed,
            "max_signal_age_ms": max_signal_age_ms,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
