"""A closed candle of the market-data feed (optional input)."""

from pydantic import Field, model_validator

from schemas.fields import Amount, Message, Price, Symbol, Timeframe, TimeMs, Version


class Candle(Message):
    """One closed candle (topic `candles`, key: symbol)."""

    schema_version: Version
    symbol: Symbol
    timeframe: Timeframe = Field(description="Such as 15m.")
    open_time: TimeMs = Field(description="Start of the candle.")
    close_time: TimeMs = Field(description="End of the candle, after open_time.")
    open: Price = Field(description="First price [quote], between low and high.")
    high: Price = Field(description="Highest price [quote].")
    low: Price = Field(description="Lowest price [quote].")
    close: Price = Field(description="Last price [quote], between low and high.")
    volume: Amount = Field(description="Traded volume [base].")

    @model_validator(mode="after")
    def _is_a_candle(self) -> "Candle":
        if self.close_time <= self.open_time:
            raise ValueError("close_time: must be after open_time")
        if self.low > min(self.open, self.close) or self.high < max(self.open, self.close):
            raise ValueError("high: open and close must lie between low and high")
        return self
