"""Input records of the fuzzer, and the file that keeps the ones worth keeping."""

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

START_MS = 1_767_225_600_000
"""Time of a record that nobody tampered with: 2026-01-01T00:00:00Z [ms]."""

SIGNALS, TRADES, DECISIONS = "signals", "trade-closed", "strategy-decisions"
CANDLES = "candles"

CORPUS = Path(__file__).parent / "corpus" / "records.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """What somebody may write to a topic that the worker reads."""

    topic: str
    value: bytes | None
    key: bytes | None = b"BTCUSDT"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = START_MS

    def packed(self) -> str:
        """Write it as one line of text."""
        return json.dumps(
            [
                self.topic,
                _text(self.value),
                _text(self.key),
                [[name, _text(content)] for name, content in self.headers],
                self.timestamp,
            ]
        )


def unpacked(line: str) -> Input:
    """Read what `packed` wrote."""
    topic, value, key, headers, timestamp = json.loads(line)
    kept = tuple((name, _bytes(content)) for name, content in headers)
    return Input(topic, _bytes(value), _bytes(key), kept, timestamp)


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(zlib.compress(content, 9)).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else zlib.decompress(base64.b64decode(text))


def load(path: Path = CORPUS) -> list[Input]:
    """Read a file of inputs; none, when it is not there."""
    if not path.exists():
        return []
    return [unpacked(line) for line in path.read_text("ascii").splitlines()]


def save(inputs: Iterable[Input], path: Path = CORPUS) -> None:
    """Write a file of inputs, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(one.packed() + "\n" for one in inputs), "ascii")


def fields_of(message: BaseModel | msgspec.Struct) -> str:
    """Write down what a message tells, to the kind and the last digit of each value."""
    return repr(_plain(message))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, BaseModel):
        names: Iterable[str] = type(value).model_fields
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    else:
        return value
    return {name: _plain(getattr(value, name)) for name in sorted(names)}
