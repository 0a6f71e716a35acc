"""What a step adds to the worker's instruments, counted as the step is made."""

from dataclasses import dataclass, field

from consumer.decide import Decision
from consumer.domain.partition_state import FoldResult


@dataclass(slots=True)
class StepCounts:
    """Decisions and rewards of a step, by what tells them apart.

    A step waits for its transaction with thousands of others; what it was made of does not have to.
    """

    decisions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By strategy, regime and mode."""
    signal_ts: list[int] = field(default_factory=list)
    """When each signal was made [Unix ms]."""
    received_s: list[float] = field(default_factory=list)
    """When each was read, by `time.perf_counter` [s]."""
    dwelt_s: dict[str, list[float]] = field(default_factory=dict)
    """How long regimes held that ended [s]."""
    rewards: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    """By strategy, regime and outcome [R]."""
    attributions: dict[str, int] = field(default_factory=dict)
    """Of trades to their decisions."""
    paths: dict[str, int] = field(default_factory=dict)
    """Of trades that were learned from, by what became of them."""

    def decide(self, decision: Decision, received_s: float) -> None:
        """Count a decision on a signal that was read then."""
        regime, choice, ts_ms = decision.regime.regime, decision.choice, decision.signal.ts
        kind = (choice.arm, regime, choice.mode)
        self.decisions[kind] = self.decisions.get(kind, 0) + 1
        self.signal_ts.append(ts_ms)
        self.received_s.append(received_s)
        held = decision.held
        if held is not None and held.regime is not regime:
            lasted_s = max(0.0, (ts_ms - held.since_ms) / 1000)
            self.dwelt_s.setdefault(str(held.regime), []).append(lasted_s)

    def learn(self, result: FoldResult) -> None:
        """Count a closed trade by what it did."""
        context = result.context
        if context is None:
            return
        kind = (result.strategy, context.regime, result.outcome)
        rewards = self.rewards.get(kind)
        if rewards is None:
            rewards = self.rewards[kind] = []
        rewards.append(result.reward)
        how = result.attribution
        if how is not None:
            self.attributions[how] = self.attributions.get(how, 0) + 1
        path = result.path
        if path is not None:
            self.paths[path] = self.paths.get(path, 0) + 1
