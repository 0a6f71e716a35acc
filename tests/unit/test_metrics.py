from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from consumer.telemetry.metrics import BatchHistogram, Metrics

_VALUES = st.lists(st.floats(min_value=-20, max_value=20, allow_nan=False), max_size=30)


def _samples(histogram: Histogram) -> dict[str, float]:
    (family,) = histogram.collect()
    return {
        s.name + str(s.labels): s.value for s in family.samples if not s.name.endswith("_created")
    }


@given(_VALUES)
def test_a_batch_counts_like_single_values(values: list[float]) -> None:
    """The batch call reaches into the library: this says so when the library changes."""
    bounds = (-3.0, 0.0, 0.5, 5.0)
    batch = BatchHistogram("a", "text", registry=CollectorRegistry(), buckets=bounds)
    single = Histogram("a", "text", registry=CollectorRegistry(), buckets=bounds)

    batch.observe_all(values)
    for value in values:
        single.observe(value)

    found, wanted = _samples(batch), _samples(single)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert abs(found[name] - value) < 1e-9


def test_the_sum_of_rewards_is_told_though_they_may_be_negative() -> None:
    """The library leaves the sum out when a bound is negative."""
    metrics = Metrics()
    for reward in (-1.0, 3.5):
        metrics.reward_r("scalp", "unknown").observe(reward)

    text = metrics.exposition().decode()

    assert 'meta_strategy_reward_r_sum{regime="unknown",strategy="scalp"} 2.5' in text


def test_no_label_holds_a_symbol_an_account_or_an_id() -> None:
    """Labels from messages would let a producer fill the memory of the monitoring."""
    names = {
        label
        for family in Metrics().registry.collect()
        for s in family.samples
        for label in s.labels
    }

    assert not names & {"symbol", "account", "signal_id", "decision_id", "trade_id"}
