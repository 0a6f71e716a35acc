"""A changed partition count: nothing is answered twice, no reward counts twice, none is lost."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer.decision_log import LoggedDecision
from consumer.errors import RefusedError
from consumer.merging import Merged, MergedDecision, MergedTrade
from consumer.migrate.copy import by_time
from consumer.migrate.plan import plan_migration
from consumer.settings import Settings, load
from consumer.stream.dense_producer import partition_of
from consumer.stream.groups import commit_offsets
from consumer.stream.read_record import ReadRecord
from tests.integration.conftest import Deploy
from tests.support.builders import make_trade
from tests.support.executor import signals, trade_for
from tests.support.fold_oracle import Partition, assert_table, fold
from tests.support.kafka_io import Out, content, headers_of, keyed
from tests.support.servers import Deployment, Topics

Rows = dict[str, dict[str, str]]


def by_context(table: Mapping[str, Mapping[str, str]]) -> Rows:
    """Give the rows without the partition in their keys."""
    return {key.split("}:q:", 1)[1]: dict(row) for key, row in table.items()}


def expected(folded: Iterable[Partition]) -> dict[str, dict[str, float]]:
    return {
        context: {
            name: value
            for strategy, arm in row.items()
            for name, value in arm.fields(strategy).items()
        }
        for partition in folded
        for context, row in partition.rows.items()
    }


def assert_rows(table: Mapping[str, Mapping[str, str]], folded: Mapping[int, Partition]) -> None:
    rows, wanted = by_context(table), expected(folded.values())
    assert sorted(rows) == sorted(wanted)
    for context, fields in wanted.items():
        for name, value in fields.items():
            # sums of corrected rewards are equal but for the last bits
            assert math.isclose(float(rows[context][name]), value, rel_tol=1e-12, abs_tol=1e-12), (
                context,
                name,
            )


def by_symbol(records: Iterable[ReadRecord]) -> dict[bytes, list[Any]]:
    """Give what must not change of records, in the order of each symbol."""
    found = defaultdict(list)
    for r in records:
        value = json.loads(r.value)
        value.pop("table_offset", None)
        found[r.key].append((value, list(r.headers), r.timestamp))
    return dict(found)


def renamed(topics: Topics, suffix: str) -> Topics:
    return Topics(
        topics.signals + suffix,
        topics.trades + suffix,
        topics.decisions + suffix,
        topics.dead_letters,
    )


def settings_of(deployment: Deployment) -> Settings:
    environment = deployment.environment()
    return load(
        **{
            name: environment[name.upper()]
            for name in Settings.model_fields
            if name.startswith(("kafka_", "redis_", "meta_")) and name.upper() in environment
        }
    )


def told(letter: ReadRecord) -> tuple[Any, ...]:
    """All of a record but when it was read."""
    return (
        letter.partition, letter.offset, letter.timestamp, letter.key, letter.value, letter.headers
    )  # fmt: skip


def place(letter: ReadRecord) -> tuple[str, str]:
    found = headers_of(letter, "dlq.")
    return found["dlq.topic"], found["dlq.reason"]


async def traffic(deployment: Deployment, count: int, seed: int) -> list[dict[str, Any]]:
    """Send signals and trades of every kind; give the decisions that no trade has answered."""
    sent = list(signals(count, seed=seed))
    await deployment.send_signals(
        *map(keyed, sent),
        *map(keyed, sent[:9]),  # repeats
        Out(value=b"no JSON", key=b"BTCUSDT"),
        Out(value=b"{}", key=b"EURUSD"),
        Out(value=keyed(sent[0]).value, key=None, partition=1),
    )
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        decisions = [content(r) for r in await tail.count(count)]
    # as they were sent: one partition may have been answered before the other
    number = {s["signal_id"]: n for n, s in enumerate(sent)}
    decisions.sort(key=lambda d: number[d["signal_id"]])
    third = count // 3
    trades = [trade_for(d) for d in decisions[:third]]
    await deployment.send_trades(
        *map(keyed, trades),
        *map(keyed, trades[:5]),  # repeats
        *(keyed(trade_for(d, revision=1, fees=3.0)) for d in decisions[3:8]),
        *(keyed(trade_for(d, trade_id=f"second-{d['signal_id']}")) for d in decisions[5:9]),
        Out(value=b"no JSON", key=b"BTCUSDT"),
        Out(value=keyed(trades[0]).value, key=None, partition=0),
        keyed(make_trade(symbol="EURUSD", decision_id="nobody's")),
        # for the newest open decision of account, symbol and side
        *(
            keyed(trade_for(d, decision_id=None, trade_id=f"by-symbol-{d['signal_id']}"))
            for d in decisions[third : third + 6]
        ),
    )
    await deployment.settled()
    answered = {d["decision_id"] for d in decisions[: third + 6]}
    return [d for d in decisions if d["decision_id"] not in answered]


async def test_all_goes_on_in_more_partitions_as_if_there_had_always_been_so_many(
    deploy: Deploy,
) -> None:
    deployment = await deploy(partitions=2)
    old, before = deployment.topics, settings_of(deployment)
    worker = await deployment.started()
    unanswered = await traffic(deployment, 150, seed=11)
    table = await deployment.table()

    with pytest.raises(RefusedError, match="has members: stop the workers first"):
        await plan_migration(before, 5, "-p5")
    assert (await worker.terminate())[0] == 0
    # all this waits for a worker
    waiting = list(signals(30, seed=12))
    await deployment.send_signals(
        *map(keyed, waiting),
        keyed(waiting[0]),
        Out(value=b"no JSON either", key=b"GBPJPY"),
        Out(value=b"", key=None, partition=1),
        Out(value=None, key=b"XAUUSD"),
    )
    await deployment.send_trades(
        *(keyed(trade_for(d)) for d in unanswered[:40]),
        keyed(trade_for(unanswered[0])),
        keyed(trade_for(unanswered[1], revision=1, fees=1.0)),
        Out(value=b"no JSON either", key=b"GBPJPY"),
        keyed(make_trade(symbol="GBPJPY", decision_id="nobody's, too")),
    )
    decided, traded = await deployment.decisions(), await deployment.kafka.read(old.trades)
    letters = await deployment.dead_letters()

    done = await deployment.run("topics", "migrate", "--partitions", "5", "--yes")

    assert done.code == 0, done.err
    new = deployment.topics = renamed(old, "-p5")
    settings = {line.partition("=")[0]: line.partition("=")[2] for line in done.out.splitlines()}
    assert settings["KAFKA_SIGNALS_TOPIC"] == new.signals
    assert settings["KAFKA_TRADE_CLOSED_TOPIC"] == new.trades
    assert settings["KAFKA_DECISIONS_TOPIC"] == new.decisions
    assert f"all {len(table)} contexts are equal to the old fold's" in done.out
    assert "warning" not in done.out
    copied = await deployment.decisions()
    assert by_symbol(copied) == by_symbol(decided)
    assert all(r.partition == partition_of(r.key, 5) for r in copied)
    moved = await deployment.table()
    assert by_context(moved) == by_context(table)
    assert len({key.split("}")[0] for key in moved}) > 2
    assert list(map(told, await deployment.dead_letters())) == list(map(told, letters))
    offsets = await deployment.kafka.committed(deployment.group, new.trades)
    assert offsets.keys() == set(range(5))
    # 44 wait, two of the worked off are no messages
    assert sum(offsets.values()) == len(traded) - 44 - 2

    with pytest.raises(RefusedError, match="holds records already"):
        await plan_migration(before, 5, "-p5")

    deployment.partitions = 5
    await deployment.started()
    await deployment.send_signals(*(keyed(s) for s in list(signals(150, seed=11))[50:70]))
    sent = [trade_for(d) for d in unanswered[40:50]]
    await deployment.send_trades(*map(keyed, sent), keyed(trade_for(unanswered[0])))
    await deployment.settled()

    decisions = await deployment.decisions()
    ids = {s["signal_id"] for s in [*signals(150, seed=11), *waiting]}
    assert Counter(content(r)["signal_id"] for r in decisions) == dict.fromkeys(ids, 1)
    # the old logs, with what came after, folded by the contract's rules alone
    oracle = fold(decided, traded)
    home = {r.key: r.partition for r in decided}
    for record in await deployment.kafka.read(new.trades):
        if record.value in {keyed(t).value for t in sent}:
            oracle[home[record.key]].learn(record)
    assert_rows(await deployment.table(), oracle)
    assert_table(
        await deployment.table(),
        fold(decisions, await deployment.kafka.read(new.trades)),
        deployment.prefix,
    )
    later = Counter(map(place, await deployment.dead_letters())) - Counter(map(place, letters))
    assert later == {
        (new.signals, "invalid_json"): 3,
        (new.trades, "invalid_json"): 1,
        (new.trades, "unknown_decision"): 1,
    }
    await deployment.kafka.admin.delete_topics([old.signals, old.trades, old.decisions])


async def test_fewer_partitions_leave_no_keys_and_no_dead_letter_behind(deploy: Deploy) -> None:
    """The group stands before what the decisions have seen, as after a crash under at_least_once."""
    deployment = await deploy(partitions=3)
    old = deployment.topics
    worker = await deployment.started()
    await traffic(deployment, 60, seed=21)
    await deployment.send_signals(*map(keyed, signals(40, seed=22)))  # these saw all trades
    await deployment.settled()
    assert (await worker.terminate())[0] == 0
    table, letters = await deployment.table(), await deployment.dead_letters()
    traded = await deployment.kafka.read(old.trades)
    await commit_offsets(
        settings_of(deployment).connection,
        deployment.group,
        dict.fromkeys(await deployment.kafka.ends(old.trades), 0),
    )

    done = await deployment.run(
        "topics", "migrate", "--partitions", "1", "--suffix", ".v2", "--yes"
    )

    assert done.code == 0, done.err
    deployment.topics, deployment.partitions = renamed(old, ".v2"), 1
    assert by_context(await deployment.table()) == by_context(table)
    assert {key.split(":")[1] for key in await deployment.all_keys()} == {"{0}"}
    refused = [letter for letter in letters if place(letter)[0] == old.trades]
    offsets = await deployment.kafka.committed(deployment.group, deployment.topics.trades)
    assert offsets == {0: len(traded) - len(refused)}

    await deployment.started()
    await deployment.settled()

    assert by_context(await deployment.table()) == by_context(table)
    assert len(await deployment.decisions()) == 100
    again = Counter(map(place, await deployment.dead_letters())) - Counter(map(place, letters))
    reasons = Counter(place(letter)[1] for letter in refused)
    assert again == {(deployment.topics.trades, code): count for code, count in reasons.items()}
    await deployment.kafka.admin.delete_topics([old.signals, old.trades, old.decisions])


def merged(timestamp: int, *, is_trade: bool = False) -> Merged:
    record = SimpleNamespace(timestamp=timestamp)
    if is_trade:
        return MergedTrade(record, cast(Any, None))
    return MergedDecision(record, LoggedDecision(cast(Any, None), 0, is_exploration=False))


async def stream(*records: Merged) -> AsyncIterator[Merged]:
    for record in records:
        yield record


async def test_partitions_that_become_one_are_joinedby_time() -> None:
    """One after the other, the last one's old decisions would push out what the others remember."""
    first = stream(merged(10), merged(90, is_trade=True), merged(30), merged(5, is_trade=True))
    second = stream(merged(0, is_trade=True), merged(20), merged(20), merged(40))

    found = [
        (number, record.record.timestamp)
        async for number, record in by_time([first, second, stream()])
    ]

    assert found == [(1, 0), (0, 10), (0, 90), (1, 20), (1, 20), (0, 30), (0, 5), (1, 40)]
