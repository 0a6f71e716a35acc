"""Properties of the messages: what every field of every model has in common."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from math import inf, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import (
    MAX_METADATA_BYTES,
    MAX_PATH_CANDLES,
    Candle,
    Message,
    Side,
    Signal,
    TradeClosed,
    format_time_ms,
    parse_time_ms,
)
from tests.support.builders import OMIT, make_signal, make_trade, signal_bytes, trade_bytes
from tests.support.examples import examples

STEADY = examples(2)

MAX_TIME_MS = 253_402_300_799_999

MODELS: list[tuple[type[Message], Any]] = [(Signal, make_signal), (TradeClosed, make_trade)]

# inclusive limits by field
MARKET_LIMITS = {
    "current_price": (1e-12, 1e15),
    "atr": (1e-12, 1e15),
    "adx": (0.0, 100.0),
    "trend_strength": (-1.0, 1.0),
    "volume_24h": (0.0, 1e15),
    "depth_5bps": (0.0, 1e15),
    "spread_bps": (0.0, 1e15),
    "correlation_to_btc": (-1.0, 1.0),
    "recent_news_sentiment": (-1.0, 1.0),
}
TRADE_LIMITS = {
    "entry_price": (1e-12, 1e15),
    "exit_price": (1e-12, 1e15),
    "atr": (1e-12, 1e15),
    "fees": (-1e15, 1e15),
    "realized_r": (-1000.0, 1000.0),
    "mfe_r": (-1000.0, 1000.0),
    "mae_r": (-1000.0, 1000.0),
    "pnl": (-1e15, 1e15),
    "duration_hours": (0.0, 1e15),
}
LIMITS = [(Signal, make_signal, field, *limits) for field, limits in MARKET_LIMITS.items()] + [
    (TradeClosed, make_trade, field, *limits) for field, limits in TRADE_LIMITS.items()
]
NO_NUMBERS = st.one_of(
    st.booleans(),
    st.text(),
    st.floats().map(str),
    st.integers().map(str),
    st.lists(st.floats(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 10**400]),
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=3)
    ),
    max_leaves=5,
)
OFFSETS = st.integers(-(24 * 60) + 1, 24 * 60 - 1).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)


def _field_of(model: type[Message], message: dict[str, Any]) -> str | int:
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(message)
    return refusal.value.errors()[0]["loc"][-1]


def _value_of(message: Message, field: str) -> Any:
    return getattr(getattr(message, "market", message), field)


# times


@STEADY
@given(st.integers(0, MAX_TIME_MS))
def test_time_survives_being_written_and_read(time_ms: int) -> None:
    text = format_time_ms(time_ms)

    assert parse_time_ms(text) == time_ms
    assert parse_time_ms(time_ms) == time_ms
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)


@STEADY
@given(st.integers(0, MAX_TIME_MS), st.integers(0, MAX_TIME_MS))
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    """Logs and tables are sorted as text."""
    assert (format_time_ms(one) < format_time_ms(other)) == (one < other)


@STEADY
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS),  # noqa: DTZ001
    st.sampled_from("Tt "),
)
def test_time_with_any_offset_is_the_same_instant(moment: datetime, separator: str) -> None:
    text = moment.isoformat(sep=separator, timespec="microseconds")

    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_time_ms(text) == since_1970 // timedelta(milliseconds=1)


@STEADY
@given(st.datetimes().map(datetime.isoformat))
def test_time_without_offset_is_refused(text: str) -> None:
    assert _field_of(Signal, make_signal(ts=text)) == "ts"


@STEADY
@given(st.integers(max_value=-1) | st.integers(min_value=MAX_TIME_MS + 1))
def test_time_outside_the_calendar_is_refused(time_ms: int) -> None:
    assert _field_of(Signal, make_signal(ts=time_ms)) == "ts"


@STEADY
@given(st.booleans() | st.floats() | st.text(max_size=40) | st.none() | st.lists(st.integers()))
def test_what_is_no_time_is_refused(value: object) -> None:
    assert _field_of(TradeClosed, make_trade(closed_at=value)) == "closed_at"


# numbers


# One drawn value is tried in all 18 fields: drawing costs many times what validating does.


@STEADY
@given(st.floats(allow_nan=False) | st.floats(-1.0, 1.0))
def test_number_within_its_limits_is_kept(drawn: float) -> None:
    for model, make, field, low, high in LIMITS:
        value = min(max(drawn, low), high)

        assert _value_of(model.model_validate(make(**{field: value})), field) == value, field


@STEADY
@given(st.floats(allow_nan=False) | st.floats(-1.0, 1.0))
def test_number_beyond_its_limits_is_refused(drawn: float) -> None:
    for model, make, field, low, high in LIMITS:
        if not low <= drawn <= high:
            assert _field_of(model, make(**{field: drawn})) == field


@pytest.mark.parametrize(("model", "make", "field", "low", "high"), LIMITS)
def test_limits_of_a_number_are_inclusive(
    model: type[Message], make: Any, field: str, low: float, high: float
) -> None:
    for limit in (low, high):
        assert _value_of(model.model_validate(make(**{field: limit})), field) == limit
    for beyond in (nextafter(low, -inf), nextafter(high, inf)):
        assert _field_of(model, make(**{field: beyond})) == field


@STEADY
@given(NO_NUMBERS)
def test_what_is_no_number_is_refused(value: object) -> None:
    """A lenient reader would take "NaN" or true for a price."""
    for model, make, field, _, _ in LIMITS:
        assert _field_of(model, make(**{field: value})) == field


@pytest.mark.parametrize(("model", "make", "field", "low", "high"), LIMITS)
def test_integer_is_accepted_for_a_number(
    model: type[Message], make: Any, field: str, low: float, high: float
) -> None:
    """Many languages write 50000.0 as 50000."""
    value = _value_of(model.model_validate(make(**{field: 1})), field)

    assert (type(value), value) == (float, 1.0)


@STEADY
@given(st.floats() | st.booleans() | st.text() | st.integers(max_value=-1))
def test_revision_is_a_natural_number(value: object) -> None:
    assert _field_of(TradeClosed, make_trade(revision=value)) == "revision"


@STEADY
@given(st.one_of(st.booleans(), st.floats(), st.text(), st.none(), st.integers(max_value=0)))
def test_version_is_the_integer_one(value: object) -> None:
    """`true` equals 1 in Python, and is no version."""
    for model, make in MODELS:
        assert _field_of(model, make(schema_version=value)) == "schema_version"


@STEADY
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_exits_of_any_shares_sum_to_one(shares: list[int]) -> None:
    """Shares divided by their sum miss 1 by rounding; the tolerance is there for them."""
    total = sum(shares)
    exits = [{"price": 100.0 + n, "fraction": share / total} for n, share in enumerate(shares)]

    trade = TradeClosed.model_validate(make_trade(exits=exits, exit_price=OMIT))

    mean = sum((100.0 + n) * share for n, share in enumerate(shares)) / total
    assert trade.exit_mean == pytest.approx(mean)


@STEADY
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5))
def test_exits_that_do_not_sum_to_one_are_refused(fractions: list[float]) -> None:
    trade = make_trade(exits=[{"price": 100.0, "fraction": fraction} for fraction in fractions])

    if abs(sum(fractions) - 1.0) <= 1e-6:
        TradeClosed.model_validate(trade)
    else:
        with pytest.raises(ValidationError, match="exits: fractions must sum to 1"):
            TradeClosed.model_validate(trade)


@STEADY
@given(st.lists(st.integers(0, MAX_TIME_MS), max_size=20))
def test_path_is_accepted_when_its_times_rise(times: list[int]) -> None:
    trade = make_trade(path=[[time, 102.0, 98.0, 100.0] for time in times])

    if all(earlier < later for earlier, later in pairwise(times)):
        path = TradeClosed.model_validate(trade).path
        assert path == tuple((time, 102.0, 98.0, 100.0) for time in times)
    else:
        with pytest.raises(ValidationError, match=r"path\[\d+\]: times must rise"):
            TradeClosed.model_validate(trade)


def test_longest_path_fits_into_a_record() -> None:
    """Both limits are promised: 500 candles, and 64 KiB."""
    path = [
        [1_767_225_600_000 + n, 123456.78901234567, 123456.12345678901, 123456.45678901234]
        for n in range(MAX_PATH_CANDLES)
    ]

    assert len(trade_bytes(path=path)) < 64 * 1024


# text


@STEADY
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=128))
def test_any_text_of_128_characters_is_an_identifier(text: str) -> None:
    signal = json.loads(signal_bytes(signal_id=text))

    assert Signal.model_validate(signal).signal_id == text


@STEADY
@given(st.text(max_size=40))
def test_symbol_is_kept_or_refused_never_changed(text: str) -> None:
    """The symbol is the key: two spellings of one would be two partitions."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-")
    valid = 1 <= len(text) <= 32 and set(text) <= allowed

    try:
        symbol = Signal.model_validate(make_signal(symbol=text)).symbol
    except ValidationError:
        assert not valid
    else:
        assert valid
        assert symbol == text


@STEADY
@given(st.text(max_size=10).filter(lambda text: text not in set(Side)))
def test_side_is_one_of_two(text: str) -> None:
    assert _field_of(Signal, make_signal(side=text)) == "side"


@STEADY
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON_VALUES, max_size=2))
def test_metadata_is_opaque(metadata: dict[str, Any]) -> None:
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    # floats have several spellings of different length: stay clear of the limit
    if size > MAX_METADATA_BYTES // 2:
        return

    assert Signal.model_validate(make_signal(metadata=metadata)).metadata == metadata


@STEADY
@given(st.integers(0, 3 * MAX_METADATA_BYTES), st.sampled_from(["x", "é", "信", "😀", '"']))
def test_metadata_is_bounded_in_bytes(length: int, character: str) -> None:
    metadata = {"note": character * length}
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())

    if size <= MAX_METADATA_BYTES:
        assert Signal.model_validate(make_signal(metadata=metadata)).metadata == metadata
    else:
        assert _field_of(Signal, make_signal(metadata=metadata)) == "metadata"


@pytest.mark.parametrize("depth", [33, 100, 900])
def test_metadata_is_bounded_in_depth(depth: int) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(depth - 1):
        metadata = {"d": metadata}

    assert _field_of(Signal, make_signal(metadata=metadata)) == "metadata"


# objects


@STEADY
@given(st.text(min_size=1), JSON_VALUES)
def test_unknown_field_is_ignored(name: str, value: Any) -> None:
    """Producers may add fields before this worker knows them."""
    for model, make in MODELS:
        message = make()
        known = model.model_validate(message)

        if name not in model.model_fields:
            assert model.model_validate({**message, name: value}) == known


@pytest.mark.parametrize(("model", "make"), MODELS)
def test_null_is_the_same_as_missing(model: type[Message], make: Any) -> None:
    message = {k: v for k, v in make().items() if model.model_fields[k].is_required()}
    if model is TradeClosed:
        message["exit_price"] = 100.0  # required without exits
    nulls = {k: None for k, v in model.model_fields.items() if not v.is_required()}

    assert model.model_validate({**nulls, **message}) == model.model_validate(message)


def test_null_is_the_same_as_missing_in_a_market() -> None:
    optional = dict.fromkeys(
        (
            "atr_pct",
            "adx",
            "trend_strength",
            "volume_24h",
            "depth_5bps",
            "spread_bps",
            "market_cap_rank",
            "correlation_to_btc",
            "recent_news_sentiment",
        )
    )
    missing = make_signal(**dict.fromkeys(optional, OMIT))
    null = {**missing, "market": {**missing["market"], **optional}}

    assert Signal.model_validate(null) == Signal.model_validate(missing)


@pytest.mark.parametrize(("model", "make"), MODELS)
def test_null_is_missing_for_required_fields_too(model: type[Message], make: Any) -> None:
    for field, info in model.model_fields.items():
        if info.is_required():
            assert _field_of(model, {**make(), field: None}) == field


@pytest.mark.parametrize(("model", "make"), MODELS)
def test_message_is_frozen(model: type[Message], make: Any) -> None:
    message = model.model_validate(make())

    for field in model.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(message, field, None)


@STEADY
@given(JSON_VALUES.filter(lambda value: not isinstance(value, dict)))
def test_what_is_no_object_is_no_message(value: Any) -> None:
    for model, _ in MODELS:
        with pytest.raises(ValidationError):
            model.model_validate(value)


# candles


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"close_time": 0}, "close_time"),
        ({"low": 101.0}, "high"),
        ({"high": 99.0}, "high"),
        ({"close": 103.0}, "high"),
        ({"volume": -1.0}, "volume"),
        ({"open": 0.0}, "open"),
        ({"open_time": "2026-01-01T00:00:00"}, "open_time"),
    ],
)
def test_what_is_no_candle_is_refused(changes: dict[str, Any], field: str) -> None:
    candle = {
        "schema_version": 1,
        "symbol": "BTCUSDT",
        "timeframe": "15m",
        "open_time": 0,
        "close_time": 900_000,
        "open": 100.0,
        "high": 102.0,
        "low": 98.0,
        "close": 101.0,
        "volume": 5.0,
    }
    Candle.model_validate(candle)

    with pytest.raises(ValidationError, match=field):
        Candle.model_validate(candle | changes)


# builders


def test_built_messages_are_valid_and_never_the_same() -> None:
    signals = [Signal.model_validate(json.loads(signal_bytes())) for _ in range(3)]
    trades = [TradeClosed.model_validate(json.loads(trade_bytes())) for _ in range(3)]

    assert len({signal.signal_id for signal in signals}) == 3
    assert len({trade.trade_id for trade in trades}) == 3


def test_builder_puts_market_fields_into_the_market() -> None:
    signal = make_signal(adx=12, depth_5bps=OMIT, symbol="ETHUSDT")

    assert signal["market"]["adx"] == 12
    assert "depth_5bps" not in signal["market"]
    assert signal["symbol"] == "ETHUSDT"


def test_builder_refuses_a_misspelt_field() -> None:
    with pytest.raises(TypeError, match="adxx"):
        make_signal(adxx=1)
    with pytest.raises(TypeError, match="exit_prise"):
        make_trade(exit_prise=1)
