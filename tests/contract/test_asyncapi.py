"""The AsyncAPI document: complete by the contract, and accepted by the official parser."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import DeadLetterCode
from schemas.asyncapi import asyncapi_document
from tests.support.json_schema import Draft7Validator

REPOSITORY = Path(__file__).resolve().parents[2]
CHECK = REPOSITORY / "tests" / "support" / "asyncapi_check.mjs"
DOCUMENT = asyncapi_document()
MESSAGES = DOCUMENT["components"]["messages"]
TOPICS = {
    "signals": "KAFKA_SIGNALS_TOPIC",
    "trade-closed": "KAFKA_TRADE_CLOSED_TOPIC",
    "candles": "KAFKA_CANDLES_TOPIC",
    "strategy-decisions": "KAFKA_DECISIONS_TOPIC",
    "strategy-dead-letters": "KAFKA_DEAD_LETTERS_TOPIC",
}


def _target(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [reference for item in node for reference in _references(item)]
    if isinstance(node, dict):
        found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return found + [reference for item in node.values() for reference in _references(item)]
    return []


def _validator(schema: dict[str, Any]) -> Draft7Validator:
    # within the document, so that its references to components resolve
    return Draft7Validator({"components": DOCUMENT["components"], "allOf": [schema]})


def _node_path() -> str | None:
    """Find the parser: in NODE_PATH, or where `schemas/check_asyncapi.sh DIR` may have put it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    candidates = [
        *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep))),
        REPOSITORY / "node_modules",
        cache / "meta-strategy" / "node_modules",
    ]
    for directory in candidates:
        if (directory / "@asyncapi" / "parser" / "package.json").is_file():
            return str(directory)
    return None


def test_every_topic_is_a_channel_with_its_variable() -> None:
    channels = DOCUMENT["channels"]

    assert {name: channel["x-topic-variable"] for name, channel in channels.items()} == TOPICS
    for name, channel in channels.items():
        assert channel["address"] == name
        assert channel["bindings"]["kafka"]["topic"] == name
        assert TOPICS[name] in channel["description"]


def test_the_memory_of_the_system_is_never_compacted_nor_forgotten() -> None:
    for name in ("trade-closed", "strategy-decisions"):
        binding = DOCUMENT["channels"][name]["bindings"]["kafka"]

        assert binding["replicas"] == 3
        assert binding["topicConfiguration"] == {
            "cleanup.policy": ["delete"],
            "retention.ms": -1,
            "min.insync.replicas": 2,
        }


def test_operations_are_those_of_the_worker() -> None:
    operations = {
        name: (operation["action"], operation["channel"]["$ref"].rsplit("/", 1)[1])
        for name, operation in DOCUMENT["operations"].items()
    }

    assert operations == {
        "receiveSignal": ("receive", "signals"),
        "receiveTradeClosed": ("receive", "trade-closed"),
        "receiveCandle": ("receive", "candles"),
        "receiveStrategyDecision": ("receive", "strategy-decisions"),
        "sendStrategyDecision": ("send", "strategy-decisions"),
        "sendDeadLetter": ("send", "strategy-dead-letters"),
    }


def test_every_key_but_a_dead_letters_is_the_symbol() -> None:
    keys = {name: message["bindings"]["kafka"]["key"] for name, message in MESSAGES.items()}
    symbol = _validator(keys["signal"])

    assert symbol.is_valid("BINANCE:BTC/USDT-PERP.2_a")
    assert not symbol.is_valid("BTC USDT")
    assert "$ref" not in keys.pop("deadLetter")
    assert all(key == keys["signal"] for key in keys.values())


def test_headers_are_those_of_the_contract() -> None:
    decision = _target(MESSAGES["strategyDecision"]["headers"]["$ref"])
    dead_letter = _target(MESSAGES["deadLetter"]["headers"]["$ref"])

    assert set(decision["properties"]) == {
        "decision_id",
        "strategy",
        "regime",
        "schema_version",
        "traceparent",
    }
    assert set(decision["properties"]) - set(decision["required"]) == {"traceparent"}
    assert set(dead_letter["properties"]) == set(dead_letter["required"])
    assert set(dead_letter["required"]) == {
        f"dlq.{name}"
        for name in ("topic", "partition", "offset", "sha256", "reason", "error", "ts")
    }
    assert dead_letter["properties"]["dlq.reason"]["enum"] == list(DeadLetterCode)


def test_every_reference_has_a_target() -> None:
    for reference in _references(DOCUMENT):
        assert isinstance(_target(reference), dict)


def test_every_schema_is_draft_07() -> None:
    """Tools for AsyncAPI read no newer dialect; a keyword they do not know is silently skipped."""
    text = json.dumps(DOCUMENT["components"]["schemas"])

    for keyword in ("prefixItems", "$defs", "unevaluatedProperties", "dependentRequired"):
        assert f'"{keyword}"' not in text
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_examples_fit_their_schemas(name: str) -> None:
    """The official parser does not look at examples of version 3 documents."""
    message = MESSAGES[name]

    assert message["examples"]
    for example in message["examples"]:
        _validator(message["payload"]).validate(example["payload"])
        if "headers" in example:
            _validator(message["headers"]).validate(example["headers"])


@pytest.mark.parametrize(
    ("field", "value"), [("exit_price", None), ("path", [[0, 2.0, 1.0]]), ("side", "FLAT")]
)
def test_schemas_still_refuse_after_their_translation(field: str, value: object) -> None:
    trade = MESSAGES["tradeClosed"]["examples"][1]["payload"]
    validator = _validator(MESSAGES["tradeClosed"]["payload"])

    assert validator.is_valid(trade)
    assert not validator.is_valid({**trade, field: value})


def test_official_parser_accepts_the_document() -> None:
    node, node_path = shutil.which("node"), _node_path()
    if node is None:
        pytest.skip("no node on this machine")
    if node_path is None:
        pytest.skip("no @asyncapi/parser in NODE_PATH: schemas/check_asyncapi.sh installs it")

    result = subprocess.run(
        [node, str(CHECK), str(REPOSITORY / "schemas" / "generated" / "asyncapi.json")],
        env={**os.environ, "NODE_PATH": node_path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
