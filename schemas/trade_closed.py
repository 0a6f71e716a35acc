"""The executor's report: how did the trade end?"""

from itertools import pairwise
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from schemas.fields import (
    Account,
    Amount,
    Identifier,
    Message,
    Metadata,
    Price,
    RMultiple,
    StrategyName,
    Symbol,
    TimeMs,
    Variant,
    Version,
)
from schemas.sums import total
from schemas.vocabulary import CloseReason, MarketRegime, Side

MAX_PATH_CANDLES = 500

PathCandle = Annotated[
    tuple[
        TimeMs,
        Annotated[Price, Field(description="High [quote].")],
        Annotated[Price, Field(description="Low [quote].")],
        Annotated[Price, Field(description="Close [quote].")],
    ],
    Field(strict=False),
]
"""Open time, high, low, close of one candle between entry and exit."""


def _check_path(path: tuple[PathCandle, ...]) -> None:
    for number, (_, high, low, close) in enumerate(path):
        if not low <= close <= high:
            raise ValueError(f"path[{number}]: low <= close <= high must hold")
    for number, (earlier, later) in enumerate(pairwise(path), 1):
        if later[0] <= earlier[0]:
            raise ValueError(f"path[{number}]: times must rise")


Money = Annotated[float, Field(ge=-1e15, le=1e15)]


class Exit(Message):
    """One partial close."""

    price: Price = Field(description="Price of this partial close [quote].")
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        description="Closed here [fraction of the position], within (0, 1]."
    )


class TradeClosed(Message):
    """One closed trade (topic `trade-closed`, key: symbol)."""

    model_config = ConfigDict(
        # what `_fits_together` checks of exits, as far as JSON Schema can say it; null means absent
        json_schema_extra={
            "anyOf": [
                {"required": ["exit_price"], "properties": {"exit_price": {"type": "number"}}},
                {"required": ["exits"], "properties": {"exits": {"type": "array"}}},
            ]
        }
    )

    schema_version: Version
    trade_id: Identifier = Field(description="Unique per trade: the idempotency key.")
    symbol: Symbol
    side: Side = Field(strict=False, description="Direction of the position.")
    closed_at: TimeMs = Field(description="When the last part was closed.")
    account: Account | None = Field(None, description="As in the signal: `default` when absent.")
    decision_id: Identifier | None = Field(
        None, description="The decision that opened it; absent: the newest open one of the symbol."
    )
    strategy: StrategyName | None = Field(None, description="Echoed from the decision.")
    regime: MarketRegime | None = Field(None, strict=False, description="Echoed from the decision.")
    variant: Variant | None = Field(None, description="Echoed from the decision.")
    close_reason: CloseReason | None = Field(
        None, strict=False, description="Some reasons are counted, not learned."
    )
    revision: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None,
        description="Revision number [1], 0 when absent; a higher one corrects the same trade_id.",
    )
    entry_price: Price = Field(description="Mean entry price [quote].")
    exit_price: Price | None = Field(None, description="Exit price [quote]; needed without exits.")
    exits: Annotated[tuple[Exit, ...], Field(strict=False, min_length=1, fail_fast=True)] | None = (
        Field(None, description="Partial closes; their fractions sum to 1, within 1e-6.")
    )
    atr: Price | None = Field(None, description="ATR [quote]; the decision's when absent.")
    fees: Money | None = Field(None, description="Fees [quote per unit]; negative for a rebate.")
    realized_r: RMultiple | None = Field(
        None, description="Net profit [R: one ATR]; wins over the prices."
    )
    mfe_r: RMultiple | None = Field(None, description="Furthest move for the position [R].")
    mae_r: RMultiple | None = Field(None, description="Furthest move against the position [R].")
    path: (
        Annotated[
            tuple[PathCandle, ...],
            Field(strict=False, max_length=MAX_PATH_CANDLES, fail_fast=True),
        ]
        | None
    ) = Field(
        None,
        description="Candles from entry to exit, each [time, high, low, close]: times rise, and "
        "low <= close <= high.",
    )
    pnl: Money | None = Field(None, description="Profit of the position [quote].")
    duration_hours: Amount | None = Field(None, description="How long it was open [h].")
    metadata: Metadata | None = Field(
        None, description="Opaque: at most 4 KiB as compact JSON, 32 levels deep."
    )

    @model_validator(mode="after")  # one for both: each call from the validator costs
    def _fits_together(self) -> "TradeClosed":
        if self.exits is not None:
            weight = total(part.fraction for part in self.exits)
            if abs(weight - 1.0) > 1e-6:
                raise ValueError(f"exits: fractions must sum to 1, were {weight:.9g}")
        elif self.exit_price is None:
            raise ValueError("exit_price: is missing, and there are no exits")
        if self.path is not None:
            _check_path(self.path)
        return self

    @property
    def exit_mean(self) -> float:
        """Exit price [quote]: the weighted mean of the partial closes, else the one given."""
        if self.exits is None:
            return self.exit_price or 0.0  # the validator has seen to it that one is there
        weight = total(part.fraction for part in self.exits)
        return total(part.price * part.fraction for part in self.exits) / weight
