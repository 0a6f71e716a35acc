"""What other libraries write: in the worker's own form, and not more often than helps."""

import json
import logging
from collections.abc import Iterator

import pytest

from consumer.telemetry import logs


@pytest.fixture
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("aiokafka", "asyncio")}
    yield
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.mark.usefixtures("_root_as_it_was")
def test_a_flood_of_the_client_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now_s)
    logs.make_logger("INFO", "json")
    client = logging.getLogger("aiokafka.client")

    for number in range(1_000):
        client.error("Unable connect to node with id %s: %s", number % 3, "refused")
    client.error("Unable to update metadata from %s", [1])
    now_s += 11.0
    client.error("Unable connect to node with id %s: %s", 2, "refused")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("aiokafka.client", "error", "Unable connect to node with id 0: refused"),
        ("aiokafka.client", "error", "Unable to update metadata from [1]"),
        (
            "aiokafka.client",
            "error",
            "Unable connect to node with id 2: refused (and 999 more like it)",
        ),
    ]
