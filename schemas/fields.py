"""Constrained types that several messages share: one place for each limit of the contract."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import to_json

SCHEMA_VERSION = 1
"""The newest message version this package reads and the one it writes."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Largest value of an input record [bytes] (contract, section 1)."""

MAX_METADATA_BYTES = 4 * 1024
"""Largest `metadata` object, as compact JSON [bytes]."""

_MAX_METADATA_DEPTH = 32  # deep enough for people; far below the encoders' own recursion limits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_HOUR_MINUTE = r"([01][0-9]|2[0-3]):[0-5][0-9]"
# without the leap second: Unix time has none
_RFC3339 = rf"^{_DATE}[Tt ]{_HOUR_MINUTE}:[0-5][0-9](\.[0-9]{{1,9}})?([Zz]|[+-]{_HOUR_MINUTE})$"
_RFC3339_MATCHER = re.compile(_RFC3339)


class Message(BaseModel):
    """Base of all messages: never changed once made; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


def parse_time_ms(value: Any) -> int:
    """Read a time as the contract writes it.

    Args:
        value: An RFC 3339 string with an offset, or integer Unix milliseconds.

    Returns:
        Unix time [ms], within the years 1970 to 9999; finer digits are cut off.

    Raises:
        ValueError: Anything else.
    """
    if isinstance(value, str):
        value = _text_time_ms(value)
    if type(value) is not int:  # bool is an int, too, and is none here
        raise ValueError("must be an RFC 3339 time with an offset, or integer Unix milliseconds")
    if not 0 <= value <= _MAX_TIME_MS:
        raise ValueError("must lie within the years 1970 to 9999")
    return value


@lru_cache(maxsize=1024)  # signals of the end of a bar tell the same one
def _text_time_ms(text: str) -> int:
    if not _RFC3339_MATCHER.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with an offset, or integer Unix milliseconds")
    # whole numbers all the way: a float of seconds is off by a millisecond in far years
    return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=1024)  # the times of a batch are few
def format_time_ms(time_ms: int) -> str:
    """Write a Unix time [ms] as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms // 1000, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def _depth(value: Any, limit: int) -> int:
    if limit < 0 or not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)


def _checked_metadata(value: dict[str, Any]) -> dict[str, Any]:
    if _depth(value, _MAX_METADATA_DEPTH) > _MAX_METADATA_DEPTH:
        raise ValueError(f"must be nested at most {_MAX_METADATA_DEPTH} levels deep")
    if len(to_json(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes as JSON")
    return value


_TIME_READ = {
    "anyOf": [
        {
            "type": "string",
            "format": "date-time",
            "pattern": _RFC3339,
            "description": "RFC 3339 with an offset, within the years 1970 to 9999.",
        },
        {
            "type": "integer",
            "minimum": 0,
            "maximum": _MAX_TIME_MS,
            "description": "Unix time [ms].",
        },
    ]
}
_TIME_WRITTEN = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}

TimeMs = Annotated[
    int,
    BeforeValidator(parse_time_ms),
    WithJsonSchema(_TIME_READ, mode="validation"),
    WithJsonSchema(_TIME_WRITTEN, mode="serialization"),
]
"""A time: RFC 3339 with an offset or Unix milliseconds on the wire, Unix time [ms] in the model."""

Version = Annotated[
    int,  # Literal[1] takes true and 1.0 for 1
    Field(ge=1, le=SCHEMA_VERSION, description="Version of this message: 1 is the only one yet."),
    WithJsonSchema({"type": "integer", "const": SCHEMA_VERSION}),
]
Symbol = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,32}$", description="Also the key of the record.")
]
Account = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
Variant = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
StrategyName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
"""The id of a strategy: one of the seven, or of a profile from a file."""
Identifier = Annotated[str, Field(min_length=1, max_length=128)]
Timeframe = Annotated[str, Field(min_length=1, max_length=32)]
Price = Annotated[float, Field(ge=1e-12, le=1e15)]
"""A price or a positive size [quote]."""
Amount = Annotated[float, Field(ge=0.0, le=1e15)]
"""A size that may be zero."""
RMultiple = Annotated[float, Field(ge=-1000.0, le=1000.0)]
"""A profit or loss [R: one ATR]."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Signed = Annotated[float, Field(ge=-1.0, le=1.0)]
Measured = Annotated[tuple[Signed, ...], Field(strict=False, max_length=64)]
"""What a policy measured of a signal, in its own order."""
Metadata = Annotated[dict[str, Any], AfterValidator(_checked_metadata)]
