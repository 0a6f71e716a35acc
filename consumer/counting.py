"""What a step did -> the worker's instruments."""

from collections.abc import Sequence
from typing import Final

from consumer.decide import Decision
from consumer.domain.partition_state import FoldResult
from consumer.telemetry.metrics import Metrics
from schemas import TradeClosed

_LEARNED: Final = frozenset({"win", "loss", "flat"})


def count_decisions(
    metrics: Metrics, decided: Sequence[Decision], *, took_s: float, now_ms: int
) -> None:
    """Count decisions that were committed together.

    Args:
        metrics: The instruments.
        decided: At least one decision.
        took_s: Since their signals were received [s].
        now_ms: When they were committed [Unix ms].
    """
    kinds: dict[tuple[str, str, str], int] = {}
    dwelt: dict[str, list[float]] = {}
    ages_s: list[float] = []
    for decision in decided:
        regime, choice, ts_ms = decision.regime.regime, decision.choice, decision.signal.ts
        kind = (choice.arm, regime, choice.mode)
        kinds[kind] = kinds.get(kind, 0) + 1
        ages_s.append(max(0.0, (now_ms - ts_ms) / 1000))
        held = decision.held
        if held is not None and held.regime is not regime:
            dwelt.setdefault(str(held.regime), []).append(max(0.0, (ts_ms - held.since_ms) / 1000))
    for (arm, of_regime, mode), count in kinds.items():
        metrics.signals(str(of_regime)).inc(count)
        metrics.decisions(str(arm), str(of_regime), str(mode)).inc(count)
    for name, lasted_s in dwelt.items():
        metrics.regime_dwell_seconds(name).observe_all(lasted_s)
    metrics.decision_seconds.observe_times(took_s, len(ages_s))
    metrics.end_to_end_seconds.observe_all(ages_s)


def count_rewards(metrics: Metrics, learned: Sequence[tuple[TradeClosed, FoldResult]]) -> None:
    """Count closed trades that were committed together, with what each did."""
    found: dict[tuple[str, str, str], list[float]] = {}
    attributions: dict[str, int] = {}
    for trade, result in learned:
        context = result.context
        if context is None:
            continue
        kind = (result.strategy, context.regime, result.outcome)
        rewards = found.get(kind)
        if rewards is None:
            rewards = found[kind] = []
        rewards.append(result.reward)
        if result.attribution is not None:
            attributions[result.attribution] = attributions.get(result.attribution, 0) + 1
        if trade.path and result.outcome in _LEARNED:
            metrics.paths("folded" if result.paper else "refused").inc()
    for (strategy, regime, outcome), rewards in found.items():
        arm = (str(strategy), str(regime))
        metrics.rewards(*arm, outcome).inc(len(rewards))
        if outcome in _LEARNED:
            metrics.reward_r(*arm).observe_all(rewards)
        if outcome == "win":
            metrics.reward_gain_r(*arm).inc(sum(rewards))
        elif outcome == "loss":
            metrics.reward_loss_r(*arm).inc(-sum(rewards))
    for attribution, count in attributions.items():
        metrics.attributions(attribution).inc(count)
