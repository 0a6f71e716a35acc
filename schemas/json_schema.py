"""JSON Schemas (2020-12) of the messages, made from the models."""

import json
from importlib.resources import files
from typing import Any, Literal

from schemas.candle import Candle
from schemas.fields import SCHEMA_VERSION, Message
from schemas.signal import Signal
from schemas.strategy_decision import StrategyDecision
from schemas.trade_closed import TradeClosed
from schemas.vocabulary import DeadLetterCode

JsonObject = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# what people read first and last; other keywords keep their order in between
_FIRST = ("$schema", "$id", "$ref", "title", "description", "type", "const", "enum")
_LAST = ("anyOf", "examples", "$defs")

_READ = (
    "A UTF-8 JSON object of at most 64 KiB. Unknown fields are ignored; null means the same as "
    "missing for an optional field. Times are RFC 3339 strings with an offset or integer Unix "
    "milliseconds. Integers are written without a decimal point."
)
_WRITTEN = (
    "A UTF-8 JSON object. Ignore unknown fields: later releases may add some. Null means the same "
    "as missing. Times are RFC 3339 in UTC with milliseconds."
)


def message_schemas() -> dict[str, JsonObject]:
    """Give the schema of every message by its name, with examples.

    Returns:
        `signal`, `trade_closed`, `strategy_decision`, `candle` and `dead_letter_headers`, each a
        complete JSON Schema 2020-12, equal in every call.
    """
    return {
        "signal": _message_schema("signal", Signal, "validation", _READ),
        "trade_closed": _message_schema("trade_closed", TradeClosed, "validation", _READ),
        "strategy_decision": _message_schema(
            "strategy_decision", StrategyDecision, "serialization", _WRITTEN
        ),
        "candle": _message_schema("candle", Candle, "validation", _READ),
        "dead_letter_headers": _dead_letter_headers(),
    }


def example(message: str, name: str) -> JsonObject:
    """Read one of the golden messages that come with this package.

    Args:
        message: Name of the message, such as `signal`.
        name: Name of the example, such as `full`.
    """
    path = files("schemas").joinpath("examples", "good", message, f"{name}.json")
    loaded: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _message_schema(
    name: str, model: type[Message], mode: Literal["validation", "serialization"], rules: str
) -> JsonObject:
    schema = model.model_json_schema(mode=mode)
    return _schema_of(
        name,
        schema
        | {
            "description": f"{schema['description']} {rules}",
            "examples": [example(name, "full"), example(name, "minimal")],
        },
    )


def _dead_letter_headers() -> JsonObject:
    number = {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
    properties = {
        "dlq.topic": {"description": "Topic of the original record.", "type": "string"},
        "dlq.partition": {"description": "Its partition number [1], from 0."} | number,
        "dlq.offset": {"description": "Its offset in the partition [records], from 0."} | number,
        "dlq.sha256": {
            "description": "SHA-256 of the whole original value in lower-case hexadecimal; the "
            "dead letter's value is its first 64 KiB.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        },
        "dlq.reason": {
            "description": "Why the record was not accepted.",
            "type": "string",
            "enum": [code.value for code in DeadLetterCode],
        },
        "dlq.error": {
            "description": "One line for people; it names the field.",
            "type": "string",
            "pattern": r"^[^\r\n]*$",
        },
        "dlq.ts": {
            "description": "When it was set aside: RFC 3339 in UTC with milliseconds.",
            "type": "string",
            "format": "date-time",
        },
    }
    return _schema_of(
        "dead_letter_headers",
        {
            "title": "DeadLetterHeaders",
            "description": "Kafka headers of a dead letter, each as UTF-8 text, beside those of "
            "the original record. Key and value are the original bytes.",
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "examples": [example("dead_letter_headers", "full")],
        },
    )


def _schema_of(name: str, body: JsonObject) -> JsonObject:
    identifier = f"urn:meta-strategy:schema:{name}:{SCHEMA_VERSION}"
    return _tidy({"$schema": _DIALECT, "$id": identifier} | body)


def _tidy(schema: JsonObject) -> JsonObject:
    """Order the keywords, and leave out defaults of null and what pydantic derived from names."""
    tidied: JsonObject = {}
    for keyword in sorted(schema, key=_place):
        value = schema[keyword]
        if keyword in {"properties", "$defs"}:
            value = {name: _tidy(child) for name, child in value.items()}
            if keyword == "properties":
                for child in value.values():
                    child.pop("title", None)
        elif keyword in {"anyOf", "prefixItems"}:
            value = [_tidy(child) for child in value]
        elif keyword in {"items", "additionalProperties"} and isinstance(value, dict):
            value = _tidy(value)
        elif isinstance(value, float) and value.is_integer():
            value = int(value)  # 1000 reads better than 1000.0 and means the same
        elif keyword == "default" and value is None:
            continue
        tidied[keyword] = value
    return tidied


def _place(keyword: str) -> int:
    if keyword in _FIRST:
        return _FIRST.index(keyword) - len(_FIRST)
    return 1 + _LAST.index(keyword) if keyword in _LAST else 0
