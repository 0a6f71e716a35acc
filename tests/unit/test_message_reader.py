"""The quick reader takes nothing that the model would refuse, and reads what it takes as the model does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from consumer.decision_record import DecisionRecord
from consumer.message_reader import MessageReader
from fuzz.records import fields_of
from schemas import Candle, Message, Signal, TradeClosed
from schemas.fields import Symbol, TimeMs
from tests.support.examples import examples

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
MODELS: Mapping[str, type[BaseModel]] = {
    "signal": Signal,
    "trade_closed": TradeClosed,
    "candle": Candle,
    "strategy_decision": DecisionRecord,
}
READERS = {
    kind: MessageReader(model, skips_others=model is DecisionRecord)
    for kind, model in MODELS.items()
}
GOOD = {
    kind: [(path.stem, path.read_bytes()) for path in sorted((EXAMPLES / "good" / kind).glob("*"))]
    for kind in MODELS
}
LEFT_TO_THE_MODEL = ("metadata", "path")
"""Fields that no struct is made for; and those of other names."""

kinds = pytest.mark.parametrize("kind", MODELS)


@pytest.mark.parametrize("kind", ["signal", "trade_closed", "candle"])
def test_symbols_that_are_alike_are_one_object(kind: str) -> None:
    """Of many messages few are: what is remembered of each holds no text of its own, and is found at once."""
    value = next(v for _, v in GOOD[kind] if READERS[kind].read(v) is not None)
    one, other = READERS[kind].read(value), READERS[kind].read(value)

    assert one is not None
    assert other is not None
    assert one.symbol is other.symbol  # type: ignore[attr-defined]


def meant(kind: str, value: bytes) -> str | None:
    """Tell what the model reads; None where it refuses."""
    model = MODELS[kind]
    try:
        if model is DecisionRecord:  # big whole numbers stay whole there
            return fields_of(model.model_validate_json(value))
        return fields_of(model.model_validate(orjson.loads(value)))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def check(kind: str, value: bytes) -> bool:
    """Hold what is read against what the model reads; tell whether it was read."""
    found = READERS[kind].read(value)
    if found is None:
        return False
    assert fields_of(found) == meant(kind, value)
    return True


# What a value may be instead: of another kind, at a limit or a digit beyond it, or odd as JSON goes
odd_numbers = st.sampled_from(
    [
        "0",
        "-0",
        "-0.0",
        "1",
        "1.0",
        "2",
        "1e0",
        "100",
        "100.0000001",
        "-1",
        "-1.0000001",
        "1000",
        "1000.5",
        "1e15",
        "1.0000000000000002e15",
        "1e-12",
        "9.999e-13",
        "1e308",
        "1e309",
        "5e-324",
        "1e-400",
        "9007199254740993",
        "18446744073709551616",
        "1e400",
        "01",
        "1.",
        ".5",
        "+1",
        "0x1",
        "NaN",
        "Infinity",
        "253402300799999",
        "253402300800000",
        "1000000000",
        "1000000001",
    ]
)
odd_texts = st.one_of(
    st.text(max_size=140),
    st.sampled_from(["", "a" * 32, "a" * 33, "a" * 128, "a" * 129, "é" * 128, "é" * 129]),
    st.sampled_from(["BTC\n", "BTC ", "LONG", "long", "trend_up", "1", "2026-13-01T00:00:00Z"]),
    st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456789+05:30"]),
).map(json.dumps)
odd_values = st.one_of(
    odd_numbers,
    odd_texts,
    st.sampled_from(["null", "true", "false", "[]", "{}", "[1]", "[null]", '["LONG"]', '{"a":1}']),
    st.sampled_from(['"\\ud800"', '"\n"', "[1767225600000,2,1,1.5]", '[{"timeframe":"4h"}]']),
    st.sampled_from(['[{"timeframe":"4h","adx":101}]', '[{"price":1,"fraction":1}]']),
    st.just('[{"price":1,"fraction":0.5},{"price":2,"fraction":0.5}]'),
)


@kinds
@given(data=st.data())
@examples(20)
def test_what_is_read_is_what_the_model_reads(kind: str, data: st.DataObject) -> None:
    message = json.loads(data.draw(st.sampled_from(GOOD[kind]))[1])
    places = [(message, name) for name in (*MODELS[kind].model_fields, "another")]
    places += [
        (one, name)
        for one in message.values()
        if isinstance(one, dict)
        for name in (*one, "another")
    ]
    marks = {}
    for _ in range(data.draw(st.integers(0, 3))):
        holder, name = data.draw(st.sampled_from(places))
        if data.draw(st.booleans()):
            holder.pop(name, None)
        else:
            holder[name] = mark = f"<{len(marks)}>"
            marks[f'"{mark}"'] = data.draw(odd_values)
    text = json.dumps(message, ensure_ascii=data.draw(st.booleans()))
    for mark, value in marks.items():
        text = text.replace(mark, value)

    check(kind, text.encode())


@kinds
@given(data=st.data())
@examples(10)
def test_bytes_of_any_kind_are_read_as_the_model_reads_them(kind: str, data: st.DataObject) -> None:
    value = bytearray(data.draw(st.sampled_from(GOOD[kind]))[1])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value) - 1))
        value[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))

    check(kind, bytes(value))


@kinds
def test_messages_of_every_day_are_not_left_to_the_model(kind: str) -> None:
    for name, value in GOOD[kind]:
        message = json.loads(value)
        others = [*(message.keys() - MODELS[kind].model_fields.keys()), *LEFT_TO_THE_MODEL]
        is_left = any(message.get(other) is not None for other in others)

        assert check(kind, value) is (kind == "strategy_decision" or not is_left), name


def test_what_follows_from_the_fields_is_there() -> None:
    parts = [{"price": 10.0, "fraction": 0.25}, {"price": 20.0, "fraction": 0.75}]
    message = json.loads(dict(GOOD["trade_closed"])["minimal"]) | {"exits": parts}

    found = MessageReader(TradeClosed).read(orjson.dumps(message))

    assert found is not None
    assert found.exit_mean == 17.5


class Parsed(Message):
    """A field that is parsed and need not be there."""

    at: TimeMs | None = None
    never_null: TimeMs = 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"{}", (None, 5)),
        (b'{"at":null}', (None, 5)),
        (b'{"at":7}', (7, 5)),
        (b'{"at":"1970-01-01T00:00:01Z","never_null":"1970-01-01T00:00:02Z"}', (1_000, 2_000)),
        (b'{"never_null":null}', None),
        (b'{"at":"soon"}', None),
        (b'{"at":-1}', None),
    ],
)
def test_a_field_that_is_parsed_is_parsed(value: bytes, expected: tuple[Any, Any] | None) -> None:
    found = MessageReader(Parsed).read(value)

    assert (found and (found.at, found.never_null)) == expected


SKIPPED = [
    '"\xff"',
    '"\ud800"',
    '"a\nb"',
    '"\\x"',
    "1e999",
    "NaN",
    "01",
    "9" * 5_000,
    "[" * 150 + "]" * 150,
    "[" * 700 + "]" * 700,
    "{" * 300,
    "tru",
    '"é"',
    '{"a":[1,2,{"b":null}]}',
]


@pytest.mark.parametrize("odd", SKIPPED)
@pytest.mark.parametrize("place", ["value", "key"])
def test_what_is_skipped_is_what_the_model_would_skip(odd: str, place: str) -> None:
    """Whether a record is foreign is told by its bytes, not by who reads it or how deep in its calls."""
    field = f'"another": {odd}' if place == "value" else f"{odd}: 1"
    raw = (
        field.encode("latin-1", "surrogatepass")
        if "\xff" in odd
        else field.encode("utf-8", "surrogatepass")
    )
    value = b"{" + raw + b", " + dict(GOOD["strategy_decision"])["minimal"].lstrip()[1:]

    check("strategy_decision", value)


class Venue(Message):
    """Its pattern would be looked up in whole messages only."""

    name: Symbol


class Holder(Message):
    """A model in it is checked as a whole, has a time or a pattern, or limits of its own that no struct knows."""

    candle: Candle | None = None
    venue: Venue | None = None
    names: Annotated[tuple[Symbol, ...], Field(strict=False)] | None = None
    late: Annotated[TimeMs, Field(ge=10**12)] | None = None
    multiple: Annotated[int, Field(multiple_of=3)] | None = None
    by_name: dict[str, int] | None = None
    either: Symbol | int | None = None


@pytest.mark.parametrize(
    "value",
    [
        b'{"candle":{}}',
        b'{"venue":{"name":"BTC"}}',
        b'{"names":["no symbol!"]}',
        b'{"late":5}',
        b'{"late":1767225600000}',
        b'{"multiple":3}',
        b'{"by_name":{}}',
        b'{"either":1}',
    ],
)
def test_what_no_struct_can_say_is_left_to_the_model(value: bytes) -> None:
    assert MessageReader(Holder).read(value) is None
    assert MessageReader(Holder).read(b'{"candle":null,"either":null}') is not None


def test_a_model_whose_checks_are_not_known_is_refused() -> None:
    class ByField(Message):
        size: int

        @field_validator("size")
        @classmethod
        def _halved(cls, size: int) -> int:
            return size // 2

    class Before(Message):
        size: int

        @model_validator(mode="before")
        @classmethod
        def _same(cls, told: Any) -> Any:
            return told

    class Unknown(Message):
        sizes: dict[str, int] = Field({})

    class Renamed(Message):
        size: int = Field(alias="length")

    class Made(Message):
        sizes: tuple[int, ...] = Field(default_factory=tuple)

    class Stripped(Message):
        model_config = ConfigDict(str_strip_whitespace=True)

        name: str

    class Closed(Message):
        model_config = ConfigDict(extra="forbid")

    class Finished(Message):
        def model_post_init(self, _: Any) -> None:
            raise ValueError

    for model in (ByField, Before):
        with pytest.raises(TypeError, match=f"{model.__name__}: has checks"):
            MessageReader(model)
    for model in (Renamed, Made, Stripped, Closed, Finished):
        with pytest.raises(TypeError, match=f"{model.__name__}: is read"):
            MessageReader(model)
    with pytest.raises(TypeError, match=r"Unknown\.sizes: is of a kind"):
        MessageReader(Unknown)
