"""What a contender is told: addresses, names and learning settings, by the worker's own variables."""

import os

BOOTSTRAP_SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
GROUP_ID = os.environ.get("KAFKA_GROUP_ID", "meta-strategy")
SIGNALS = os.environ.get("KAFKA_SIGNALS_TOPIC", "signals")
TRADES = os.environ.get("KAFKA_TRADE_CLOSED_TOPIC", "trade-closed")
DECISIONS = os.environ.get("KAFKA_DECISIONS_TOPIC", "strategy-decisions")
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
PREFIX = os.environ.get("META_STRATEGY_KEY_PREFIX", "ms")
EPSILON = float(os.environ.get("META_STRATEGY_EPSILON", "0.10"))
ALPHA = float(os.environ.get("META_STRATEGY_ALPHA", "0.20"))

BATCH = 1_000
"""Records that a contender takes at once, where it can say so."""
