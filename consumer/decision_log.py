"""Decisions as they stand in `strategy-decisions`: what a fold needs of them."""

from typing import Final, NamedTuple

import orjson
from pydantic import ValidationError

from consumer.decision_record import DecisionRecord
from consumer.domain.features import known
from consumer.domain.following import Entry
from consumer.domain.open_decision import OpenDecision
from consumer.domain.quick import quick
from consumer.message_reader import MessageReader

_DECISIONS: Final = MessageReader(DecisionRecord, skips_others=True)
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
    # most of what a decision says is not needed, and no object is made of it
    told = _DECISIONS.read(value or b"")
    if told is None:
        try:
            told = DecisionRecord.model_validate_json(value or b"")
        except ValidationError:
            return None
    tpsl, source = told.tpsl, told.source
    price, signal_ts, timeframe = tpsl.entry_reference, told.signal_ts, told.timeframe
    remembered = OpenDecision(
        told.decision_id,
        told.account,
        told.symbol,
        told.side,
        told.regime,
        told.variant,
        told.strategy,
        tpsl.atr,
        tpsl.atr_mult_sl,
        timestamp_ms,
        known(told.features),
        0,
        0,
    )
    return quick(
        LoggedDecision,
        (
            remembered,
            told.table_offset,
            told.is_exploration,
            None if source is None else (source.topic, source.partition, source.offset),
            told.candles_offset,
            None
            if price is None or signal_ts is None or timeframe is None
            else quick(Entry, (price, signal_ts, timeframe)),
        ),
    )


def with_offsets(value: bytes, table_offset: int, candles_offset: int | None) -> bytes:
    """Give a logged decision other offsets, for logs whose offsets have changed."""
    offsets = {"table_offset": table_offset, "candles_offset": candles_offset}
    return orjson.dumps(orjson.loads(value) | offsets)
