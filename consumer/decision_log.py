"""Decisions as they stand in `strategy-decisions`: what a fold needs of them."""

from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from consumer.decision_record import DECISION_RECORD
from consumer.domain.features import known
from consumer.domain.following import Entry
from consumer.domain.open_decision import OpenDecision
from consumer.domain.quick import quick

_MAX_DECISION_BYTES: Final = 1 << 20
"""More than any batch a worker writes: to parse 100 MB that somebody else wrote there takes seconds."""


class LoggedDecision(NamedTuple):
    """A decision as it stands in the log."""

    remembered: OpenDecision
    table_offset: int
    is_exploration: bool
    source: tuple[str, int, int] | None = None
    """Topic, partition and offset of its signal."""
    candles_offset: int | None = None
    entry: Entry | None = None


def decode_logged_decision(value: bytes | None, timestamp_ms: int) -> LoggedDecision | None:
    """Read a decision that this worker, or one before it, wrote; None for a foreign record."""
    if value is not None and len(value) > _MAX_DECISION_BYTES:
        return None
    try:
        # from the bytes: most of what a decision says is not needed, and no object is made of it
        told: dict[str, Any] = DECISION_RECORD.validate_json(value or b"")
    except ValidationError:
        return None
    tpsl: dict[str, Any] = told["tpsl"]
    source: dict[str, Any] | None = told.get("source")
    price, signal_ts = tpsl.get("entry_reference"), told.get("signal_ts")
    timeframe = told.get("timeframe")
    remembered = quick(
        OpenDecision,
        (
            told["decision_id"],
            told["account"],
            told["symbol"],
            told["side"],
            told["regime"],
            told.get("variant"),
            told["strategy"],
            tpsl["atr"],
            tpsl["atr_mult_sl"],
            timestamp_ms,
            known(told.get("features")),
            0,
            0,
        ),
    )
    return quick(
        LoggedDecision,
        (
            remembered,
            told["table_offset"],
            told["is_exploration"],
            None if source is None else (source["topic"], source["partition"], source["offset"]),
            told.get("candles_offset"),
            None
            if price is None or signal_ts is None or timeframe is None
            else quick(Entry, (price, signal_ts, timeframe)),
        ),
    )


def with_offsets(value: bytes, table_offset: int, candles_offset: int | None) -> bytes:
    """Give a logged decision other offsets, for logs whose offsets have changed."""
    offsets = {"table_offset": table_offset, "candles_offset": candles_offset}
    return orjson.dumps(orjson.loads(value) | offsets)
