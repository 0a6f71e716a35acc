"""Messages and schemas of the AsyncAPI document."""

from typing import Any

from schemas.json_schema import JsonObject, example, message_schemas

KAFKA_BINDING: JsonObject = {"bindingVersion": "0.5.0"}
"""Version of the Kafka bindings, to be merged into each of them."""

_SCHEMA_NAMES = {
    "signal": "Signal",
    "trade_closed": "TradeClosed",
    "strategy_decision": "StrategyDecision",
    "candle": "Candle",
    "dead_letter_headers": "DeadLetterHeaders",
}


def messages() -> JsonObject:
    """Give the messages by the names that channels use: headers, value, key and examples."""
    symbol_key = {"$ref": "#/components/schemas/SymbolKey"}
    trace = {"$ref": "#/components/schemas/TraceHeaders"}
    return {
        "signal": _message(
            "Signal",
            "signal",
            symbol_key,
            "An entry signal: which exits suit it?",
            headers=trace,
            correlationId={"location": "$message.payload#/signal_id"},
        ),
        "tradeClosed": _message(
            "TradeClosed",
            "trade_closed",
            symbol_key,
            "How a trade ended.",
            correlationId={"location": "$message.payload#/trade_id"},
        ),
        "candle": _message("Candle", "candle", symbol_key, "One closed candle."),
        "strategyDecision": _message(
            "StrategyDecision",
            "strategy_decision",
            symbol_key,
            "The exits for a signal, and why.",
            example_headers=_decision_headers_of(example("strategy_decision", "full")),
            headers={"$ref": "#/components/schemas/StrategyDecisionHeaders"},
            correlationId={"location": "$message.header#/decision_id"},
        ),
        "deadLetter": _dead_letter_message(),
    }


def _message(
    schema: str,
    examples_of: str,
    key: JsonObject,
    summary: str,
    example_headers: JsonObject | None = None,
    **more: JsonObject,
) -> JsonObject:
    headers = {"headers": example_headers} if example_headers else {}
    return {
        "name": schema,
        "title": schema,
        "summary": summary,
        "contentType": "application/json",
        **more,
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": {"kafka": {"key": key} | KAFKA_BINDING},
        "examples": [
            {"name": name, "payload": example(examples_of, name)} | headers
            for name in ("full", "minimal")
        ],
    }


def _dead_letter_message() -> JsonObject:
    return {
        "name": "DeadLetter",
        "title": "DeadLetter",
        "summary": "An input record that was not accepted.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {"$ref": "#/components/schemas/OriginalBytes"},
        "bindings": {
            "kafka": {
                "key": {"description": "The original key, whatever it is; it may be missing."},
            }
            | KAFKA_BINDING
        },
        "examples": [
            {
                "name": "not JSON",
                "headers": example("dead_letter_headers", "full"),
                "payload": '{"schema_version": 1, "signal_id": ',
            }
        ],
    }


def schemas() -> JsonObject:
    """Give one flat set of schemas by name, each model once.

    They say the same as those of `message_schemas`, in the dialect that AsyncAPI tools read
    without an extension (draft 07).
    """
    traceparent = {
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$",
        "description": "W3C trace context; passed from a signal to its decision.",
    }
    flat: JsonObject = {}
    for name, schema in message_schemas().items():
        flat[_SCHEMA_NAMES[name]] = {
            keyword: value
            for keyword, value in schema.items()
            if keyword not in {"$schema", "$id", "$defs", "examples"}
        }
        flat |= schema.get("$defs", {})
    decision = flat["StrategyDecision"]["properties"]
    text = {"type": "string"}
    flat |= {
        "StrategyDecisionHeaders": {
            "title": "StrategyDecisionHeaders",
            "description": "Kafka headers of a decision, each as UTF-8 text.",
            "type": "object",
            "properties": {
                "decision_id": text | {"description": decision["decision_id"]["description"]},
                "strategy": decision["strategy"],
                "regime": decision["regime"],
                "schema_version": text | {"description": "Version of the value, in decimal."},
                "traceparent": traceparent,
            },
            "required": ["decision_id", "strategy", "regime", "schema_version"],
        },
        "TraceHeaders": {
            "title": "TraceHeaders",
            "description": "Kafka headers of a signal, as UTF-8 text; none is needed.",
            "type": "object",
            "properties": {"traceparent": traceparent},
        },
        "SymbolKey": flat["Signal"]["properties"]["symbol"]
        | {
            "title": "SymbolKey",
            "description": "The symbol as UTF-8 text, the same as in the value.",
        },
        "OriginalBytes": {
            "title": "OriginalBytes",
            "description": "The original value, its first 64 KiB; no value where it had none.",
        },
    }
    return {name: _as_draft_07(schema) for name, schema in flat.items()}


def _decision_headers_of(decision: JsonObject) -> JsonObject:
    names = ("decision_id", "strategy", "regime", "schema_version")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    return {name: str(decision[name]) for name in names} | {"traceparent": trace}


def _as_draft_07(node: Any) -> Any:
    """Rewrite what changed between draft 07 and 2020-12, and point at the components."""
    if isinstance(node, list):
        return [_as_draft_07(item) for item in node]
    if not isinstance(node, dict):
        return node
    rewritten = {
        "items" if keyword == "prefixItems" else keyword: _as_draft_07(value)
        for keyword, value in node.items()
    }
    if isinstance(node.get("$ref"), str):
        target = {"$ref": node["$ref"].replace("#/$defs/", "#/components/schemas/")}
        del rewritten["$ref"]
        # draft 07 ignores what stands beside a reference
        return rewritten | {"allOf": [target]} if rewritten else target
    return rewritten
