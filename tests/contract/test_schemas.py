"""The published schemas: up to date, complete, and of one mind with the models."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from consumer.cli.schemas import schemas as schemas_command
from schemas import (
    MAX_MESSAGE_BYTES,
    Candle,
    DeadLetterCode,
    Message,
    Signal,
    StrategyDecision,
    TradeClosed,
)
from schemas.export import render_schemas
from schemas.json_schema import message_schemas
from tests.support.builders import make_signal, make_trade
from tests.support.json_schema import Draft202012Validator, FormatChecker

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATED = REPOSITORY / "schemas" / "generated"
EXAMPLES = REPOSITORY / "schemas" / "examples"
REFRESH = "stale: run `meta-strategy schemas export schemas/generated`"

MODELS: dict[str, type[Message]] = {
    "signal": Signal,
    "trade_closed": TradeClosed,
    "strategy_decision": StrategyDecision,
    "candle": Candle,
}
SCHEMAS = message_schemas()
RENDERED = render_schemas()
GOOD = sorted(EXAMPLES.glob("good/*/*.json"))
BAD = sorted(EXAMPLES.glob("bad/*/*.json"))
BAD_OBJECTS = [path for path in BAD if "raw_base64" not in json.loads(path.read_bytes())]
BAD_RAW = [path for path in BAD if path not in BAD_OBJECTS]

STEADY = settings(derandomize=True, deadline=None)
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]  # as above
def _is_a_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value.upper()).tzinfo is not None


def _validator(message: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[message], format_checker=FORMATS)


VALIDATORS = {message: _validator(message) for message in SCHEMAS}


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _fields(error: ValidationError) -> set[str]:
    """Give the fields an error names; a check of several fields names one before a colon."""
    fields = set()
    for detail in error.errors():
        location = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]
        )
        text = str(detail.get("ctx", {}).get("error", ""))
        fields.add(location.removeprefix(".") or text.partition(":")[0])
    return fields


def _nodes(schema: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Walk through every part of a schema, each with the description that covers it."""
    stack = [(schema, "")]
    while stack:
        node, inherited = stack.pop()
        description = node.get("description", inherited)
        yield node, description
        for keyword in ("properties", "$defs"):
            stack.extend((child, "") for child in node.get(keyword, {}).values())
        for keyword in ("anyOf", "prefixItems"):
            stack.extend((child, description) for child in node.get(keyword, ()))
        inner = (node.get("items"), node.get("additionalProperties"))
        stack.extend((child, description) for child in inner if isinstance(child, dict))


# the files


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_generated_file_is_up_to_date(name: str) -> None:
    path = GENERATED / name

    assert path.exists(), f"{name} is {REFRESH}"
    assert path.read_bytes() == RENDERED[name], f"{name} is {REFRESH}"


def test_nothing_else_lies_among_the_generated_files() -> None:
    """A message that was renamed would leave its old schema behind for others to read."""
    assert {path.name for path in GENERATED.iterdir()} == set(RENDERED)


def test_export_writes_every_file_and_prints_its_path(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "schemas"

    result = CliRunner().invoke(schemas_command, ["export", str(directory)])

    assert result.exit_code == 0, result.output
    printed = [Path(line) for line in result.output.splitlines()]
    assert printed == [directory / name for name in RENDERED]
    assert {path.name: path.read_bytes() for path in printed} == RENDERED


def test_export_over_a_file_is_wrong_use(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")

    result = CliRunner().invoke(schemas_command, ["export", str(occupied)])

    assert result.exit_code == 2
    assert "DIR" in result.output


def test_export_below_a_file_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = CliRunner().invoke(schemas_command, ["export", str(tmp_path / "file" / "schemas")])

    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot write to ")
    assert len(result.output.splitlines()) == 1


# the schemas


@pytest.mark.parametrize("message", sorted(SCHEMAS))
def test_schema_is_a_json_schema_with_name_and_examples(message: str) -> None:
    schema = SCHEMAS[message]

    Draft202012Validator.check_schema(schema)

    assert schema["$id"] == f"urn:meta-strategy:schema:{message}:1"
    assert schema["title"]
    assert schema["description"]
    for example in schema["examples"]:
        VALIDATORS[message].validate(example)


@pytest.mark.parametrize("message", sorted(SCHEMAS))
def test_every_property_is_described(message: str) -> None:
    for node, _ in _nodes(SCHEMAS[message]):
        for name, child in node.get("properties", {}).items():
            # the branches of an anyOf over required fields only name their type
            assert "description" in child or set(child) == {"type"}, name


@pytest.mark.parametrize("message", sorted(SCHEMAS))
def test_every_number_states_its_unit_or_range(message: str) -> None:
    """A fraction that is taken for percent, or R for a multiple of risk, costs money."""
    stated = re.compile(r"\[[^\]]+\]|-?\d+ (\([^)]*\) )?to -?\d+|\b1 is the only\b|, 1 being the")
    numbers = [
        (node, description)
        for node, description in _nodes(SCHEMAS[message])
        if node.get("type") in {"number", "integer"} and set(node) != {"type"}
    ]

    assert numbers or message == "dead_letter_headers"
    for node, description in numbers:
        assert stated.search(description), (node, description)


def test_closed_sets_are_enums() -> None:
    definitions = SCHEMAS["trade_closed"]["$defs"]

    assert definitions["Side"]["enum"] == ["LONG", "SHORT"]
    assert "trend_up" in definitions["MarketRegime"]["enum"]
    assert "liquidation" in definitions["CloseReason"]["enum"]


def test_version_is_the_integer_one() -> None:
    version = SCHEMAS["signal"]["properties"]["schema_version"]

    assert (version["type"], version["const"]) == ("integer", 1)


def test_a_decision_writes_times_in_one_form_only() -> None:
    """Routers should not have to read two forms."""
    decision = json.loads((EXAMPLES / "good/strategy_decision/full.json").read_bytes())

    for time in (1_767_225_600_000, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000+00:00"):
        assert not VALIDATORS["strategy_decision"].is_valid(decision | {"ts": time})


# the golden messages


@pytest.mark.parametrize("path", GOOD, ids=_name)
def test_good_message_is_accepted(path: Path) -> None:
    message = json.loads(path.read_bytes())

    VALIDATORS[path.parent.name].validate(message)
    if path.parent.name in MODELS:
        MODELS[path.parent.name].model_validate(message)


@pytest.mark.parametrize("path", BAD_OBJECTS, ids=_name)
def test_bad_message_is_refused_by_its_field(path: Path) -> None:
    case = json.loads(path.read_bytes())

    with pytest.raises(ValidationError) as refusal:
        MODELS[path.parent.name].model_validate(case["message"])

    assert case["field"] in _fields(refusal.value)


@pytest.mark.parametrize("path", BAD_OBJECTS, ids=_name)
def test_bad_message_is_refused_by_the_schema_where_a_schema_can_tell(path: Path) -> None:
    """`beyond_json_schema` says why it cannot; a schema that can after all should be told so."""
    case = json.loads(path.read_bytes())

    accepted = VALIDATORS[path.parent.name].is_valid(case["message"])

    assert accepted == ("beyond_json_schema" in case)


@pytest.mark.parametrize("path", BAD_RAW, ids=_name)
def test_bad_value_is_no_json_object(path: Path) -> None:
    """Numbers beyond a float count as no JSON: some parsers would take them for infinity."""
    case = json.loads(path.read_bytes())
    value = base64.b64decode(case["raw_base64"], validate=True)

    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        parsed = None

    assert not isinstance(parsed, dict)
    with pytest.raises(ValidationError):
        MODELS[path.parent.name].model_validate_json(value)


def test_bad_examples_say_what_to_expect() -> None:
    for path in BAD:
        case = json.loads(path.read_bytes())
        code = DeadLetterCode(case["code"])
        version = case.get("message", {}).get("schema_version")

        assert case["why"].endswith("."), path
        if path in BAD_RAW:
            assert (code, case["field"]) == (DeadLetterCode.INVALID_JSON, None), path
        elif type(version) is int and version > 1:
            assert code is DeadLetterCode.UNSUPPORTED_VERSION, path
        else:
            assert code is DeadLetterCode.INVALID_MESSAGE, path


def test_no_example_is_larger_than_a_record_may_be() -> None:
    """Else the worker would refuse it for its size alone, whatever it is an example of."""
    for path in GOOD + BAD:
        case = json.loads(path.read_bytes())
        value = json.dumps(case.get("message", case), ensure_ascii=False).encode()

        assert len(value) <= MAX_MESSAGE_BYTES, path


@pytest.mark.parametrize("message", ["signal", "trade_closed"])
def test_every_field_has_a_bad_example(message: str) -> None:
    fields = {json.loads(path.read_bytes())["field"] for path in BAD if path.parent.name == message}
    named = {re.split(r"[.\[]", field)[0] for field in fields if field}

    assert named == set(MODELS[message].model_fields)


@pytest.mark.parametrize("message", sorted(MODELS))
def test_full_example_sets_every_field(message: str) -> None:
    example = json.loads((EXAMPLES / "good" / message / "full.json").read_bytes())

    assert {name for name, value in example.items() if value is not None} == set(
        MODELS[message].model_fields
    )


@pytest.mark.parametrize("name", ["full", "minimal"])
def test_decision_example_adds_up(name: str) -> None:
    decision = json.loads((EXAMPLES / f"good/strategy_decision/{name}.json").read_bytes())
    origin = f"meta-strategy:{decision['account']}:{decision['signal_id']}"
    tpsl = decision["tpsl"]

    assert decision["decision_id"] == str(uuid5(NAMESPACE_URL, origin))
    assert sum(decision["propensities"].values()) == pytest.approx(1.0)
    assert decision["propensity"] == decision["propensities"][decision["strategy"]]
    assert sum(tpsl[f"partial_close_tp{n}"] for n in (1, 2, 3)) == pytest.approx(1.0)
    for n in (1, 2, 3):
        distance = tpsl[f"atr_mult_tp{n}"] * tpsl["atr"]
        assert tpsl[f"take_profit_{n}"] == pytest.approx(tpsl["entry_reference"] + distance)


# model and schema

# decimal numbers without a fraction are left out: JSON Schema takes them for integers
_JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.integers(-2, 101)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value % 1 != 0)
    | st.text(st.characters(codec="utf-8"), max_size=140).filter(
        lambda text: not text.endswith("\n")
    )
    | st.sampled_from(["LONG", "SHORT", "trend_up", "default", "stop_loss", "1h", "NaN", "1"])
)


def _agree(message: str, value: dict[str, Any]) -> None:
    try:
        MODELS[message].model_validate(value)
        accepted = True
    except ValidationError:
        accepted = False

    assert VALIDATORS[message].is_valid(value) == accepted


@STEADY
@given(
    field=st.sampled_from(sorted(Signal.model_fields.keys() - {"market", "metadata"})),
    value=_JSON_SCALARS | st.lists(_JSON_SCALARS, max_size=2),
)
def test_model_and_schema_agree_on_signals(field: str, value: Any) -> None:
    _agree("signal", {**make_signal(), field: value})


@STEADY
@given(
    field=st.sampled_from(sorted(SCHEMAS["signal"]["$defs"]["MarketContext"]["properties"])),
    value=_JSON_SCALARS,
)
def test_model_and_schema_agree_on_markets(field: str, value: Any) -> None:
    signal = make_signal()

    signal["market"][field] = value

    _agree("signal", signal)


@STEADY
@given(
    field=st.sampled_from(sorted(TradeClosed.model_fields.keys() - {"metadata"})),
    value=_JSON_SCALARS | st.lists(_JSON_SCALARS, max_size=2),
)
def test_model_and_schema_agree_on_trades(field: str, value: Any) -> None:
    _agree("trade_closed", {**make_trade(), field: value})
