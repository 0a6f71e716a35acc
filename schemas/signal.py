"""The executor's request: which exits suit this entry?"""

from typing import Annotated

from pydantic import Field

from schemas.fields import (
    Account,
    Amount,
    Fraction,
    Identifier,
    Message,
    Metadata,
    Price,
    Signed,
    Symbol,
    Timeframe,
    TimeMs,
    Version,
)
from schemas.vocabulary import Side

Adx = Annotated[float, Field(ge=0.0, le=100.0)]
AtrPct = Annotated[float, Field(gt=0.0, le=1e15)]


class MarketContext(Message):
    """What is known of a market at the moment of a signal."""

    current_price: Price = Field(description="Price at the signal [quote].")
    atr: Price = Field(description="Average true range [quote].")
    atr_pct: AtrPct | None = Field(
        None, description="ATR [fraction: 0.005 is 0.5 %]; atr / current_price when absent."
    )
    adx: Adx | None = Field(None, description="Average directional index, 0 to 100.")
    trend_strength: Signed | None = Field(
        None, description="-1 (strong downtrend) to 1 (strong uptrend)."
    )
    volume_24h: Amount | None = Field(None, description="Traded volume of 24 hours [quote].")
    depth_5bps: Amount | None = Field(
        None, description="Order book depth within 5 basis points [quote]."
    )
    spread_bps: Amount | None = Field(None, description="Bid-ask spread [basis points].")
    market_cap_rank: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="Rank by market capitalisation, 1 being the largest."
    )
    correlation_to_btc: Signed | None = Field(None, description="Correlation to Bitcoin, -1 to 1.")
    recent_news_sentiment: Signed | None = Field(
        None, description="Sentiment of recent news, -1 to 1."
    )


class HigherTimeframe(Message):
    """Indicators of a longer timeframe; recorded, not used by the default rules."""

    timeframe: Timeframe = Field(description="Such as 4h.")
    atr_pct: AtrPct | None = Field(None, description="ATR [fraction: 0.005 is 0.5 %].")
    adx: Adx | None = Field(None, description="Average directional index, 0 to 100.")
    trend_strength: Signed | None = Field(
        None, description="-1 (strong downtrend) to 1 (strong uptrend)."
    )


class Signal(Message):
    """One entry signal (topic `signals`, key: symbol)."""

    schema_version: Version
    signal_id: Identifier = Field(description="Unique per signal: the idempotency key.")
    ts: TimeMs = Field(description="When the executor produced the signal.")
    symbol: Symbol
    account: Account | None = Field(
        None, description="`default` when absent; learning is separate per account."
    )
    side: Side = Field(strict=False, description="Direction of the position.")
    timeframe: Timeframe = Field(description="Such as 15m.")
    confidence: Fraction | None = Field(None, description="The signal model's own, 0 to 1.")
    market: MarketContext = Field(description="The market at the moment of the signal.")
    higher_timeframes: (
        Annotated[tuple[HigherTimeframe, ...], Field(strict=False, fail_fast=True)] | None
    ) = Field(None, description="Recorded; the default rules do not use them.")
    metadata: Metadata | None = Field(
        None,
        description="Opaque, copied to the decision: at most 4 KiB as compact JSON, 32 levels deep.",
    )
