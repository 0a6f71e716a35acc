"""The AsyncAPI 3 document: which topics exist, what stands in them, and who reads and writes."""

from typing import Any

from schemas.asyncapi_components import KAFKA_BINDING, messages, schemas
from schemas.fields import SCHEMA_VERSION
from schemas.json_schema import JsonObject

_INFO = (
    "The worker reads entry signals and answers each with a strategy decision, exactly once; it "
    "reads closed trades and learns from each of them once. All topics but the dead letters are "
    "keyed by symbol and have the same number of partitions, and all producers of a deployment use "
    "one partitioner (Kafka's default, murmur2; clients of librdkafka set "
    "partitioner=murmur2_random): so one partition number owns a symbol everywhere. The number of "
    "partitions never changes during a topic's life. Operations are named from the worker's side."
)
_KEY_RULE = (
    " Key: the symbol; a missing key, or one that is not the symbol, makes a dead letter "
    "(symbol_key_mismatch). The partition follows from the key by murmur2, alike in all topics."
)
_MEMORY = {
    "replicas": 3,
    "topicConfiguration": {
        "cleanup.policy": ["delete"],
        "retention.ms": -1,
        "min.insync.replicas": 2,
    },
}
_MEMORY_RULE = (
    " Part of the system's memory: never compacted, kept for ever or longer than the oldest "
    "snapshot; replication 3 with 2 in sync where there are brokers enough."
)


def asyncapi_document() -> JsonObject:
    """Describe topics, keys, headers and messages as an AsyncAPI 3.0 document.

    Its schemas say the same as those of `message_schemas`, in the dialect that AsyncAPI tools
    read without an extension (draft 07).
    """
    return {
        "asyncapi": "3.0.0",
        "id": "urn:meta-strategy:worker",
        "info": {
            "title": "Meta-strategy selector",
            "version": f"{SCHEMA_VERSION}.0.0",
            "description": _INFO,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": "trading"}, {"name": "kafka"}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "KAFKA_BOOTSTRAP_SERVERS; KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_* "
                "say how to log in.",
                "variables": {
                    "bootstrap": {
                        "default": "localhost:9092",
                        "description": "One broker, or several separated by commas.",
                    }
                },
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": messages(), "schemas": schemas()},
    }


def _channels() -> JsonObject:
    return {
        "signals": _channel(
            "Signals",
            "signals",
            "KAFKA_SIGNALS_TOPIC",
            "signal",
            "Entry signals that wait for exits, written by the executor." + _KEY_RULE,
        ),
        "trade-closed": _channel(
            "Closed trades",
            "trade-closed",
            "KAFKA_TRADE_CLOSED_TOPIC",
            "tradeClosed",
            "Closed trades, written by the executor." + _KEY_RULE + _MEMORY_RULE,
            **_MEMORY,
        ),
        "candles": _channel(
            "Candles",
            "candles",
            "KAFKA_CANDLES_TOPIC",
            "candle",
            "Optional input: closed candles of the market-data feed. Off while its variable is "
            "empty." + _KEY_RULE,
        ),
        "strategy-decisions": _channel(
            "Strategy decisions",
            "strategy-decisions",
            "KAFKA_DECISIONS_TOPIC",
            "strategyDecision",
            "Decisions, written by the worker for order router and analytics. Key: the symbol. A "
            "decision goes to the partition its signal came from." + _MEMORY_RULE,
            **_MEMORY,
        ),
        "strategy-dead-letters": _channel(
            "Dead letters",
            "strategy-dead-letters",
            "KAFKA_DEAD_LETTERS_TOPIC",
            "deadLetter",
            "Input records that were not accepted, for operators. Key: the original one, whatever "
            "it is; any number of partitions.",
        ),
    }


def _channel(
    title: str, topic: str, variable: str, message: str, description: str, **topic_binding: Any
) -> JsonObject:
    return {
        "address": topic,
        "title": title,
        "description": f"{description} The name is set by {variable}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic} | topic_binding | KAFKA_BINDING},
        "x-topic-variable": variable,
    }


def _operations() -> JsonObject:
    return {
        "receiveSignal": _operation(
            "receive",
            "signals",
            "signal",
            "Read a signal and decide it",
            "Each signal_id of an account is answered once; a repeat is counted and not answered.",
        ),
        "receiveTradeClosed": _operation(
            "receive",
            "trade-closed",
            "tradeClosed",
            "Read a closed trade and learn from it",
            "Each trade_id changes the table once; a higher revision corrects it.",
        ),
        "receiveCandle": _operation(
            "receive",
            "candles",
            "candle",
            "Read a closed candle",
            "Only where the topic is set.",
        ),
        "receiveStrategyDecision": _operation(
            "receive",
            "strategy-decisions",
            "strategyDecision",
            "Read the own decisions back",
            "When a partition is opened: which decisions are open follows from this log alone.",
        ),
        "sendStrategyDecision": _operation(
            "send",
            "strategy-decisions",
            "strategyDecision",
            "Answer a signal",
            "In one transaction with the signal's offset. Read with isolation.level=read_committed "
            "and drop a decision_id seen before: under at_least_once a repeat may differ, and the "
            "first counts. Drop what is too old for you by signal_ts.",
        ),
        "sendDeadLetter": _operation(
            "send",
            "strategy-dead-letters",
            "deadLetter",
            "Set an input record aside",
            "In one transaction with its offset: a bad message stops no partition and is not lost.",
        ),
    }


def _operation(
    action: str, channel: str, message: str, summary: str, description: str
) -> JsonObject:
    operation: JsonObject = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": summary,
        "summary": f"{summary}.",
        "description": description,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }
    if action == "receive":
        group = {
            "type": "string",
            "default": "meta-strategy",
            "description": "Set by KAFKA_GROUP_ID.",
        }
        operation["bindings"] = {"kafka": {"groupId": group} | KAFKA_BINDING}
    return operation
