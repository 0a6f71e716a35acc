"""What must hold for any input: decoders read or refuse, a batch answers each record once."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

import orjson
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic import ValidationError

from consumer.connection import TopicNames
from consumer.decide import decision_id_of
from consumer.decision_log import LoggedDecision, decode_logged_decision
from consumer.decision_record import DecisionRecord
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.catalog import PolicyName
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import BadMessageError
from consumer.pipeline import Pipeline, Step
from consumer.settings import Settings
from consumer.store.meta import Meta
from consumer.wire import OutRecord, decode_candle, decode_signal, decode_trade
from fuzz.records import CANDLES, DECISIONS, SIGNALS, START_MS, TRADES, Input, fields_of
from schemas import (
    MAX_MESSAGE_BYTES,
    Candle,
    DeadLetterCode,
    MarketRegime,
    Message,
    Mode,
    Signal,
    StrategyDecision,
    TradeClosed,
)
from tests.support.hash_view import KEYS, Hashes, Writer

BROKER_LIMIT_BYTES = 1_048_588 - 100
"""The broker's `message.max.bytes` by default, less what a batch of one record adds."""

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
PARTITION = 3
_NOW_MS = START_MS + 1_000_000
_WORDS = {*MarketRegime, *STRATEGY_PROFILES, *Mode}
_CODES = {str(code) for code in DeadLetterCode}
_NAMES_FIELD = re.compile(r"[A-Za-z0-9_]+(\[\d+\]|\.[A-Za-z0-9_]+)*: .")
_ROW = re.compile(
    r"ms:\{0\}:q:[A-Za-z0-9_-]{1,32}:[A-Za-z0-9._:/-]{1,32}:"
    rf"({'|'.join(MarketRegime)})(:[A-Za-z0-9_-]{{1,32}})?"
)


class ViolationError(AssertionError):
    """An invariant does not hold; the message says which."""


@dataclass(slots=True)
class FuzzRecord:
    """An input with its place, as the client would give it."""

    topic: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]
    partition: int = PARTITION
    received_s: float = 0.0


@cache
def _settings(policy: PolicyName) -> Settings:
    return Settings(_env_file=None, meta_strategy_policy=policy)


def fuzz_pipeline(policy: PolicyName = "epsilon_greedy") -> Pipeline:
    """Make a pipeline of default settings, but for its policy."""
    return Pipeline(_settings(policy).decider)


def fuzz_state(*, follows: bool = False) -> PartitionState:
    """Make an empty state of default settings; it follows signals by candles, or learns from paths."""
    return PartitionState(FoldSettings(candles="" if follows else None))


def size_on_the_wire(record: OutRecord) -> int:
    """Give the size of a record as the client counts it [bytes]."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(
        record.key, record.value, record.headers
    )
    return size


# One input alone


def decoded(one: Input) -> str:
    """Decode an input by its topic; say what became of it, in words that digits do not change.

    Raises:
        Exception: Any at all is a finding.
    """
    record = FuzzRecord(one.topic, 0, one.timestamp, one.key, one.value, one.headers)
    try:
        match one.topic:
            case "signals":
                message: Any = decode_signal(record)
                model: type[Message] = Signal
            case "trade-closed":
                message, model = decode_trade(record), TradeClosed
            case "candles":
                message, model = decode_candle(record), Candle
            case _:
                logged = decode_logged_decision(one.value, one.timestamp)
                if (logged is not None) is not _is_decision(one.value or b""):
                    raise ViolationError("a decision was not read as its model reads it")
                return f"{one.topic} {'foreign' if logged is None else 'read'}"
    except BadMessageError as error:
        _check_error(error)
        return f"{one.topic} {error.code} {_shape(error.error)}"
    if one.key != message.symbol.encode():
        raise ViolationError("a message was accepted under another key")
    meant = model.model_validate(orjson.loads(one.value or b""))
    if fields_of(message) != fields_of(meant):
        raise ViolationError("a message was not read as its model reads it")
    return f"{one.topic} read {' '.join(sorted(meant.model_fields_set))}"


def _is_decision(value: bytes) -> bool:
    if len(value) > 1 << 20:
        return False
    try:
        DecisionRecord.model_validate_json(value)
    except ValidationError:
        return False
    return True


def _check_error(error: BadMessageError) -> None:
    if error.code not in _CODES:
        raise ViolationError(f"{error.code} is no code")
    if not error.error.isprintable() or len(error.error) > 1_000:
        raise ViolationError(f"the error is no line: {error.error[:200]!r}")
    if not _NAMES_FIELD.match(error.error):
        raise ViolationError(f"the error names no field: {error.error!r}")


def _shape(error: str) -> str:
    """Reduce an error to what it says, without the values it says it of."""
    text = re.sub(r"it must be .*|JSON in UTF-8: .*", "", error)
    return re.sub(r"'[^']*'|\d+(\.\d+)?", "N", text.split(" (and ")[0])


# A batch of them


@dataclass(slots=True)
class _Run:
    """Inputs that one partition works off, and what came out."""

    state: PartitionState
    pipeline: Pipeline
    steps: list[Step] = field(default_factory=list)

    def step(
        self,
        trades: Sequence[FuzzRecord],
        signals: Sequence[FuzzRecord],
        candles: Sequence[FuzzRecord] = (),
    ) -> None:
        step = self.pipeline.step(
            self.state, trades, signals, candles, now_ms=_NOW_MS, degraded=False
        )
        self.steps.append(step)
        self.pipeline.advance(self.state, self.state.position.decisions + len(step.decisions))

    @property
    def decisions(self) -> list[OutRecord]:
        return [record for step in self.steps for record in step.decisions]


_GOOD_SIGNAL = {
    "schema_version": 1,
    "ts": START_MS,
    "symbol": "BTCUSDT",
    "side": "LONG",
    "timeframe": "15m",
    "market": {"current_price": 50_000.0, "atr": 250.0, "adx": 35.0, "trend_strength": 0.6},
}
_GOOD_TRADE = {
    "schema_version": 1,
    "symbol": "BTCUSDT",
    "side": "LONG",
    "closed_at": START_MS,
    "realized_r": 1.5,
    "entry_price": 50_000.0,
    "exit_price": 50_375.0,
    "strategy": "scalp",
    "regime": "trend_up",
}


_GOOD_CANDLE = {
    "schema_version": 1,
    "symbol": "BTCUSDT",
    "timeframe": "15m",
    "open_time": START_MS,
    "close_time": START_MS + 900_000,
    "open": 50_000.0,
    "high": 51_000.0,
    "low": 49_900.0,
    "close": 50_500.0,
    "volume": 1.0,
}


def _good_signal(number: int) -> Input:
    return Input(SIGNALS, orjson.dumps({**_GOOD_SIGNAL, "signal_id": f"good-{number}"}))


def _good_trade(number: int, **fields: Any) -> Input:
    return Input(TRADES, orjson.dumps({**_GOOD_TRADE, "trade_id": f"good-{number}", **fields}))


_FIRST = [_good_signal(0), _good_signal(1)]
_LAST = [_good_signal(2), _good_signal(0)]  # one is new, one a repeat
# the second closes the first signal: what policies learn of its features and of its path counts, too
_CLOSED = {
    "decision_id": decision_id_of("default", "good-0"),
    "path": [[START_MS, 51_000.0, 49_900.0, 50_500.0]],
}
_TRADES = [_good_trade(0), _good_trade(1, **_CLOSED)]
_CANDLE = Input(CANDLES, orjson.dumps(_GOOD_CANDLE))


def _placed(inputs: Sequence[Input], first: int) -> list[FuzzRecord]:
    return [
        FuzzRecord(one.topic, first + number, one.timestamp, one.key, one.value, one.headers)
        for number, one in enumerate(inputs)
    ]


def check_batch(inputs: Sequence[Input], policy: PolicyName = "epsilon_greedy") -> Counter[str]:
    """Work a batch off between good messages, and hold what came out to the contract.

    Args:
        inputs: In the order in which they come.
        policy: What decides.

    Returns:
        How many inputs were answered in which way.

    Raises:
        ViolationError: An invariant does not hold.
        Exception: Any other is a finding, too: a step never raises.
    """
    logged = [one for one in inputs if one.topic == DECISIONS]
    signals = [one for one in inputs if one.topic == SIGNALS]
    trades = [one for one in inputs if one.topic == TRADES]
    fed = [one for one in inputs if one.topic == CANDLES]
    asked = _placed([*_FIRST, *signals], 100)
    closed = _placed([_TRADES[0], *trades, _TRADES[1]], 200)
    later = _placed(_LAST, 100 + len(asked))
    candles = _placed([_CANDLE, *fed, _CANDLE], 300) if fed else []
    foreign = [decode_logged_decision(one.value, one.timestamp) for one in logged]
    known = [one for one in foreign if one is not None]

    run = _worked_off(policy, known, asked, closed, later, candles)

    letters = _letters(run)
    answered = Counter(_answers(run, closed, candles))
    for record in [*asked, *closed, *later, *candles]:
        if (count := answered.pop((record.topic, record.offset), 0)) != 1:
            raise ViolationError(f"{record.topic}@{record.offset} has {count} answers")
        if letter := letters.get((record.topic, record.offset)):
            _check_letter(record, letter)
    if answered:
        raise ViolationError(f"answers without a question: {list(answered)[:3]}")
    for record in (*asked[:2], *closed[:1], *closed[-1:], *later, *candles[:1], *candles[-1:]):
        if (record.topic, record.offset) in letters:
            raise ViolationError(f"a good message was refused: {record.value!r}")
    _check_labels(run)
    _check_view(run.state)
    kept = [
        [record for record in records if (record.topic, record.offset) not in letters]
        for records in (asked, closed, later, candles)
    ]
    _check_same(run, _worked_off(policy, known, *kept))
    counts = Counter(
        {
            "decisions": len(run.decisions) - 3,
            "rewards": sum(len(step.learned) for step in run.steps) - 2,
            "dead letters": len(letters),
            "candles": sum(step.candles.total() for step in run.steps) - 2 * bool(fed),
            "repeats": sum(len(step.repeated) for step in run.steps) - 1,
            "logged decisions": len(known),
            "foreign records": len(foreign) - len(known),
        }
    )
    return +counts


def _worked_off(
    policy: PolicyName,
    known: Sequence[LoggedDecision],
    asked: Sequence[FuzzRecord],
    closed: Sequence[FuzzRecord],
    later: Sequence[FuzzRecord],
    candles: Sequence[FuzzRecord],
) -> _Run:
    run = _Run(fuzz_state(follows=bool(candles)), fuzz_pipeline(policy))
    for one in known:
        run.state.admit(one.remembered, is_exploration=one.is_exploration, entry=one.entry)
    run.step([], asked)
    run.step(closed, later, candles)
    return run


def _answers(
    run: _Run, closed: Sequence[FuzzRecord], candles: Sequence[FuzzRecord]
) -> Iterator[tuple[str, int]]:
    for decision in run.decisions:
        source = StrategyDecision.model_validate(orjson.loads(decision.value or b"")).source
        yield source.topic, source.offset
    told = [(record.topic, record.offset) for step in run.steps for record, _ in step.refused]
    told += [(record.topic, record.offset) for step in run.steps for record in step.repeated]
    yield from told
    # a step does not say of which record a reward is: the others, in their order
    rest = [record for record in closed if (record.topic, record.offset) not in told]
    learned = [trade for step in run.steps for trade, _ in step.learned]
    if [decode_trade(record) for record in rest] != learned:
        raise ViolationError("the rewards are not those of the accepted trades, in their order")
    taken = [record for record in candles if (record.topic, record.offset) not in told]
    if len(taken) != sum(step.candles.total() for step in run.steps):
        raise ViolationError("not each accepted candle was counted")
    for record in (*rest, *taken):
        yield record.topic, record.offset


def _letters(run: _Run) -> dict[tuple[str, int], OutRecord]:
    found: dict[tuple[str, int], OutRecord] = {}
    for step in run.steps:
        if len(step.dead_letters) != len(step.refused):
            raise ViolationError("not each refused record has a dead letter")
        for letter in step.dead_letters:
            said = {name: content or b"" for name, content in letter.headers}
            found[said["dlq.topic"].decode(), int(said["dlq.offset"])] = letter
    return found


def _check_letter(record: FuzzRecord, letter: OutRecord) -> None:
    """Hold a dead letter to section 1 of the contract."""
    value = record.value or b""
    said = {
        name: (content or b"").decode() for name, content in letter.headers if name[:4] == "dlq."
    }
    expected = {
        "dlq.topic": record.topic,
        "dlq.partition": str(record.partition),
        "dlq.offset": str(record.offset),
        "dlq.sha256": hashlib.sha256(value).hexdigest(),
        "dlq.ts": "2026-01-01T00:16:40.000Z",
    }
    for name, must in expected.items():
        if said.get(name) != must:
            raise ViolationError(f"{name} is {said.get(name)}, must be {must}")
    _check_error(BadMessageError(DeadLetterCode(said["dlq.reason"]), said["dlq.error"]))
    if (letter.value or b"") != value[:MAX_MESSAGE_BYTES]:
        raise ViolationError("the value is not the original's first 64 KiB")
    original = [(n, c) for n, c in record.headers if not n.startswith("dlq.")]
    kept = [(n, c) for n, c in letter.headers if not n.startswith("dlq.")]
    if kept != original[: len(kept)] or not (record.key or b"").startswith(letter.key or b""):
        raise ViolationError("key or headers are not the original's")
    if size_on_the_wire(letter) > BROKER_LIMIT_BYTES:
        raise ViolationError("the dead letter is larger than a broker takes")
    if letter.key is None and letter.value is None:
        raise ViolationError("the client sends no record without key and value")


def _check_labels(run: _Run) -> None:
    """No metric's label is made of anything but known words."""
    for step in run.steps:
        for decision in step.decided:
            words = (decision.regime.regime, decision.choice.arm, decision.choice.mode)
            if any(word not in _WORDS for word in words):
                raise ViolationError(f"one of {words} would be a label")
        for _, result in step.learned:
            if result.strategy and not re.fullmatch(r"[a-z0-9_]{1,32}", result.strategy):
                raise ViolationError(f"{result.strategy!r} would be a label")
    for record in run.decisions:
        if size_on_the_wire(record) > BROKER_LIMIT_BYTES:
            raise ViolationError("a decision is larger than a broker takes")


_META = Meta(
    FoldSettings(),
    8,
    TopicNames(signals="signals", trades=TRADES, decisions=DECISIONS, dead_letters="dead"),
)


def _check_view(state: PartitionState) -> None:
    """What goes to Redis has keys of the contract's form, and is read back as it was."""
    before = state.stored()
    hashes = Hashes()
    Writer(state, hashes).rewrite()
    for name in hashes.keys:
        if name not in KEYS.fixed and not _ROW.fullmatch(name):
            raise ViolationError(f"{name!r} would be a key")
    again = fuzz_state(follows=state.following is not None)
    again.restore(hashes.raw(_META).decode("the view", "report it"))
    if again.stored() != before:
        raise ViolationError("the state read back from Redis is another one")


def _check_same(run: _Run, clean: _Run) -> None:
    """Poison leaves no trace: neither in the state nor in a decision."""
    if run.state.stored() != clean.state.stored():
        raise ViolationError("the state is not that of the batch without its poison")
    if run.decisions != clean.decisions:
        raise ViolationError("the decisions are not those of the batch without its poison")
