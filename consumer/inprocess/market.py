"""What a trading process says of a market, and how a wrong value is told."""

from pydantic import Field, ValidationError

import schemas
from schemas.fields import Symbol, Timeframe


class MarketContext(schemas.MarketContext):
    """What is known of a market at a moment; units as in the signal message."""

    symbol: Symbol
    timeframe: Timeframe = Field(description="Such as 15m.")


def value_error(error: ValidationError, what: str = "") -> ValueError:
    """Say in one line which field is wrong and what is allowed; `what` stands before it."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return ValueError(f"{what}{field}: {problem}, was {first['input']!r}")
