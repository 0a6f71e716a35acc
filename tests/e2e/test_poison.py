"""No input byte may stop a partition, be lost, or be answered twice (invariant I8)."""

import base64
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import RecordMetadata

from fuzz import records
from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal, make_trade, signal_bytes, trade_bytes
from tests.support.executor import trade_for
from tests.support.fold_oracle import assert_table, fold
from tests.support.kafka_io import Out, content, eventually, headers_of, keyed
from tests.support.raw_batches import raw_batch, send_raw
from tests.support.servers import REPOSITORY, Deployment

LIMIT = 64 * 1024
MAX_AGE_S = 3_600
KEY = b"BTCUSDT"


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that must become a dead letter."""

    name: str
    out: Out
    code: str
    field: str | None = None
    """What `dlq.error` must name."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fresh_signal(**overrides: Any) -> dict[str, Any]:
    return make_signal(**{"ts": now_ms()} | overrides)


def example_poison(kind: str) -> Iterator[Poison]:
    for path in sorted((REPOSITORY / "schemas" / "examples" / "bad" / kind).glob("*.json")):
        example = json.loads(path.read_text())
        if "raw_base64" in example:
            value, symbol = base64.b64decode(example["raw_base64"]), "BTCUSDT"
        else:
            value = json.dumps(example["message"]).encode()
            symbol = example["message"].get("symbol")
        key = symbol.encode() if isinstance(symbol, str) and symbol else KEY
        yield Poison(path.stem, Out(value=value, key=key), example["code"], example["field"])


def padded(message: Mapping[str, Any], size: int) -> bytes:
    """Write a valid message that has exactly so many bytes, by a field nobody knows."""
    bare = json.dumps({**message, "padding": ""}).encode()
    return json.dumps({**message, "padding": "x" * (size - len(bare))}).encode()


def common_poison(kind: str) -> Iterator[Poison]:
    """What is wrong in both topics alike."""
    make = fresh_signal if kind == "signal" else make_trade
    message = make(symbol="BTCUSDT")
    good = json.dumps(message).encode()
    mismatch = "symbol_key_mismatch"
    yield Poison("no key", Out(value=good, partition=1), mismatch, "key")
    yield Poison("empty key", Out(value=good, key=b"", partition=0), mismatch, "key")
    yield Poison("other symbol as key", Out(value=good, key=b"ETHUSDT"), mismatch, "key")
    yield Poison("key in lower case", Out(value=good, key=b"btcusdt"), mismatch, "key")
    yield Poison("key with a space", Out(value=good, key=b"BTCUSDT "), mismatch, "key")
    yield Poison("key not UTF-8", Out(value=good, key=b"\xff\xfe\x00"), mismatch, "key")
    yield Poison("large key", Out(value=good, key=b"K" * 100_000), mismatch, "key")
    yield Poison("tombstone", Out(value=None, key=KEY), "invalid_json")
    yield Poison("tombstone without a key", Out(value=None, partition=0), "invalid_json")
    yield Poison("empty", Out(value=b"", key=KEY), "invalid_json")
    yield Poison("empty without a key", Out(value=b"", partition=1), "invalid_json")
    yield Poison("NUL bytes", Out(value=b"\0" * 100, key=KEY), "invalid_json")
    yield Poison("true", Out(value=b"true", key=KEY), "invalid_json")
    yield Poison("one byte too large", Out(value=padded(message, LIMIT + 1), key=KEY), "too_large")
    yield Poison("900 kB", Out(value=padded(message, 900_000), key=KEY), "too_large")
    yield Poison("large and no JSON", Out(value=b"\xff" * (LIMIT + 1), key=KEY), "too_large")
    yield Poison("large without a key", Out(value=b"{" * 70_000, partition=0), "too_large")
    yield Poison(
        "unsupported version, else empty",
        Out(value=b'{"schema_version":2}', key=KEY),
        "unsupported_version",
        "schema_version",
    )
    yield Poison(
        "version 99",
        Out(value=json.dumps(make(symbol="BTCUSDT", schema_version=99)).encode(), key=KEY),
        "unsupported_version",
        "schema_version",
    )
    yield Poison("deep", Out(value=b'{"a":' + b"[" * 30_000, key=KEY), "invalid_json")
    deep = json.dumps({**message, "side": None}).replace("null", "[" * 1_000 + "]" * 1_000)
    # an error that holds such a value can be written since Python 3.12: it names the field
    named = "nested" if sys.version_info < (3, 12) else "side"
    yield Poison("deep, yet JSON", Out(value=deep.encode(), key=KEY), "invalid_message", named)
    yield Poison(
        "500 kB of headers",
        Out(value=b"{}", key=KEY, headers=[(f"h{n}", b"x" * 50_000) for n in range(10)]),
        "invalid_message",
    )
    yield Poison(
        "many headers",
        Out(value=b"{}", key=KEY, headers=[(f"h{n}", b"") for n in range(5_000)]),
        "invalid_message",
    )
    yield Poison(
        "headers of nothing, as many as a record holds",
        Out(value=b"{}", key=KEY, headers=[("", b"")] * 524_000),
        "invalid_message",
    )
    yield Poison(
        "a name again and again",
        Out(value=b"{" + b",".join([b'"symbol":"X"'] * 4_000) + b"}", key=KEY),
        "invalid_message",
    )
    yield Poison(
        "many names",
        Out(value=b"{" + b",".join(b'"%d":0' % n for n in range(6_000)) + b"}", key=KEY),
        "invalid_message",
    )
    yield Poison(
        "headers that are not UTF-8, or absent",
        Out(value=b"[]", key=KEY, headers=[("bytes", b"\xff\x00"), ("same", b"1"), ("same", b"2")]),
        "invalid_json",
    )


def signal_poison() -> Iterator[Poison]:
    yield from example_poison("signal")
    yield from common_poison("signal")
    yield Poison(
        "stale",
        Out(value=signal_bytes(ts=now_ms() - 1000 * (MAX_AGE_S + 60)), key=KEY),
        "stale_signal",
        "ts",
    )
    yield Poison(
        "no levels above zero",
        Out(value=signal_bytes(ts=now_ms(), current_price=1.0, atr=2.0, atr_pct=2.0), key=KEY),
        "invalid_levels",
    )
    yield Poison(
        "no levels above zero for a short",
        Out(
            value=signal_bytes(ts=now_ms(), side="SHORT", current_price=1.0, atr=0.5, atr_pct=0.5),
            key=KEY,
        ),
        "invalid_levels",
    )


def trade_poison() -> Iterator[Poison]:
    yield from example_poison("trade_closed")
    yield from common_poison("trade")
    unknown = "11111111-2222-5333-8444-555555555555"
    yield Poison(
        "unknown decision",
        Out(value=trade_bytes(decision_id=unknown), key=KEY),
        "unknown_decision",
        "decision_id",
    )
    yield Poison(
        "unknown decision, strategy without regime",
        Out(value=trade_bytes(decision_id=unknown, strategy="scalp"), key=KEY),
        "unknown_decision",
        "decision_id",
    )
    yield Poison(
        "no open decision of the symbol",
        Out(value=trade_bytes(symbol="NEVERSEEN"), key=b"NEVERSEEN"),
        "unknown_decision",
    )
    yield Poison(
        "revision of an unknown trade",
        Out(value=trade_bytes(revision=1), key=KEY),
        "unknown_trade",
    )


@dataclass(slots=True)
class Sent:
    """Poison and where it stands."""

    poison: Poison
    topic: str
    place: RecordMetadata


async def send_mixed(
    deployment: Deployment, topic: str, poison: list[Poison], good: list[Out]
) -> list[Sent]:
    """Send poison with good records between."""
    mixed: list[Out] = []
    for number, bad in enumerate(poison):
        mixed.append(bad.out)
        if number < len(good):
            mixed.append(good[number])
    mixed += good[len(poison) :]
    places = await deployment.kafka.send(topic, mixed)
    found = {id(out): place for out, place in zip(mixed, places, strict=True)}
    return [Sent(bad, topic, found[id(bad.out)]) for bad in poison]


def problems_of(letter: Any, sent: Sent) -> Iterator[str]:
    """Name what is wrong with a dead letter."""
    out = sent.poison.out
    value = out.value or b""
    said = headers_of(letter, "dlq.")
    expected = {
        "dlq.topic": sent.topic,
        "dlq.partition": str(sent.place.partition),
        "dlq.offset": str(sent.place.offset),
        "dlq.reason": sent.poison.code,
        "dlq.sha256": hashlib.sha256(value).hexdigest(),
    }
    yield from (
        f"{name} is {said.get(name)}, must be {must}"
        for name, must in expected.items()
        if said.get(name) != must
    )
    error = said["dlq.error"]
    if not error.isprintable() or not 0 < len(error) <= 500:
        yield f"dlq.error is no line: {error[:600]!r}"
    if sent.poison.field and sent.poison.field not in error:
        yield f"dlq.error does not name {sent.poison.field}: {error}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["dlq.ts"]):
        yield f"dlq.ts is {said['dlq.ts']}"
    if not -5 < time.time() - datetime.fromisoformat(said["dlq.ts"]).timestamp() < 300:
        yield f"dlq.ts is not now: {said['dlq.ts']}"
    if (letter.value or b"") != value[:LIMIT]:
        yield f"value has {len(letter.value or b'')} bytes, the original {len(value)}"
    if letter.key != out.key:
        yield f"key has {len(letter.key or b'')} bytes, the original {len(out.key or b'')}"
    original = [(k, v) for k, v in letter.headers if not k.startswith("dlq.")]
    # of so many that the record would not fit, the first ones are kept
    if original != list(out.headers)[: len(original) if len(out.headers) > 400_000 else None]:
        yield f"{len(original)} of {len(out.headers)} original headers are there"


@pytest.mark.timeout(180)
async def test_each_poison_message_becomes_one_dead_letter_and_all_good_ones_are_served(
    deploy: Deploy,
) -> None:
    deployment = await deploy(partitions=2, META_STRATEGY_MAX_SIGNAL_AGE_S=str(MAX_AGE_S))
    topics = deployment.topics
    worker = await deployment.started()
    good_signals = [fresh_signal(signal_id=f"good-{n}") for n in range(100)]
    edge = fresh_signal(signal_id="as large as allowed")
    bad_signals, bad_trades = list(signal_poison()), list(trade_poison())
    assert min(len(bad_signals), len(bad_trades)) >= 60

    sent = await send_mixed(
        deployment,
        topics.signals,
        bad_signals,
        [Out(value=padded(edge, LIMIT), key=KEY), *map(keyed, good_signals)],
    )
    async with deployment.kafka.tail(topics.decisions) as tail:
        decisions = await tail.count(101)
    known = {d["signal_id"]: d for d in map(content, decisions)}
    good_trades = [keyed(trade_for(known[s["signal_id"]])) for s in good_signals]
    sent += await send_mixed(deployment, topics.trades, bad_trades, good_trades)
    await deployment.settled()

    assert sorted(known) == sorted(s["signal_id"] for s in [edge, *good_signals])
    letters = await deployment.dead_letters()
    by_place: dict[tuple[str, str, str], list[Any]] = {}
    for letter in letters:
        said = headers_of(letter, "dlq.")
        place = said["dlq.topic"], said["dlq.partition"], said["dlq.offset"]
        by_place.setdefault(place, []).append(letter)
    problems: list[str] = []
    for one in sent:
        place = one.topic, str(one.place.partition), str(one.place.offset)
        found = by_place.pop(place, [])
        if len(found) == 1:
            problems += (f"{one.poison.name}: {text}" for text in problems_of(found[0], one))
        else:
            problems.append(f"{one.poison.name}: {len(found)} dead letters")
    assert problems == []
    assert not by_place
    expected = Counter((one.topic, one.poison.code) for one in sent)
    metrics = await worker.until_metric(
        lambda m: m.value("meta_strategy_dead_letters_total") >= len(sent)
    )
    for (topic, code), count in expected.items():
        assert (
            metrics.value("meta_strategy_dead_letters_total", topic=topic, reason=code) == count
        ), (topic, code)
    assert metrics.value("meta_strategy_dead_letters_total") == len(sent)
    await worker.until_metric(
        lambda m: (
            m.families["meta_strategy_consumer_lag"].samples
            and m.value("meta_strategy_consumer_lag") == 0
        )
    )
    trades = await deployment.kafka.read(topics.trades)
    refused = {
        (one.place.partition, one.place.offset) for one in sent if one.topic == topics.trades
    }
    kept = [r for r in trades if (r.partition, r.offset) not in refused]
    assert_table(await deployment.table(), fold(decisions, kept), deployment.prefix)
    assert (await worker.get("/readyz"))[0] == 200


@pytest.mark.timeout(180)
async def test_what_fuzzing_kept_is_answered_by_a_real_worker_each_once(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    topics = deployment.topics
    worker = await deployment.started()
    kept = records.load()
    sent = {
        name: [
            Out(value=one.value, key=one.key, partition=0, headers=one.headers)
            for one in kept
            if one.topic == topic
        ]
        for name, topic in ((topics.signals, records.SIGNALS), (topics.trades, records.TRADES))
    }
    good = make_signal(signal_id="behind them")

    for name, outs in sent.items():
        await deployment.kafka.send(name, outs)
    await deployment.send_signals(keyed(good, partition=0))

    await deployment.settled()
    decisions = await deployment.decisions()
    assert content(decisions[-1])["signal_id"] == "behind them"
    answers = Counter((topics.signals, content(r)["source"]["offset"]) for r in decisions)
    for letter in await deployment.dead_letters():
        said = headers_of(letter, "dlq.")
        answers[said["dlq.topic"], int(said["dlq.offset"])] += 1
    assert set(answers.values()) == {1}
    metrics = await worker.until_metric(
        lambda m: m.value("meta_strategy_dead_letters_total") >= len(answers) - len(decisions)
    )
    for name, outs in sent.items():
        repeats = metrics.value("meta_strategy_duplicates_total", topic=name)
        rewards = metrics.value("meta_strategy_rewards_total") if name == topics.trades else -1
        assert sum(place == name for place, _ in answers) + repeats + rewards == len(outs), name
    trades = await deployment.kafka.read(topics.trades)
    accepted = [r for r in trades if (topics.trades, r.offset) not in answers]
    assert_table(await deployment.table(), fold(decisions, accepted), deployment.prefix)


@pytest.mark.timeout(180)
async def test_parts_that_no_decision_could_carry_stop_nothing(deploy: Deploy) -> None:
    """Neither a trace as large as a record, nor a header whose name is no text."""
    deployment = await deploy(partitions=1)
    signals = deployment.topics.signals
    await deployment.started()
    trace = ("traceparent", b"t" * 1_040_000)
    await deployment.send_signals(keyed(make_signal(signal_id="traced"), headers=[trace]))
    named = [
        (KEY, signal_bytes(signal_id="good beside it"), []),
        (KEY, signal_bytes(signal_id="badly named"), [("AAAA", b"1")]),
        (KEY, b"{}", [("AAAA", b"1")]),
    ]
    batch = raw_batch(named, timestamp_ms=now_ms(), replaced=[(b"AAAA", b"\xff\xfe\xf0a")])
    bootstrap = deployment.stack.bootstrap_servers
    await send_raw(bootstrap, TopicPartition(signals, 0), batch)
    trades = raw_batch(
        [(KEY, trade_bytes(), [("AAAA", b"1")])],
        timestamp_ms=now_ms(),
        replaced=[(b"AAAA", b"\xff\xfe\xf0a")],
    )
    await send_raw(bootstrap, TopicPartition(deployment.topics.trades, 0), trades)
    await deployment.settled()
    # the state is folded from the logs anew, past all of it
    await deployment.redis.unlink(*await deployment.all_keys())
    for worker in deployment.workers:
        worker.kill()
    await deployment.started()
    await deployment.send_signals(keyed(make_signal(signal_id="last")))
    await deployment.settled()

    decided = [content(r)["signal_id"] for r in await deployment.decisions()]
    assert decided == ["traced", "good beside it", "badly named", "last"]
    (letter,) = await deployment.dead_letters()
    assert [name for name, _ in letter.headers][:1] == ["\\xff\\xfe\\xf0a"]
    (row,) = (await deployment.table()).values()
    assert [count for field, count in row.items() if field.endswith(":count")] == ["1"]


async def test_nothing_but_poison_does_not_stop_a_partition(deploy: Deploy) -> None:
    """A flood of it: everything before and after is served."""
    deployment = await deploy(partitions=1)
    await deployment.started()
    flood = [Out(value=b"\xff" * 50, key=KEY)] * 3_000

    await deployment.send_signals(*flood, keyed(make_signal(signal_id="behind it")))

    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        (decision,) = await tail.count(1)
    assert content(decision)["signal_id"] == "behind it"
    assert len(await deployment.dead_letters()) == 3_000


async def test_what_went_to_the_dead_letters_does_not_count_as_seen(deploy: Deploy) -> None:
    """Else a message could not be sent again after its cause was mended."""
    deployment = await deploy(partitions=1)
    await deployment.started()
    signal = make_signal(signal_id="once bad")

    await deployment.send_signals(
        keyed(signal | {"market": {"current_price": 1.0, "atr": -1.0}}), keyed(signal)
    )

    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        (decision,) = await tail.count(1)
    trade = trade_for(content(decision))
    await deployment.send_trades(
        keyed(trade | {"decision_id": "unknown"}), keyed(trade), keyed(trade)
    )
    await deployment.settled()
    assert len(await deployment.dead_letters()) == 2
    (row,) = (await deployment.table()).values()
    assert row["ultra_aggressive:count"] == "1" or row["trend_rider:count"] == "1"


async def test_no_payload_appears_in_logs_metrics_or_labels(deploy: Deploy) -> None:
    """Whoever may write a topic must not write into what operators read (invariant I13)."""
    deployment = await deploy(partitions=1, LOG_RECORDS="all")
    worker = await deployment.started()
    canary = "canary-7d1f"
    poison = [
        Out(value=f'{{"{canary}": 1'.encode(), key=KEY),
        Out(value=json.dumps(make_signal(symbol="BTCUSDT") | {"side": canary}).encode(), key=KEY),
        Out(value=signal_bytes(symbol="BTCUSDT"), key=canary.encode(), partition=0),
        Out(value=signal_bytes(symbol=f"{canary} \n"), key=KEY),
        keyed(make_signal(metadata={"secret": canary})),
    ]

    await deployment.send_signals(*poison)

    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(1)
    await eventually(lambda: "[STRATEGY]" in worker.text(), what="the decision's log line")
    _, _, metrics = await worker.request("/metrics")
    assert canary not in worker.text()
    assert canary not in metrics
    assert "BTCUSDT" not in metrics
