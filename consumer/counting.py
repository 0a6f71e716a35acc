"""What a step did -> the worker's instruments."""

from typing import Final

from consumer.step_counts import StepCounts
from consumer.telemetry.metrics import Metrics

_LEARNED: Final = frozenset({"win", "loss", "flat"})
"""Outcomes of trades that were learned from."""


def count_step(metrics: Metrics, counts: StepCounts, *, now_s: float, now_ms: int) -> None:
    """Count what was committed together.

    Args:
        metrics: The instruments.
        counts: Of a step.
        now_s: When it was committed, by `time.perf_counter` [s].
        now_ms: The same [Unix ms].
    """
    for (strategy, regime, mode), count in counts.decisions.items():
        metrics.signals(str(regime)).inc(count)
        metrics.decisions(str(strategy), str(regime), str(mode)).inc(count)
    for name, lasted_s in counts.dwelt_s.items():
        metrics.regime_dwell_seconds(name).observe_all(lasted_s)
    if counts.signal_ts:
        ages_s = [max(0.0, (now_ms - ts_ms) / 1000) for ts_ms in counts.signal_ts]
        metrics.decision_seconds.observe_all([now_s - read_s for read_s in counts.received_s])
        metrics.end_to_end_seconds.observe_all(ages_s)
    for (strategy, regime, outcome), rewards in counts.rewards.items():
        arm = (str(strategy), str(regime))
        metrics.rewards(*arm, outcome).inc(len(rewards))
        if outcome in _LEARNED:
            metrics.reward_r(*arm).observe_all(rewards)
        if outcome == "win":
            metrics.reward_gain_r(*arm).inc(sum(rewards))
        elif outcome == "loss":
            metrics.reward_loss_r(*arm).inc(-sum(rewards))
    for attribution, count in counts.attributions.items():
        metrics.attributions(attribution).inc(count)
    for path, count in counts.paths.items():
        metrics.paths(path).inc(count)
