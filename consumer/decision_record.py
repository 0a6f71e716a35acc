"""What the fold needs of a record of `strategy-decisions`; checked like any input."""

from typing import Annotated

from pydantic import Field

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


class TpslRecord(Message):
    """What its exits were measured by."""

    atr: Price
    atr_mult_sl: Annotated[float, Field(gt=0.0)]
    entry_reference: Price | None = None


class SourceRecord(Message):
    """Which signal it answers."""

    topic: str
    partition: int
    offset: Annotated[int, Field(ge=0)]


class DecisionRecord(Message):
    """The record itself."""

    decision_id: Identifier
    account: Account
    symbol: Symbol
    side: Annotated[Side, Field(strict=False)]
    regime: Annotated[MarketRegime, Field(strict=False)]
    variant: Variant | None = None
    strategy: StrategyName
    is_exploration: bool
    table_offset: Annotated[int, Field(ge=0)]
    tpsl: TpslRecord
    source: SourceRecord | None = None
    candles_offset: Annotated[int, Field(ge=0)] | None = None
    timeframe: Timeframe | None = None
    signal_ts: TimeMs | None = None
    features: Measured | None = None
