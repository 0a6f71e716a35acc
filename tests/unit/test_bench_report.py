"""The benchmark's numbers: pairs are compared within their round, and no slower run looks faster."""

from typing import Any

import pytest

from bench.paced import quantile
from bench.profiling import top_samples
from bench.report import as_markdown, as_text, compare, faults, summary


def drain(contender: str, number: int, rate: float, cpu: float = 5.0) -> dict[str, Any]:
    return {
        "measure": "drain",
        "contender": contender,
        "round": number,
        "rate": rate,
        "cpu_s_per_100k": cpu,
        "broker_cpu_s_per_100k": 1.0,
        "peak_rss_mib": 80.0,
        "load": 1.0,
        "is_clean": True,
        "verdict": {"missing": 0, "doubled": 0},
    }


def test_ratios_are_taken_within_each_round() -> None:
    """Between rounds the machine changes: a ratio of medians would compare different minutes."""
    results = [
        drain("worker", 1, 2_000.0),
        drain("plain", 1, 1_000.0),
        drain("plain", 2, 100.0),
        drain("worker", 2, 150.0),
        drain("worker", 3, 999.0),  # its pair is missing
    ]

    rate = compare(results, [])[0]

    assert rate.ratios == [2.0, 1.5]
    assert rate.holds
    assert rate.answer == "yes"


def test_a_round_that_differs_is_told() -> None:
    results = [
        drain(name, number, rate)
        for number, rates in enumerate([(20.0, 10.0), (30.0, 10.0), (9.0, 10.0)])
        for name, rate in zip(("worker", "plain"), rates, strict=True)
    ]

    assert compare(results, [])[0].answer == "yes (not in each round)"


def test_more_cpu_is_worse_and_a_higher_rate_is_better() -> None:
    results = [drain("worker", 1, 100.0, cpu=9.0), drain("plain", 1, 200.0, cpu=8.0)]

    rate, cpu, *others = compare(results, [])

    assert (rate.answer, cpu.answer) == ("NO", "NO")
    assert all(other.answer == "-" for other in others)


def test_tables_have_a_line_for_each_figure() -> None:
    comparisons = compare([drain("worker", 1, 2_000.0), drain("plain", 1, 1_000.0)], [])

    assert len(as_text(comparisons).splitlines()) == 2 + len(comparisons)
    assert "| drain, signals/s | 2,000 | 1,000 | 2.00 | yes |" in as_markdown(comparisons)


def test_a_wrong_decision_is_told() -> None:
    wrong = drain("worker", 2, 1.0) | {"is_clean": False, "verdict": {"missing": 3, "doubled": 0}}

    assert faults([drain("plain", 1, 1.0), wrong]) == ["round 2, drain, worker: missing 3"]
    assert summary([wrong])[-1].startswith("WRONG")


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
