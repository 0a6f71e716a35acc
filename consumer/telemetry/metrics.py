"""All instruments (contract, section 7). No label holds a symbol, an account or an id."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.samples import Sample

from consumer.domain.following import CandleOutcome
from consumer.telemetry.buckets import bucket_counts

_LATENCY_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_REDIS_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.0)
_DWELL_BUCKETS_S = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 3 * 86_400, 7 * 86_400)
_REWARD_BUCKETS_R = (-10, -5, -3, -2, -1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 12)

PREFIX = "meta_strategy_"


class BatchHistogram(Histogram):
    """A histogram that takes a batch of values at the price of few."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Count every value; the same as `observe` on each (a test compares them)."""
        # the library has no such call: its own takes as long as a decision's draw and levels
        for bucket, count in bucket_counts(self._upper_bounds, values).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(values))


class SignedHistogram(BatchHistogram):
    """A histogram of values of both signs that still tells their sum.

    The library leaves the sum out, since a rate of it means nothing when it may fall. It is there
    to be read (contract, section 7); rates are taken of gain and loss.
    """

    def _child_samples(self) -> Iterable[Sample]:
        samples = list(super()._child_samples())
        if all(sample.name != "_sum" for sample in samples):
            samples.append(Sample("_sum", {}, self._sum.get(), None, None))
        return samples


class Metrics:
    """The worker's instruments, in a registry of their own.

    Children of labelled instruments are kept: looking one up costs more than counting.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=self.registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], *labels: str
        ) -> BatchHistogram:
            return BatchHistogram(
                PREFIX + name, text, labels, registry=self.registry, buckets=buckets
            )

        signals = counter("signals", "Signals answered with a decision.", "regime")
        self.signals = cache(signals.labels)
        decisions = counter("decisions", "Decisions committed.", "strategy", "regime", "mode")
        self.decisions = cache(decisions.labels)
        rewards = counter("rewards", "Rewards counted.", "strategy", "regime", "outcome")
        self.rewards = cache(rewards.labels)
        reward_r = SignedHistogram(
            PREFIX + "reward_r",
            "Rewards learned [R, in the table's unit]; the sum may fall, rate gain and loss.",
            ("strategy", "regime"),
            registry=self.registry,
            buckets=_REWARD_BUCKETS_R,
        )
        self.reward_r = cache(reward_r.labels)
        gain = counter("reward_gain_r", "Sum of rewards above 0 [R].", "strategy", "regime")
        self.reward_gain_r = cache(gain.labels)
        loss = counter(
            "reward_loss_r",
            "Sum of rewards below 0 [R], as a positive number.",
            "strategy",
            "regime",
        )
        self.reward_loss_r = cache(loss.labels)
        self.decision_seconds = histogram(
            "decision_seconds",
            "From a signal's record received to its transaction committed [s].",
            _LATENCY_BUCKETS_S,
        )
        self.end_to_end_seconds = histogram(
            "end_to_end_seconds",
            "From a signal's ts to its transaction committed [s].",
            _LATENCY_BUCKETS_S,
        )
        dead_letters = counter("dead_letters", "Records refused.", "topic", "reason")
        self.dead_letters = cache(dead_letters.labels)
        duplicates = counter("duplicates", "Repeats of signals and trades, not answered.", "topic")
        self.duplicates = cache(duplicates.labels)
        transactions = counter("transactions", "Batches by their fate.", "outcome")
        self.transactions = cache(transactions.labels)
        self.redis_seconds = histogram(
            "redis_seconds", "Round trips to Redis [s].", _REDIS_BUCKETS_S
        )
        dwell = histogram(
            "regime_dwell_seconds",
            "From one flip of a market's regime to the next, by signal times [s].",
            _DWELL_BUCKETS_S,
            "regime",
        )
        self.regime_dwell_seconds = cache(dwell.labels)
        self.consumer_lag = gauge(
            "consumer_lag", "Records behind the end of the log.", "topic", "partition"
        )
        self.rewinds = counter("rewinds", "Times that Redis turned out to have lost writes.")
        self.fenced = counter("fenced", "Times that another owner, or time, shut this worker out.")
        skipped = counter("skipped", "Records deleted by retention before they were read.", "topic")
        self.skipped = cache(skipped.labels)
        self.degraded = gauge(
            "degraded", "1 while decisions are made from a table Redis has not confirmed lately."
        )
        self.open_decisions = gauge("open_decisions", "Decisions without a closed trade yet.")
        attributions = counter(
            "attributions", "Rewards by how their decision was found.", "attribution"
        )
        self.attributions = cache(attributions.labels)
        paths = counter("paths", "Price paths of closed trades.", "outcome")
        self.paths = cache(paths.labels)
        self.path_gap_r = gauge(
            "path_gap_r", "Mean difference between path and reward [R], of the worst account."
        )
        candles = counter("candles", "Candles that were read.", "outcome")
        self.candles = cache(candles.labels)
        followed = counter(
            "followed", "Signals that are not followed on paper any more.", "outcome"
        )
        self.followed = cache(followed.labels)
        self.followed_signals = gauge("followed_signals", "Signals followed on paper now.")
        self.pool_offset = gauge("pool_offset", "Offset up to which the pool's log was read.")
        self.paths_trusted = gauge("paths_trusted", "1 unless an account's paths are not believed.")
        self.drifting_arms = gauge(
            "drifting_arms", "Arms that lately earn something else than over all."
        )
        self.assigned_partitions = gauge("assigned_partitions", "Partitions of this worker.")
        self.epsilon = gauge(
            "epsilon",
            "Exploration rate of a context without rewards; 0 with a policy that explores at no fixed rate.",
        )
        build = gauge("build_info", "Always 1; the version is its label.", "version")
        build.labels(version("meta-strategy-selector")).set(1)
        # rates need a first value of zero
        for outcome in ("committed", "failed", "fenced"):
            self.transactions(outcome)
        for attribution in ("decision", "symbol", "echo"):
            self.attributions(attribution)
        for outcome in ("folded", "refused"):
            self.paths(outcome)
        for kind in get_args(CandleOutcome):
            self.candles(kind)
        for how in ("ended", "marked", "refused", "late", "unseen"):
            self.followed(how)

    def exposition(self) -> bytes:
        """Give all values in Prometheus's text format."""
        return generate_latest(self.registry)
