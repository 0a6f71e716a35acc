"""The worker's answer: these exits, and why."""

from typing import Annotated, Any

from pydantic import Field

from schemas.fields import (
    Account,
    Fraction,
    Identifier,
    Measured,
    Message,
    StrategyName,
    Symbol,
    Timeframe,
    TimeMs,
    Variant,
    Version,
)
from schemas.vocabulary import MarketRegime, Mode, Side

Level = Annotated[float, Field(gt=0.0)]
Multiple = Annotated[float, Field(gt=0.0)]
Offset = Annotated[int, Field(ge=0)]


class Source(Message):
    """Where the signal stands."""

    topic: str = Field(description="The topic of the signals.")
    partition: Annotated[int, Field(ge=0)] = Field(
        description="Partition number [1], from 0; the decision has the same."
    )
    offset: Offset = Field(description="Offset of the signal in its partition [records], from 0.")


class Tpsl(Message):
    """Stop loss and take profits, as multiples and as prices (not rounded to ticks)."""

    atr_mult_sl: Multiple = Field(description="Distance of the stop [ATR].")
    atr_mult_tp1: Multiple = Field(description="Distance of the first target [ATR].")
    atr_mult_tp2: Multiple = Field(description="Distance of the second target [ATR].")
    atr_mult_tp3: Multiple = Field(description="Distance of the third target [ATR].")
    partial_close_tp1: Fraction = Field(description="Closed at TP1 [fraction of the position].")
    partial_close_tp2: Fraction = Field(description="Closed at TP2 [fraction of the position].")
    partial_close_tp3: Fraction = Field(description="Closed at TP3 [fraction of the position].")
    stop_loss: Level = Field(description="Price of the stop [quote].")
    take_profit_1: Level = Field(description="Price of the first target [quote].")
    take_profit_2: Level = Field(description="Price of the second target [quote].")
    take_profit_3: Level = Field(description="Price of the third target [quote].")
    atr: Level = Field(description="ATR the levels were computed from [quote].")
    entry_reference: Level = Field(description="The signal's current_price [quote].")


class StrategyDecision(Message):
    """One decision (topic `strategy-decisions`, key: symbol)."""

    schema_version: Version
    decision_id: Identifier = Field(
        description='uuid5(NAMESPACE_URL, "meta-strategy:" + account + ":" + signal_id).'
    )
    signal_id: Identifier = Field(description="The signal's.")
    account: Account = Field(description="The signal's; `default` when it had none.")
    symbol: Symbol
    side: Side = Field(strict=False, description="The signal's.")
    timeframe: Timeframe = Field(description="The signal's.")
    signal_ts: TimeMs = Field(description="The signal's ts.")
    ts: TimeMs = Field(description="When the decision was made.")
    regime: MarketRegime = Field(strict=False, description="State of the market.")
    regime_confidence: Fraction = Field(description="Of the regime, 0 to 1.")
    regime_reasoning: str = Field(description="Why this regime, for people.")
    strategy: StrategyName = Field(description="Id of the chosen strategy.")
    strategy_name: str = Field(description="Name of the chosen strategy, for people.")
    is_exploration: bool = Field(description="Drawn at random, to learn.")
    confidence: Fraction = Field(description="In the chosen strategy's Q-value, 0 to 1.")
    reasoning: str = Field(description="Why this strategy, for people.")
    mode: Mode = Field(
        strict=False,
        description="How it was chosen; heuristic: at cold start, default: while disabled.",
    )
    policy: str = Field(description="Name of the policy.")
    policy_version: str = Field(description="Hash of policy, settings, profiles and limits.")
    propensity: Fraction = Field(description="Probability of the chosen strategy, 0 to 1.")
    propensities: dict[str, Fraction] = Field(
        description="Probability of every candidate by its id, each 0 to 1; they sum to 1."
    )
    source: Source = Field(description="The signal's place in its topic.")
    table_offset: Offset = Field(
        description="The `trade-closed` offset [records] up to which the table was folded, from 0."
    )
    candles_offset: Offset | None = Field(
        None,
        description="The `candles` offset [records] up to which signals were followed, from 0; null while "
        "that topic is off.",
    )
    pool_offset: Offset | None = Field(
        None,
        description="The offset [records] in the log of the pool up to which it was read what other "
        "partitions have learned, from 0; null while that topic is off.",
    )
    features: Measured | None = Field(
        None,
        description="What the policy measured of the signal, each -1 to 1; null where it looks at the regime "
        "alone.",
    )
    degraded: bool = Field(description="Decided from a table that Redis has not confirmed lately.")
    experiment: str | None = Field(None, description="The running A/B test; null without one.")
    variant: Variant | None = Field(None, description="Its variant; null without a test.")
    tpsl: Tpsl = Field(description="The exits.")
    metadata: dict[str, Any] | None = Field(None, description="The signal's.")
