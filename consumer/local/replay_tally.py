"""What has happened in a replay so far: the numbers on the demo's screen, and its verdict."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.local.table_reader import Arm
from consumer.words import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.local.table_reader import ArmRow
    from schemas import StrategyDecision

# Shown at most of each kind of complaint; the first ones tell what is wrong.
_SHOWN = 5


@dataclass(slots=True)
class StrategyTally:
    """One strategy over all symbols and regimes."""

    chosen: int = 0
    explored: int = 0
    trades: int = 0
    wins: int = 0
    total_r: float = 0.0
    """Net of fees [R]."""

    @property
    def mean_r(self) -> float | None:
        """Mean profit of a trade [R]; None without trades."""
        return self.total_r / self.trades if self.trades else None

    @property
    def win_rate(self) -> float | None:
        """Share of trades that earned something [1]; None without trades."""
        return self.wins / self.trades if self.trades else None


@dataclass(slots=True)
class ReplayTally:
    """Counts of one replay; written by the paper executor, read by whoever shows them."""

    signals: int
    """How many are to be sent."""
    repeats_allowed: bool = False
    """At least once: a decision may come again, the first counts."""
    sent: int = 0
    decided: int = 0
    trades: int = 0
    """Trades published."""
    rewards: int = 0
    """Trades published whose reward stands in Redis."""
    repeats: int = 0
    """Decisions that came again."""
    busy_s: float = 0.0
    """Since the first signal was sent [s]."""
    regimes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    strategies: dict[str, StrategyTally] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    """From a signal being sent to its decision being read back, committed [ms]."""
    rewards_due: Counter[Arm] = field(default_factory=Counter)
    """Trades published, by the arm that their decision names."""
    unanswered: list[str] = field(default_factory=list)
    """Ids of signals without a decision at the end."""
    refused: list[str] = field(default_factory=list)
    """Ids of signals that became dead letters."""
    dead_letters: list[str] = field(default_factory=list)
    """One line each."""
    surprises: list[str] = field(default_factory=list)
    """What must not happen: a decision that does not fit its signal."""

    def note_decision(self, decision: StrategyDecision, latency_ms: float) -> None:
        """Count the first decision of a signal."""
        self.decided += 1
        self.regimes[decision.regime] += 1
        self.modes[decision.mode] += 1
        tally = self.strategies.setdefault(decision.strategy, StrategyTally())
        tally.chosen += 1
        tally.explored += decision.is_exploration
        self.latencies_ms.append(latency_ms)

    def note_trade(self, decision: StrategyDecision, reward_r: float) -> None:
        """Count a trade that was published."""
        self.trades += 1
        tally = self.strategies[decision.strategy]
        tally.trades += 1
        tally.wins += reward_r > 0.0
        tally.total_r += reward_r
        self.rewards_due[Arm(decision.symbol, decision.regime, decision.strategy)] += 1

    def latency_ms(self, share: float) -> float | None:
        """Give the latency that a share [1] of the decisions does not exceed; None without any."""
        if not self.latencies_ms:
            return None
        ordered = sorted(self.latencies_ms)
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]

    @property
    def signals_per_s(self) -> float:
        """Decisions per second of the replay so far."""
        return self.decided / self.busy_s if self.busy_s else 0.0

    def shortfalls(self, before: Mapping[Arm, ArmRow], after: Mapping[Arm, ArmRow]) -> list[str]:
        """Say what is missing: one decision a signal, one reward a trade; empty when all is there.

        Args:
            before: The table as it was before the replay.
            after: The table as it is now.
        """
        unsent = self.signals - self.sent
        untraded = self.decided - self.trades
        unlearned = self.trades - self.rewards
        missing = [
            *_if_any(len(self.unanswered), "signal", f"unanswered: {_list(self.unanswered)}"),
            *_if_any(len(self.refused), "signal", f"refused: {_list(self.refused)}"),
            *_if_any(unsent, "signal", "not sent"),
            *_if_any(untraded, "decision", "not traded"),
            *_if_any(unlearned, "trade", "not learned from"),
            *_if_any(0 if self.repeats_allowed else self.repeats, "decision", "too many: repeats"),
        ]
        wrong = [
            f"{arm.symbol} {arm.regime} {arm.strategy}: {gained} {plural(gained, 'reward')} for {due} "
            f"{plural(due, 'trade')}"
            for arm in sorted({*self.rewards_due, *after})
            if (gained := _count(after, arm) - _count(before, arm))
            != (due := self.rewards_due[arm])
        ]
        return missing + _shortened(wrong) + _shortened(self.dead_letters + self.surprises)


def _count(rows: Mapping[Arm, ArmRow], arm: Arm) -> int:
    return rows[arm].count if arm in rows else 0


def _if_any(number: int, what: str, problem: str) -> list[str]:
    return [f"{number:,} {plural(number, what)} {problem}"] if number > 0 else []


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shortened(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"... and {more} more like these"] if more > 0 else [])]
