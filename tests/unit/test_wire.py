"""Bytes to messages: no input may raise anything but a dead letter."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import BadMessageError
from consumer.wire import (
    decode_signal,
    decode_trade,
    encode_dead_letter,
    header,
)
from fuzz.records import fields_of
from schemas import DeadLetterCode, Signal, TradeClosed
from tests.support.builders import (
    OMIT,
    START_MS,
    FakeRecord,
    make_signal,
    make_trade,
    signal_bytes,
    trade_bytes,
)
from tests.support.examples import examples

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
DECODE = {"signal": decode_signal, "trade_closed": decode_trade}
BYTES = {"signal": signal_bytes, "trade_closed": trade_bytes}
KIB = 1024
MAX = 64 * KIB
BROKER_LIMIT = 1_000_000
"""A little below the usual `message.max.bytes`, for what the batch adds."""
both = pytest.mark.parametrize("kind", ["signal", "trade_closed"])
Code = DeadLetterCode


def refusal(kind: str, value: bytes | None, *, key: bytes | None = b"BTCUSDT") -> BadMessageError:
    with pytest.raises(BadMessageError) as caught:
        DECODE[kind](FakeRecord(value, key))
    error = str(caught.value)
    assert error.isprintable(), "one line, without control characters"
    assert error
    return caught.value


def error_of(kind: str, value: bytes | None, key: bytes | None) -> BadMessageError | None:
    """Read a message or refuse it; anything else leaves this function, and fails the test."""
    try:
        DECODE[kind](FakeRecord(value, key))
    except BadMessageError as error:
        return error
    return None


def code_of(kind: str, value: bytes | None, *, key: bytes | None = b"BTCUSDT") -> Code:
    return refusal(kind, value, key=key).code


@both
def test_a_good_message_is_read(kind: str) -> None:
    value = BYTES[kind]()

    message = DECODE[kind](FakeRecord(value))

    model = Signal if kind == "signal" else TradeClosed
    assert fields_of(message) == fields_of(model.model_validate(json.loads(value)))


@both
@pytest.mark.parametrize("where", ["good", "bad"])
def test_golden_messages_are_read_or_refused_as_they_say(kind: str, where: str) -> None:
    """Other implementations of executor and router are tested with the same files."""
    for path in sorted((EXAMPLES / where / kind).glob("*.json")):
        example = json.loads(path.read_bytes())
        if where == "good":
            key = example["symbol"].encode()
            DECODE[kind](FakeRecord(path.read_bytes(), key))
            continue
        raw = example.get("raw_base64")
        message = example.get("message", {})
        value = json.dumps(message).encode() if raw is None else base64.b64decode(raw)
        key = str(message.get("symbol")).encode()

        error = refusal(kind, value, key=key)

        assert error.code == example["code"], path.name
        if example["field"]:
            assert example["field"].split("[")[0] in str(error), path.name


@both
def test_size_is_told_first(kind: str) -> None:
    """Nothing of that size is even parsed."""
    fitting = BYTES[kind]() + b" " * MAX
    for value in (fitting, b"\xff" * (MAX + 1), b"[" * (MAX + 1), b'{"schema_version":9}' * 9999):
        assert code_of(kind, value, key=None) is Code.TOO_LARGE
    assert DECODE[kind](FakeRecord(fitting[:MAX])).symbol == "BTCUSDT"
    assert code_of(kind, b" " * MAX) is Code.INVALID_JSON


@both
@pytest.mark.parametrize(
    "value",
    [None, b"", b" ", b"null", b"1", b'"text"', b"[]", b"[{}]", b"true", b"{", b"{}{}", b"\xff\xfe",
     b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e400}', b'{"a":"\\ud800"}',
     b"{'a':1}", b"[" * 5000, b'{"a":' * 5000, b"\x00", "{}".encode("utf-16")],
)  # fmt: skip
def test_what_is_no_json_object_is_invalid_json(kind: str, value: bytes | None) -> None:
    assert code_of(kind, value) is Code.INVALID_JSON
    assert code_of(kind, value, key=None) is Code.INVALID_JSON


@both
@pytest.mark.parametrize("version", [2, 3, 99, 2**31, 2**63])
def test_a_higher_version_is_unsupported_whatever_else_it_holds(kind: str, version: int) -> None:
    """A later version may have other fields: this one cannot tell what is wrong with them."""
    later = json.dumps({"schema_version": version, "side": "FLAT"}).encode()

    assert code_of(kind, BYTES[kind](schema_version=version)) is Code.UNSUPPORTED_VERSION
    assert code_of(kind, later) is Code.UNSUPPORTED_VERSION


@both
@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, OMIT, [1]])
def test_a_version_that_is_none_is_an_invalid_message(kind: str, version: Any) -> None:
    error = refusal(kind, BYTES[kind](schema_version=version))

    assert error.code is Code.INVALID_MESSAGE
    assert "schema_version" in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signal_id", ""),
        ("side", "long"),
        ("ts", "yesterday"),
        ("symbol", "BTC USDT"),
        ("timeframe", OMIT),
        ("confidence", 1.5),
        ("account", "a:b"),
        ("metadata", []),
        ("market", OMIT),
        ("atr", 0),
        ("current_price", "50000"),
        ("atr", 5e-324),
        ("current_price", 1e30),
    ],
)
def test_an_invalid_signal_names_its_field(field: str, value: Any) -> None:
    error = refusal("signal", signal_bytes(**{field: value}))

    assert error.code is Code.INVALID_MESSAGE
    assert field in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trade_id", 7),
        ("side", OMIT),
        ("closed_at", 1.5),
        ("revision", -1),
        ("entry_price", 0.0),
        ("exits", []),
        ("exits", [{"price": 1.0, "fraction": 0.5}]),
        ("exit_price", OMIT),
        ("realized_r", 1000.5),
        ("close_reason", "bored"),
        ("regime", "trend"),
        ("fees", "1"),
    ],
)
def test_an_invalid_trade_names_its_field(field: str, value: Any) -> None:
    error = refusal("trade_closed", trade_bytes(**{field: value}))

    assert error.code is Code.INVALID_MESSAGE
    assert field in str(error)


@both
@pytest.mark.parametrize(
    "key", [None, b"", b"btcusdt", b"BTCUSDT ", b"ETHUSDT", b"\xff", b'"BTCUSDT"', b"x" * 99_999]
)
def test_a_key_that_is_not_the_symbol_is_a_mismatch(kind: str, key: bytes | None) -> None:
    """Another key puts the symbol into another partition, where its table is not."""
    error = refusal(kind, BYTES[kind](), key=key)

    assert error.code is Code.SYMBOL_KEY_MISMATCH
    assert len(str(error)) < 1000


@both
@pytest.mark.parametrize("symbol", ["A", "a:b/c-d.e_f", "X" * 32])
def test_the_symbol_is_its_key(kind: str, symbol: str) -> None:
    message = DECODE[kind](FakeRecord(BYTES[kind](symbol=symbol), symbol.encode()))

    assert message.symbol == symbol


CANARY = "canary7351"


@both
@pytest.mark.parametrize(
    "field", ["symbol", "side", "account", "schema_version", "metadata", "confidence", "strategy",
              "entry_price", "exits", "market", "ts", "close_reason", "revision", "path"],
)  # fmt: skip
def test_errors_hold_no_payload(kind: str, field: str) -> None:
    """They reach logs and dead letters: what a producer sent by mistake must not."""
    make = make_signal if kind == "signal" else make_trade
    message = {**make(), field: f"{CANARY}\n*"}
    error = error_of(kind, json.dumps(message).encode(), CANARY.encode())
    assert error is not None
    assert CANARY not in str(error)
    assert str(error).isprintable()
    for value in (CANARY.encode(), b'{"' + CANARY.encode(), b'["' + CANARY.encode() + b'"]'):
        assert CANARY not in str(refusal(kind, value, key=CANARY.encode()))


# --- fuzz


def read_or_refused(kind: str, value: bytes | None, key: bytes | None = b"BTCUSDT") -> None:
    """Read a message or refuse it as a dead letter; anything else would stop the partition."""
    error = error_of(kind, value, key)
    if error is not None:
        assert str(error).isprintable()
        assert len(str(error)) < 10 * KIB
        letter = encode_dead_letter(FakeRecord(value, key), error, START_MS)
        assert size_of(letter) < BROKER_LIMIT


@examples(2)
@given(st.binary(max_size=200), st.none() | st.binary(max_size=8))
def test_any_bytes_are_read_or_refused(value: bytes, key: bytes | None) -> None:
    for kind in DECODE:
        read_or_refused(kind, value, key)


@examples(2)
@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 12), st.binary(max_size=6)),
        min_size=1,
        max_size=4,
    )
)
def test_any_damaged_message_is_read_or_refused(cuts: list[tuple[int, int, bytes]]) -> None:
    for kind, encoded in BYTES.items():
        value = encoded(metadata={"note": "x"})
        for place, length, piece in cuts:
            start = place % len(value)
            value = value[:start] + piece + value[start + length :]

        read_or_refused(kind, value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([1, 0.5, "LONG", "BTCUSDT", "2026-01-01T00:00:00Z", "trend_up"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
FIELDS = {
    kind: sorted(model.model_fields)
    for kind, model in (("signal", Signal), ("trade_closed", TradeClosed))
}


@examples(2)
@given(st.lists(st.tuples(st.integers(0, 99), json_values), min_size=1, max_size=3))
def test_any_value_of_any_field_is_read_or_refused(changes: list[tuple[int, Any]]) -> None:
    for kind, make in (("signal", make_signal), ("trade_closed", make_trade)):
        message = make()
        for number, value in changes:
            message[FIELDS[kind][number % len(FIELDS[kind])]] = value

        key = str(message.get("symbol")).encode(errors="replace")
        read_or_refused(kind, json.dumps(message).encode(), key)


# --- dead letters


def size_of(letter: Any) -> int:
    return (
        len(letter.key or b"")
        + len(letter.value or b"")
        + sum(len(name.encode()) + len(value or b"") + 10 for name, value in letter.headers)
    )


def dead_letter(value: bytes | None = b"{", **record: Any) -> Any:
    error = BadMessageError(Code.INVALID_JSON, "is not a JSON object")
    return encode_dead_letter(FakeRecord(value, **record), error, START_MS + 5)


def dlq(letter: Any, name: str) -> bytes | None:
    return header(letter.headers, f"dlq.{name}")


@pytest.mark.parametrize("code", Code)
def test_a_dead_letter_says_where_it_comes_from_and_why(code: Code) -> None:
    record = FakeRecord(b"{", b"KEY", "trade-closed", 7, 1234567, headers=[("a", b"1")])

    letter = encode_dead_letter(record, BadMessageError(code, "ts: is missing"), START_MS + 5)

    assert (letter.value, letter.key) == (b"{", b"KEY")
    names = [name for name, _ in letter.headers]
    assert sorted(names) == sorted(
        ["a"]
        + [f"dlq.{x}" for x in ("topic", "partition", "offset", "sha256", "reason", "error", "ts")]
    )
    assert header(letter.headers, "a") == b"1"
    assert dlq(letter, "topic") == b"trade-closed"
    assert dlq(letter, "partition") == b"7"
    assert dlq(letter, "offset") == b"1234567"
    assert dlq(letter, "sha256") == hashlib.sha256(b"{").hexdigest().encode()
    assert dlq(letter, "reason") == code.value.encode()
    assert b"ts: is missing" in (dlq(letter, "error") or b"")
    assert dlq(letter, "ts") == b"2026-01-01T00:00:00.005Z"


@pytest.mark.parametrize("size", [0, 1, MAX - 1, MAX, MAX + 1, 3 * MAX, 1_000_000])
def test_a_dead_letter_holds_64_kib_and_the_hash_of_the_whole(size: int) -> None:
    value = bytes(number % 251 for number in range(size % 1000)) + b"x" * (size - size % 1000)

    letter = dead_letter(value)

    assert letter.value == value[:MAX]
    assert dlq(letter, "sha256") == hashlib.sha256(value).hexdigest().encode()


def test_a_tombstone_is_a_dead_letter() -> None:
    letter = dead_letter(None, key=None)

    assert letter.key is None
    assert not letter.value
    assert dlq(letter, "sha256") == hashlib.sha256(b"").hexdigest().encode()


def test_original_headers_are_kept_in_their_order() -> None:
    original = [("b", b"1"), ("a", b"2"), ("b", b"3"), ("traceparent", b"00-1"), ("ü", b"\x00\xff")]

    letter = dead_letter(headers=original)

    assert [pair for pair in letter.headers if not pair[0].startswith("dlq.")] == original


def test_an_empty_header_stops_nothing() -> None:
    """Kafka allows null as a header's value."""
    letter = dead_letter(headers=[("a", None), ("b", b"")])

    assert [name for name, _ in letter.headers][:2] == ["a", "b"]


def test_forged_headers_do_not_hide_where_a_dead_letter_comes_from() -> None:
    """`dead-letters replay` sends to the topic they name: a producer must not choose it."""
    forged = [(f"dlq.{name}", b"forged") for name in ("topic", "partition", "reason", "ts")]

    letter = dead_letter(headers=forged)

    assert dlq(letter, "topic") == b"signals"
    assert dlq(letter, "partition") == b"3"
    assert dlq(letter, "reason") == b"invalid_json"
    assert dict(letter.headers)["dlq.topic"] == b"signals", "whichever of two a reader takes"


@pytest.mark.parametrize(
    "record",
    [
        {"value": b"x" * 1_000_000, "key": b"k" * 900_000},
        {"key": b"k" * 1_000_000},
        {"headers": [("h", b"v" * 1_000_000)]},
        {"headers": [("h" * 30_000, b"v" * 30_000)] * 30},
        {"headers": [("h", b"")] * 90_000},
        {"value": b"x" * MAX, "key": b"k" * 400_000, "headers": [("h", b"v" * 500_000)]},
        {"value": b"x" * MAX, "headers": [("n" * 900_000, None)]},
    ],
    ids=range(7),
)
def test_a_dead_letter_always_fits_into_a_record(record: dict[str, Any]) -> None:
    """One that cannot be sent would stop its partition, or be lost."""
    letter = dead_letter(**record)

    assert size_of(letter) < BROKER_LIMIT
    assert dlq(letter, "reason") == b"invalid_json"
    assert dlq(letter, "offset") == b"42"
    assert (letter.key or b"").startswith(FakeRecord(b"", record.get("key", b"BTCUSDT")).key[:99])


@given(
    st.none() | st.binary(max_size=99),
    st.none() | st.binary(max_size=9),
    st.lists(
        st.tuples(
            st.text(max_size=5).filter(lambda name: not name.startswith("dlq.")),
            st.none() | st.binary(max_size=9),
        ),
        max_size=5,
    ),
)
def test_any_record_can_become_a_dead_letter(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    letter = dead_letter(value, key=key, headers=headers)

    assert (letter.key, letter.value or b"") == (key, value or b"")
    assert len(letter.headers) == len(headers) + 7


def test_the_first_of_equal_headers_counts() -> None:
    assert header([("a", b"1"), ("a", b"2")], "a") == b"1"
    assert header([("a", b"1")], "b") is None
    assert header([], "a") is None
