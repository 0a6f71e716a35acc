"""The benchmark's numbers: pairs are compared within their round, and no slower run looks faster."""

from typing import Any

import pytest

from bench.paced import quantile
from bench.profiling import top_samples
from bench.report import (
    as_markdown,
    as_text,
    faults,
    keys_in,
    one_line,
    ratios,
    summary,
    table,
    values,
)


def drain(
    contender: str, number: int, rate: float, cpu: float = 5.0, **more: Any
) -> dict[str, Any]:
    return {
        "measure": "mixed",
        "contender": contender,
        "round": number,
        "rate": rate,
        "cpu_s_per_100k": cpu,
        "broker_cpu_s_per_100k": 1.0,
        "peak_rss_mib": 80.0,
        "load": 1.0,
        "is_clean": True,
        "verdict": {"missing": 0, "doubled": 0},
        **more,
    }


def failure(contender: str, text: str) -> dict[str, Any]:
    head = {"measure": "mixed", "contender": contender, "round": 1}
    return {**head, "error": text, "is_clean": False}


def test_ratios_are_taken_within_each_round() -> None:
    """Between rounds the machine changes: a ratio of medians would compare different minutes."""
    results = [
        drain("worker", 1, 2_000.0),
        drain("plain", 1, 1_000.0),
        drain("plain", 2, 100.0),
        drain("worker", 2, 150.0),
        drain("worker", 3, 999.0),  # its pair is missing
    ]

    mine, base = (values(results, "mixed", name, "rate") for name in ("worker", "plain"))

    assert ratios(mine, base) == [2.0, 1.5]
    assert "1.75 (2.00 1.50)" in table(results, "mixed")[1]


def test_a_table_has_a_line_for_each_contender_in_the_usual_order() -> None:
    results = [drain(name, 1, 1_000.0) for name in ("quix", "plain", "worker")]

    rows = table(results, "mixed")

    assert [row[0] for row in rows[1:]] == ["this worker", "plain aiokafka", "Quix Streams"]
    assert len(as_text(rows).splitlines()) == 2 + 3
    assert "| plain aiokafka | 1,000 | 1 | 5.00 | 1 | 1.00 | 80 |" in as_markdown(rows)


def test_sizes_are_compared_with_the_usual_size() -> None:
    results = [
        drain("worker", 1, rate, measure="symbols", at=size)
        for size, rate in ((10_000, 800.0), (200, 1_000.0), (20, 1_200.0))
    ]

    rows = table(results, "symbols")

    assert keys_in(results, "symbols") == [20, 200, 10_000]
    assert [row[:3] for row in rows[1:]] == [
        ("20", "1,200", "1.20"),
        ("200", "1,000", "1"),
        ("10,000", "800", "0.80"),
    ]


def test_who_did_not_finish_has_no_numbers() -> None:
    results = [drain("plain", 1, 1_000.0), failure("quix", "quix: no answer\nmore")]

    assert table(results, "mixed")[2][1:3] == ("-", "-")
    assert one_line(results[1]).endswith("quix: no answer\nmore")


def test_a_wrong_decision_is_told() -> None:
    wrong = drain("worker", 2, 1.0) | {"is_clean": False, "verdict": {"missing": 3, "doubled": 0}}

    assert faults([drain("plain", 1, 1.0), wrong]) == ["round 2, mixed, worker: missing 3"]
    assert summary([wrong])[-1].startswith("WRONG")


def test_a_lost_reward_is_told() -> None:
    wrong = drain("bytewax", 1, 1.0, trades=10, rewards=9) | {"is_clean": False}

    (text,) = faults([wrong])

    assert text.endswith("9 rewards of 10 trades")


def test_a_peer_may_fail_and_the_worker_may_not() -> None:
    results = [failure("quix", "quix: too slow"), failure("worker", "worker ended")]

    assert faults(results) == ["round 1, mixed: worker ended"]
    assert "did not finish: round 1, mixed: quix: too slow" in summary(results)


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50.0), (0.99, 99.0), (0.999, 100.0), (1.0, 100.0)]
)
def test_quantiles_are_values_that_occurred(share: float, value: float) -> None:
    assert quantile([float(n) for n in range(1, 101)], share) == value


def test_samples_are_counted_by_function_not_by_line() -> None:
    text = "main (a.py:1);work (b.py:2) 30\nmain (a.py:1);work (b.py:9) 50\nmain (a.py:3) 20\n"

    lines = top_samples(text).splitlines()

    assert lines[0] == "100 samples"
    assert lines[2].split() == ["80.0", "work", "(b.py)"]
    assert "100.0  main (a.py)" in lines[lines.index("with all below, %") + 1]
