"""What the fold needs of a record of `strategy-decisions`; checked like any input."""

from typing import Annotated, Final, NotRequired

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from schemas import MarketRegime, Message, Side
from schemas.fields import (
    Account,
    Identifier,
    Measured,
    Price,
    StrategyName,
    Symbol,
    Timeframe,
    TimeMs,
    Variant,
)

# Dicts, not models: a million of them are read and let go at once, and a model takes a fifth as long again.

_as_messages = with_config(Message.model_config)


@_as_messages
class TpslRecord(TypedDict):
    """What its exits were measured by."""

    atr: Price
    atr_mult_sl: Annotated[float, Field(gt=0.0)]
    entry_reference: NotRequired[Price | None]


@_as_messages
class SourceRecord(TypedDict):
    """Which signal it answers."""

    topic: str
    partition: int
    offset: Annotated[int, Field(ge=0)]


@_as_messages
class DecisionRecord(TypedDict):
    """The record itself."""

    decision_id: Identifier
    account: Account
    symbol: Symbol
    side: Annotated[Side, Field(strict=False)]
    regime: Annotated[MarketRegime, Field(strict=False)]
    variant: NotRequired[Variant | None]
    strategy: StrategyName
    is_exploration: bool
    table_offset: Annotated[int, Field(ge=0)]
    tpsl: TpslRecord
    source: NotRequired[SourceRecord | None]
    candles_offset: NotRequired[Annotated[int, Field(ge=0)] | None]
    timeframe: NotRequired[Timeframe | None]
    signal_ts: NotRequired[TimeMs | None]
    features: NotRequired[Measured | None]


DECISION_RECORD: Final = TypeAdapter(DecisionRecord).validator
"""Reads one from its bytes."""
