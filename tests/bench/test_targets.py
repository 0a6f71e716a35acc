"""The benchmark's targets: a gate that cannot fail, or fails on what was not measured, is none."""

from typing import Any

import pytest

from bench.targets import Target, failed, rows, targets


def result(measure: str, contender: str, number: int = 1, **found: float) -> dict[str, Any]:
    return {"measure": measure, "contender": contender, "round": number, "is_clean": True, **found}


def target(results: list[dict[str, Any]], title: str, cores: int = 2) -> Target:
    (found,) = (t for t in targets(results, cores) if t.title.startswith(title))
    return found


def drains(worker: float, plain: float, number: int = 1) -> list[dict[str, Any]]:
    return [
        result("mixed", "worker", number, rate=worker, cpu_s_per_100k=2.0),
        result("mixed", "plain", number, rate=plain, cpu_s_per_100k=5.0),
    ]


def test_the_median_of_the_rounds_decides() -> None:
    results = drains(30.0, 10.0, 1) + drains(22.0, 10.0, 2) + drains(10.0, 10.0, 3)

    found = target(results, "drain with trades, x plain")

    assert found.found == [3.0, 2.2, 1.0]
    assert found.holds is True
    assert found.reaches_aim is False
    assert found.row == (
        "drain with trades, x plain",
        "at least 2.2",
        "2.20 (3.00 2.20 1.00)",
        "yes",
        "3: NO",
    )


@pytest.mark.parametrize(("cpu", "holds"), [(0.49, True), (0.50, True), (0.51, False)])
def test_less_is_better_where_a_bound_is_from_above(cpu: float, holds: bool) -> None:
    results = [
        result("mixed", "worker", rate=1.0, cpu_s_per_100k=cpu),
        result("mixed", "plain", rate=1.0, cpu_s_per_100k=1.0),
    ]

    assert target(results, "drain with trades, CPU").holds is holds


def test_what_was_not_measured_neither_holds_nor_fails() -> None:
    listed = targets(drains(10.0, 10.0), cores=2)

    assert failed(listed) == ["drain with trades, x plain"]
    assert ("rebuild, closed trades/s", "at least 50,000", "-", "not measured", "-") in rows(listed)


def test_one_pair_missing_is_not_measured() -> None:
    assert target([result("drain", "worker", rate=1.0)], "drain of signals").holds is None


@pytest.mark.parametrize(
    ("cores", "title", "holds"), [(2, "CPU for a signal of two", True), (8, "two workers", False)]
)
def test_two_workers_need_cores_to_be_faster(cores: int, title: str, holds: bool) -> None:
    results = [
        result("workers", "worker", at=1, rate=10.0, cpu_s_per_100k=5.0),
        result("workers", "worker", at=2, rate=10.0, cpu_s_per_100k=5.4),
    ]

    assert target(results, title, cores).holds is holds


def test_growth_is_taken_at_its_sizes() -> None:
    results = [
        result("symbols", "worker", at=200, rate=100.0, peak_rss_mib=90.0),
        result("symbols", "worker", at=2_000, rate=95.0, peak_rss_mib=101.0),
        result("symbols", "worker", at=10_000, rate=86.0, peak_rss_mib=150.0),
        result("rebuild", "worker", at=50_000, rate=60_000.0),
        result("opening", "worker", at=0, open_s=0.1),
        result("opening", "worker", at=100_000, open_s=0.9),
    ]

    assert target(results, "10,000 symbols").holds is True
    assert target(results, "memory").holds is False
    assert target(results, "rebuild").found == [60_000.0]
    assert target(results, "opening").found == [0.9]


def test_all_starts_of_the_worker_count_and_no_others() -> None:
    results = [
        result("paced-500", "worker", first_decision_s=1.2),
        result("paced-500", "plain", first_decision_s=0.4),
        result("paced-2000", "worker", first_decision_s=1.4),
    ]

    assert target(results, "cold start").found == [1.2, 1.4]
