"""What a record costs is bounded by its size, whoever wrote it (invariant I8)."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from consumer.decision_log import decode_logged_decision
from consumer.errors import BadMessageError
from consumer.telemetry import logs
from consumer.wire import decode_signal, decode_trade, encode_dead_letter, header
from fuzz.targets import BROKER_LIMIT_BYTES, fuzz_pipeline, fuzz_state, size_on_the_wire
from schemas import MAX_MESSAGE_BYTES, DeadLetterCode
from tests.support.builders import START_MS, FakeRecord, make_signal, make_trade, signal_bytes


def filled(message: Mapping[str, Any], field: str, item: str) -> bytes:
    """Write a message whose list is as long as a record can hold."""
    bare = json.dumps({**message, field: []}, separators=(",", ":")).encode()
    count = (MAX_MESSAGE_BYTES - len(bare)) // (len(item) + 1)
    return bare.replace(
        f'"{field}":[]'.encode(), f'"{field}":[{",".join([item] * count)}]'.encode()
    )


@pytest.mark.parametrize(
    ("field", "item"),
    [
        ("higher_timeframes", "0"),
        ("higher_timeframes", "{}"),
        ("exits", "0"),
        ("exits", "{}"),
        ("path", "0"),
        ("path", "[]"),
    ],
)
def test_a_list_of_nothing_but_mistakes_is_read_to_the_first(field: str, item: str) -> None:
    """All mistakes of a record took most of a second to name: a thousand such records in a batch
    held the loop up for longer than the group waits for a member, again and again."""
    is_signal = field == "higher_timeframes"
    value = filled(make_signal() if is_signal else make_trade(), field, item)

    with pytest.raises(BadMessageError) as caught:
        (decode_signal if is_signal else decode_trade)(FakeRecord(value))

    assert caught.value.error.startswith(f"{field}[0]")
    more = re.search(r"\(and (\d+) more\)", caught.value.error)
    assert more is None or int(more[1]) < 10


def test_a_dead_letter_of_countless_empty_headers_fits_into_a_record() -> None:
    """A header without a name and a value still takes room: a letter that cannot be sent would
    stop its partition."""
    record = FakeRecord(b"{}", headers=[("", b"")] * 524_200)

    letter = encode_dead_letter(record, BadMessageError(DeadLetterCode.INVALID_MESSAGE, "a: b"), 0)

    assert size_on_the_wire(letter) < BROKER_LIMIT_BYTES
    assert letter.headers[0] == ("", b"")


@pytest.mark.parametrize(
    ("sent", "is_passed_on"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"t" * 1_040_000, False),
    ],
    ids=["as W3C writes it", "a megabyte"],
)
def test_a_trace_that_no_record_could_carry_is_not_passed_on(
    sent: bytes, *, is_passed_on: bool
) -> None:
    """A decision that cannot be sent would stop its partition, too."""
    record = FakeRecord(signal_bytes(), headers=[("traceparent", sent)])

    step = fuzz_pipeline().step(fuzz_state(), [], [record], now_ms=START_MS, degraded=False)

    (decision,) = step.decisions
    assert size_on_the_wire(decision) < BROKER_LIMIT_BYTES
    assert (header(decision.headers, "traceparent") == sent) is is_passed_on


def test_an_id_of_control_characters_does_not_reach_a_terminal() -> None:
    """An id may hold any characters: written as they are, they would command the operator's screen."""
    fields = {"event": "[REGIME] X", "signal_id": "a\x1b[2J\u202eb\0", "exception": "a\nb", "n": 1}

    assert logs.escaped(None, "info", fields) == {
        "event": "[REGIME] X",
        "signal_id": "a\\x1b[2J\\u202eb\\x00",
        "exception": "a\nb",
        "n": 1,
    }


@pytest.mark.parametrize("depth", [100, 500, 990, 1_020, 1_022, 5_000])
@pytest.mark.parametrize("field", ["side", "symbol", "schema_version"])
def test_a_field_of_any_depth_is_refused(field: str, depth: int) -> None:
    """The parser takes a thousand levels, more than Python can write down in an error: such a
    record ended the process, and its partition's next owner's."""
    for make, decode in ((make_signal, decode_signal), (make_trade, decode_trade)):
        message = json.dumps({**make(), field: None})
        value = message.replace(f'"{field}": null', f'"{field}": {"[" * depth}{"]" * depth}')

        with pytest.raises(BadMessageError) as caught:
            decode(FakeRecord(value.encode()))

        assert caught.value.error.split(":")[0] in {field, "value"}


def test_a_logged_decision_of_any_depth_is_foreign() -> None:
    for depth in (100, 990, 1_020, 5_000):
        value = f'{{"side": {"[" * depth}{"]" * depth}}}'.encode()

        assert decode_logged_decision(value, 0) is None
