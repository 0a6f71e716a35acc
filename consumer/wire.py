"""Bytes <-> messages: the only module of the worker's way that knows the encoding."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar, cast

import orjson
from pydantic import ValidationError

from consumer.decide import Decision
from consumer.domain.quick import quick
from consumer.errors import BadMessageError
from consumer.message_reader import MessageReader
from consumer.ports import Record
from schemas import (
    MAX_MESSAGE_BYTES,
    SCHEMA_VERSION,
    Candle,
    DeadLetterCode,
    Message,
    Signal,
    StrategyProfile,
    TradeClosed,
    format_time_ms,
)

Headers = Sequence[tuple[str, bytes | None]]

_MAX_ENVELOPE_BYTES = 880_000
"""Room for key and headers of a dead letter: with 64 KiB of value it fits the broker's usual limit
of 1 MiB a record, and a record that cannot be sent would stop its partition."""

_HEADER_OVERHEAD_BYTES = 2
"""The lengths of name and content take as much at least; there are few headers where they are more."""

_MAX_TRACE_BYTES: Final = 256
"""W3C's own is 55 bytes, later ones may be longer; a record's worth would not fit into a decision."""

M = TypeVar("M", bound=Message)


class OutRecord(NamedTuple):
    """A record to be sent."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


def decode_signal(record: Record) -> Signal:
    """Read a record of `signals`.

    Raises:
        BadMessageError: With the code and the field for its dead letter.
    """
    signal = _decode(record, _SIGNALS)
    _check_key(record, signal.symbol)
    return signal


def decode_trade(record: Record) -> TradeClosed:
    """Read a record of `trade-closed`.

    Raises:
        BadMessageError: With the code and the field for its dead letter.
    """
    trade = _decode(record, _TRADES)
    _check_key(record, trade.symbol)
    return trade


def decode_candle(record: Record) -> Candle:
    """Read a record of `candles`.

    Raises:
        BadMessageError: With the code and the field for its dead letter.
    """
    candle = _decode(record, _CANDLES)
    _check_key(record, candle.symbol)
    return candle


_SIGNALS: Final = MessageReader(Signal)
_TRADES: Final = MessageReader(TradeClosed)
_CANDLES: Final = MessageReader(Candle)


def _decode(record: Record, reader: MessageReader[M]) -> M:
    value = record.value
    if value is None:
        raise BadMessageError(DeadLetterCode.INVALID_JSON, "value: is missing (a tombstone)")
    if len(value) > MAX_MESSAGE_BYTES:
        raise BadMessageError(
            DeadLetterCode.TOO_LARGE,
            f"value: has {len(value)} bytes, at most {MAX_MESSAGE_BYTES} are accepted",
        )
    message = reader.read(value)
    return _decode_by(reader.model, value) if message is None else message


def _decode_by(model: type[M], value: bytes) -> M:
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadMessageError(
            DeadLetterCode.INVALID_JSON, f"value: is not JSON in UTF-8: {error}"
        ) from None
    except RecursionError:
        raise BadMessageError(DeadLetterCode.INVALID_JSON, "value: is nested too deeply") from None
    if not isinstance(content, dict):
        raise BadMessageError(DeadLetterCode.INVALID_JSON, "value: is not a JSON object")
    version = content.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise BadMessageError(
            DeadLetterCode.UNSUPPORTED_VERSION,
            f"schema_version: is {version}, the newest known is {SCHEMA_VERSION}",
        )
    try:
        # what model_validate does, without its further arguments
        return cast(M, model.__pydantic_validator__.validate_python(content))
    except ValidationError as error:
        raise BadMessageError(DeadLetterCode.INVALID_MESSAGE, one_line(error)) from None
    except RecursionError:  # the parser takes more levels than Python can write in an error
        raise BadMessageError(
            DeadLetterCode.INVALID_MESSAGE, "value: is nested too deeply"
        ) from None


def one_line(error: ValidationError) -> str:
    """Say in one line which field is wrong first, and what is allowed."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).removeprefix(".")
    problem = first["msg"].removeprefix("Value error, ")
    text = f"{field}: {problem}" if field else problem
    if others:
        text += f" (and {len(others)} more)"
    return printable(text)


def printable(text: str) -> str:
    """Give a text that stays on its line and does nothing to a terminal."""
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _check_key(record: Record, symbol: str) -> None:
    if record.key == symbol.encode():
        return
    problem = "is missing" if record.key is None else "is not the symbol"
    raise BadMessageError(
        DeadLetterCode.SYMBOL_KEY_MISMATCH, f"key: {problem}; it must be {symbol}"
    )


def header(headers: Headers, name: str) -> bytes | None:
    """Find a header; the first one counts."""
    return next((value for key, value in headers if key == name), None)


class DecisionEncoder:
    """Writes decisions as records of `strategy-decisions`.

    Args:
        policy: Name of the policy.
        version: Hash of all that a choice depends on.
    """

    def __init__(self, policy: str, version: str) -> None:
        self._always = {
            "policy": policy,
            "policy_version": version,
            "schema_version": SCHEMA_VERSION,
            "experiment": None,
            "variant": None,
        }
        self._tails: dict[str, bytes] = {}

    def _tail(self, profile: StrategyProfile) -> bytes:
        """Give what all decisions for a strategy say alike: the rest of `tpsl`, then the rest."""
        multiples = {
            "atr_mult_sl": profile.r_sl,
            "atr_mult_tp1": profile.r_tp1,
            "atr_mult_tp2": profile.r_tp2,
            "atr_mult_tp3": profile.r_tp3,
            "partial_close_tp1": profile.partial_close_tp1,
            "partial_close_tp2": profile.partial_close_tp2,
            "partial_close_tp3": profile.partial_close_tp3,
        }
        named = {"strategy": profile.strategy_id, "strategy_name": profile.name}
        return (
            b","
            + orjson.dumps(multiples).removeprefix(b"{")
            + b","
            + orjson.dumps(named | self._always).removeprefix(b"{")
        )

    def encode(self, decision: Decision, source: Record) -> OutRecord:
        """Write one decision; `source` is the record of its signal."""
        signal, choice, regime = decision.signal, decision.choice, decision.regime
        account, symbol, _, _ = decision.context
        profile, levels = decision.profile, decision.levels
        tail = self._tails.get(choice.arm)
        if tail is None:
            tail = self._tails[choice.arm] = self._tail(profile)
        body = orjson.dumps(
            {
                "decision_id": decision.decision_id,
                "signal_id": signal.signal_id,
                "account": account,
                "symbol": symbol,
                "side": signal.side,
                "timeframe": signal.timeframe,
                "signal_ts": format_time_ms(signal.ts),
                "ts": format_time_ms(decision.ts_ms),
                "regime": regime.regime,
                "regime_confidence": regime.confidence,
                "regime_reasoning": regime.reasoning,
                "is_exploration": decision.is_exploration,
                "confidence": choice.confidence,
                "reasoning": choice.reasoning,
                "mode": choice.mode,
                "propensity": choice.propensity,
                "propensities": choice.propensities,
                "source": {
                    "topic": source.topic,
                    "partition": source.partition,
                    "offset": source.offset,
                },
                "table_offset": decision.table_offset,
                "candles_offset": decision.candles_offset,
                "pool_offset": decision.pool_offset,
                "features": decision.features or None,
                "degraded": decision.degraded,
                "metadata": signal.metadata,
                # the last one, and open at its end: the tail goes on from here
                "tpsl": {
                    "stop_loss": levels.stop_loss,
                    "take_profit_1": levels.take_profit_1,
                    "take_profit_2": levels.take_profit_2,
                    "take_profit_3": levels.take_profit_3,
                    "atr": decision.atr,
                    "entry_reference": decision.price,
                },
            }
        )
        headers: list[tuple[str, bytes | None]] = [
            ("decision_id", decision.decision_id.encode()),
            ("strategy", choice.arm.encode()),
            ("regime", regime.regime.encode()),
            ("schema_version", b"1"),
        ]
        if source.headers:
            trace = header(source.headers, "traceparent")
            if trace is not None and len(trace) <= _MAX_TRACE_BYTES:
                headers.append(("traceparent", trace))
        record = (symbol.encode(), body[:-2] + tail, headers, decision.ts_ms)
        return quick(OutRecord, record)


def encode_dead_letter(record: Record, error: BadMessageError, now_ms: int) -> OutRecord:
    """Write a record that cannot be accepted as one of `strategy-dead-letters`.

    The value is the original's first 64 KiB; its hash is of the whole. Key and headers are the
    original's; they are cut only where no topic of usual limits could take them again.
    """
    value = record.value
    key = None if record.key is None else record.key[:_MAX_ENVELOPE_BYTES]
    headers: list[tuple[str, bytes | None]] = []
    room = _MAX_ENVELOPE_BYTES - len(key or b"")
    for name, content in record.headers:
        room -= len(name.encode()) + len(content or b"") + _HEADER_OVERHEAD_BYTES
        if room < 0:
            break
        if not name.startswith("dlq."):  # a dead letter that was sent again has new ones
            headers.append((name, content))
    headers += [
        ("dlq.topic", record.topic.encode()),
        ("dlq.partition", str(record.partition).encode()),
        ("dlq.offset", str(record.offset).encode()),
        ("dlq.sha256", hashlib.sha256(value or b"").hexdigest().encode()),
        ("dlq.reason", error.code.encode()),
        ("dlq.error", error.error.encode("utf-8", "backslashreplace")),
        ("dlq.ts", format_time_ms(now_ms).encode()),
    ]
    return OutRecord(
        key,
        # a record needs a key or a value
        b"" if value is None and record.key is None else value and value[:MAX_MESSAGE_BYTES],
        headers,
        now_ms,
    )
