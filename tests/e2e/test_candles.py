"""The candles' topic, on real servers: signals followed on paper as the lab follows them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from random import Random
from typing import Any

import pytest

from consumer import settings
from consumer.domain.qtable import ArmStats
from consumer.local.market_bars import shipped_bars
from consumer.local.paper_signals import entries_of
from lab import backtest
from lab.outcomes import Costs, walk_all
from tests.e2e.conftest import Deploy
from tests.support.builders import START_MS, make_signal
from tests.support.executor import trade_for
from tests.support.hashes import arms_of
from tests.support.kafka_io import Out, content, eventually, keyed
from tests.support.servers import Deployment, is_same_view

BARS, EVERY = 1_500, 60


def silent(items: Sequence[Any], *_: object) -> Iterator[Any]:
    return iter(items)


async def with_candles(deploy: Deploy, **settings: str) -> tuple[Deployment, str]:
    deployment = await deploy(META_STRATEGY_POLICY="full_information", **settings)
    topic = f"{deployment.prefix}-candles"
    await deployment.kafka.create(
        topic, deployment.partitions, {"cleanup.policy": "delete", "retention.ms": "-1"}
    )
    deployment.settings["KAFKA_CANDLES_TOPIC"] = topic
    return deployment, topic


async def settled(deployment: Deployment, topic: str) -> None:
    """Wait until the view holds every candle, too."""
    await deployment.settled()
    ends = await deployment.kafka.ends(topic)

    async def is_there() -> bool:
        marks = {log: await deployment.watermark(log.partition) for log in ends}
        return all(int(marks[log].get("candles", 0)) >= end for log, end in ends.items())

    await eventually(is_there, what="all candles worked off")


def on_paper(row: dict[str, ArmStats]) -> dict[str, ArmStats]:
    """What a row holds besides what was earned."""
    nothing = {"count": 0, "ema_reward": 0.0, "win_count": 0, "loss_count": 0, "total_r": 0.0}
    sums = {"sum_squares": 0.0, "loss_squares": 0.0, "recent_r": 0.0, "feature_sums": ()}
    return {name: replace(stats, **nothing, **sums) for name, stats in row.items()}


def out(record: Any) -> Out:
    return Out(value=record.value, key=record.key)


@pytest.mark.timeout(180)
async def test_the_worker_follows_signals_as_the_lab_does_whatever_fails(deploy: Deploy) -> None:
    # what is held, and usual, in a market hangs on the decisions before: it has to come back, too
    held = {
        "regime_hysteresis": 0.2,
        "regime_min_dwell_s": 7_200,
        "regime_atr_reference": 0.02,
    }
    deployment, topic = await with_candles(
        deploy, **{name.upper(): str(value) for name, value in held.items()}
    )
    bars = [replace(one, bars=one.bars[:BARS]) for one in shipped_bars()]
    found = [entry for one in bars for entry in entries_of(one, 0, Random(7))]
    found = sorted(found, key=lambda entry: entry.close_ms)[::EVERY]
    loaded = settings.load(
        kafka_candles_topic=topic,
        meta_strategy_policy="full_information",
        meta_strategy_seed=0,
        **held,
    )
    outcomes = walk_all(found, loaded.all_profiles, Costs(), track=silent)
    signals = backtest.encode_signals(outcomes, loaded.detector, track=silent)
    wanted = backtest.run(loaded, "lab", outcomes, signals, track=silent).state
    assert wanted is not None

    worker = await deployment.started()
    candles = backtest.Ahead(backtest.candles_of(outcomes))
    decided = 0
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        rounds = groupby(signals.records, key=lambda record: record.timestamp)
        for number, (time_ms, batch) in enumerate(rounds):
            sent = [out(record) for record in batch]
            await deployment.kafka.send(topic, [out(record) for record in candles.until(time_ms)])
            if number == 12:
                worker.kill()  # what comes now waits in both topics
            await deployment.send_signals(*sent)
            decided += len(sent)
            if number == 12:
                continue
            if number == 13:
                worker.start()
            records = await tail.count(decided)
            if number % 5 == 0:
                await deployment.send_trades(keyed(trade_for(content(records[-1]))))
    rest = [out(record) for record in candles.until(2**53)]
    await deployment.kafka.send(topic, rest)
    await settled(deployment, topic)

    def paper_rows(table: dict[str, dict[str, str]]) -> dict[str, dict[str, ArmStats]]:
        rows = {key.split(":q:", 1)[1]: on_paper(arms_of(row)) for key, row in table.items()}
        return {name: row for name, row in rows.items() if any(s.paper_count for s in row.values())}

    expected = {
        f"{context.account}:{context.symbol}:{context.regime}": on_paper(dict(row))
        for context, row in wanted.table.rows.items()
        if any(stats.paper_count for stats in row.values())
    }
    assert len(expected) >= 4
    assert paper_rows(await deployment.table()) == expected
    metrics = await worker.metrics()
    assert metrics.value("meta_strategy_followed_total", outcome="late") == 0
    assert metrics.value("meta_strategy_candles_total", outcome="out_of_order") == 0
    assert wanted.following is not None
    _, state = await worker.get("/api/state")
    assert state["followed_signals"] == wanted.following.open_count

    reasons = [content(record)["regime_reasoning"] for record in await deployment.decisions()]
    assert any(reason.startswith("Held") for reason in reasons)

    before = await deployment.view()
    await deployment.redis.unlink(*await deployment.all_keys())
    await deployment.until_same(before)
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err + done.out
    await worker.terminate()
    done = await deployment.run("qtable", "rebuild", "--yes")
    assert done.code == 0, done.err
    assert "candles" in done.out
    assert is_same_view(await deployment.view(), before)


async def test_a_candle_that_is_none_goes_to_the_dead_letters_once(deploy: Deploy) -> None:
    deployment, topic = await with_candles(deploy, LOG_RECORDS="all")
    good = {
        "schema_version": 1,
        "symbol": "EURUSD",
        "timeframe": "1h",
        "open_time": 1_772_366_400_000,
        "close_time": 1_772_370_000_000,
        "open": 1.1,
        "high": 1.2,
        "low": 1.0,
        "close": 1.1,
        "volume": 5,
    }
    bad = [
        (good | {"high": 1.05}, "invalid_message", "high"),
        (good | {"close_time": good["open_time"]}, "invalid_message", "close_time"),
        (good | {"open": None}, "invalid_message", "open"),
        (good | {"schema_version": 2}, "unsupported_version", "schema_version"),
    ]
    worker = await deployment.started()

    await deployment.kafka.send(topic, [keyed(message) for message, _, _ in bad])
    await deployment.kafka.send(topic, [Out(value=keyed(good).value, key=b"BTCUSDT", partition=0)])
    later = good | {"open_time": good["close_time"], "close_time": good["close_time"] + 1}
    for candle in (good, later, later, good):
        await deployment.kafka.send(topic, [keyed(candle)])
    await settled(deployment, topic)
    worker.kill()
    worker.start()
    await worker.wait_ready()
    await settled(deployment, topic)

    letters = await deployment.dead_letters()
    found = {dict(letter.headers)["dlq.reason"].decode() for letter in letters}
    assert found == {"invalid_message", "unsupported_version", "symbol_key_mismatch"}
    assert len(letters) == len(bad) + 1
    errors = " ".join(dict(letter.headers)["dlq.error"].decode() for letter in letters)
    assert all(field in errors for _, _, field in bad)
    marks = [await deployment.watermark(number) for number in range(deployment.partitions)]
    assert sum(int(mark.get("candles", 0)) for mark in marks) == len(bad) + 5


def hour(symbol: str, number: int, reach: float) -> Out:
    """One candle of an hour that goes up by `reach` [quote] and comes back."""
    candle = {
        "schema_version": 1,
        "symbol": symbol,
        "timeframe": "1h",
        "open_time": START_MS + number * 3_600_000,
        "close_time": START_MS + (number + 1) * 3_600_000,
        "open": 100.0,
        "high": 100.0 + reach,
        "low": 100.0,
        "close": 100.0,
        "volume": 1.0,
    }
    return keyed(candle)


async def test_signals_are_followed_on_in_more_partitions(deploy: Deploy) -> None:
    deployment, topic = await with_candles(deploy)
    worker = await deployment.started()
    symbols = [f"M{number}" for number in range(12)]
    sent = [
        make_signal(
            signal_id=f"s-{name}", symbol=name, ts=START_MS, timeframe="1h", side="LONG",
            current_price=100.0, atr=1.0,
        )
        for name in symbols
    ]  # fmt: skip
    await deployment.send_signals(*map(keyed, sent))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(len(sent))
    # half of them end by it, the others are on their way
    first = [hour(name, 0, 20.0 if n % 2 else 2.2) for n, name in enumerate(symbols)]
    await deployment.kafka.send(topic, [*first, Out(value=b"{", key=b"M1")])
    await settled(deployment, topic)
    table = await deployment.table()
    assert len(table) == len(symbols) // 2
    assert (await worker.terminate())[0] == 0

    done = await deployment.run("topics", "migrate", "--partitions", "5", "--yes")

    assert done.code == 0, done.err
    assert f"all {len(table)} contexts are equal to the old fold's" in done.out
    assert f"KAFKA_CANDLES_TOPIC={topic}-p5" in done.out
    names = deployment.topics
    deployment.topics = replace(
        names,
        signals=f"{names.signals}-p5",
        trades=f"{names.trades}-p5",
        decisions=f"{names.decisions}-p5",
    )
    deployment.partitions, topic = 5, f"{topic}-p5"
    deployment.settings["KAFKA_CANDLES_TOPIC"] = topic
    await deployment.started()
    await deployment.kafka.send(topic, [hour(name, 1, 20.0) for name in symbols])
    await settled(deployment, topic)

    rows = {name: arms_of(row) for name, row in (await deployment.table()).items()}
    assert len(rows) == len(symbols)
    assert {stats.paper_count for row in rows.values() for stats in row.values()} == {1}
    assert len(await deployment.dead_letters()) == 1
    # what was decided before has its signals in the old topic
    done = await deployment.run("replay")
    assert done.code == 0, done.err + done.out
    assert f"{len(symbols)} decisions whose signal was deleted" in done.out
