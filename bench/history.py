"""Logs of a long time ago, written at once: closed trades, and the decisions that they belong to."""

import itertools
import random
import uuid
from collections.abc import Iterator

import orjson

from bench.broker import Broker
from bench.contender import Run
from bench.ordinary_job import Incoming
from bench.ordinary_rules import PROFILES, decide, detect
from bench.traffic import SUITABLE, BenchSignal, expected_regime, make_signals, make_trade, symbol
from schemas import Signal

_OPEN = 1_000
"""Decisions of a partition that are open at a time: as many follow before a trade closes."""
_DECISION_ID = "00000000-0000-5000-8000-000000000000"


def row_trades(count: int, *, ts: str) -> Iterator[tuple[bytes, bytes]]:
    """Give closed trades that make a row of the table each, for they echo strategy and regime.

    Args:
        count: How many.
        ts: When they were closed.
    """
    symbols = map(symbol, itertools.count())
    contexts = ((name, regime) for name in symbols for regime in SUITABLE)
    for number, (name, regime) in enumerate(itertools.islice(contexts, count)):
        content = {
            "schema_version": 1,
            "trade_id": f"row-{number}",
            "symbol": name,
            "side": "LONG",
            "closed_at": ts,
            "entry_price": 100.0,
            "exit_price": 101.0,
            "atr": 1.0,
            "decision_id": f"row-{number}",
            "strategy": SUITABLE[regime].split()[number % 2],
            "regime": regime,
        }
        yield name.encode(), orjson.dumps(content)


class History:
    """Decisions, each closed by a trade some time later, over all partitions of a run.

    Args:
        run: Whose topics they are for.
        broker: The Kafka.
        count: How many of each.
        symbols: Over how many symbols they are spread.
        ts: When all of it claims to be produced.
    """

    def __init__(self, run: Run, broker: Broker, count: int, *, symbols: int, ts: str) -> None:
        self._count = count
        topic = run.topics.signals
        examples = {s.key: s for s in make_signals(20 * symbols, ts=ts, symbols=symbols)}
        rng = random.Random(3)
        self._templates = [_templates(signal, rng, ts=ts) for signal in examples.values()]
        self._partitions = [broker.partition_of(topic, key) for key in examples]
        self._keys = list(examples)

    def decisions(self) -> Iterator[tuple[bytes, bytes]]:
        """Give keys and values of `strategy-decisions`."""
        made = dict.fromkeys(self._partitions, 0)
        for number in range(self._count):
            at = number % len(self._keys)
            offset = made[self._partitions[at]]
            made[self._partitions[at]] = offset + 1
            yield (
                self._keys[at],
                self._templates[at][0]
                % (_decision_id(number), number, offset, max(0, offset - _OPEN)),
            )

    def trades(self) -> Iterator[tuple[bytes, bytes]]:
        """Give keys and values of `trade-closed`, in the decisions' order."""
        for number in range(self._count):
            at = number % len(self._keys)
            decision_id = _decision_id(number)
            yield self._keys[at], self._templates[at][1] % (decision_id, decision_id)


def _decision_id(number: int) -> bytes:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"meta-strategy:default:h{number:09d}")).encode()


def _templates(signal: BenchSignal, rng: random.Random, *, ts: str) -> tuple[bytes, bytes]:
    """Give a decision and its trade, to be filled in by `%`."""
    request = Signal.model_validate(orjson.loads(signal.value))
    regime = detect(request.market)
    made = decide(
        Incoming("signals", 0, 0, signal.key, signal.value),
        request,
        _DECISION_ID,
        regime,
        dict.fromkeys(PROFILES, (0, 0.0)),
        0,
    )
    content = orjson.loads(made.value)
    assert content["regime"] == expected_regime(orjson.loads(signal.value)["market"])
    _, trade = make_trade(content, rng, ts=ts)
    decision = made.value.replace(b"%", b"%%")
    for old, new in (
        (_DECISION_ID.encode(), b"%s"),
        (b'"signal_id":"' + request.signal_id.encode(), b'"signal_id":"h%09d'),
        (b'"offset":0', b'"offset":%d'),
        (b'"table_offset":0', b'"table_offset":%d'),
    ):
        assert decision.count(old) == 1
        decision = decision.replace(old, new)
    trade = trade.replace(b"%", b"%%").replace(_DECISION_ID.encode(), b"%s")
    return decision, trade
