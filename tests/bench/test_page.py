"""The benchmark's page: whoever reads it must see what was missed and what was left out."""

from pathlib import Path
from typing import Any

import pytest

from bench import contenders
from bench.page import page

DOCUMENT: dict[str, Any] = {
    "made_at": "2026-03-01T12:00:00.000Z",
    "machine": {"processor": "one", "cores": 2, "memory_gib": 4.0, "system": "Linux"},
    "versions": {"python": "3.11.7"},
    "peer_versions": {"quixstreams": "3.28.1"},
    "missing": ["bytewax"],
    "settings": {
        "rounds": 1,
        "partitions": 8,
        "symbols": 200,
        "signals": 100_000,
        "seconds": 15.0,
        "warm": 3.0,
    },
}


def drained(contender: str, rate: float) -> dict[str, Any]:
    return {
        "measure": "mixed",
        "contender": contender,
        "round": 1,
        "rate": rate,
        "cpu_s_per_100k": 5.0,
        "broker_cpu_s_per_100k": 1.0,
        "peak_rss_mib": 80.0,
        "load": 0.5,
        "is_clean": True,
        "verdict": {},
    }


def failed(contender: str) -> dict[str, Any]:
    text = "quix: 3 of 9 records after 300 s\nthe end of its log"
    head = {"measure": "mixed", "contender": contender, "round": 1}
    return {**head, "error": text, "is_clean": False}


def test_a_page_tells_what_was_missed_left_out_and_not_finished() -> None:
    results = [drained("worker", 20_000.0), drained("plain", 10_000.0), failed("quix")]

    text = page(DOCUMENT | {"results": results}, "benchmark")

    assert "| drain with trades, x plain | at least 2.2 | 2.00 | NO | 3: NO |" in text
    assert "| rebuild, closed trades/s | at least 50,000 | - | not measured | - |" in text
    assert "Not installed, and left out: bytewax." in text
    assert "did not finish: round 1, mixed: quix: 3 of 9 records after 300 s" in text
    assert "the end of its log" not in text
    assert "| Quix Streams | exactly once | 3.28.1 |" in text
    assert text.count("](benchmark/drain.svg)") == 1
    assert "latency.svg" not in text


def test_without_their_environment_all_peers_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contenders, "PEER_PYTHON", tmp_path / "python")
    contenders.peer_versions.cache_clear()

    assert contenders.missing_peers() == list(contenders.PEERS)
    contenders.peer_versions.cache_clear()
