"""What one partition has learned, another decides by: told once, numbered, and replayed to the byte."""

import json
from collections import defaultdict
from itertools import count
from typing import Any

from aiokafka.partitioner import murmur2

from schemas import StrategyID
from tests.e2e.conftest import Deploy
from tests.e2e.test_refused_starts import assert_refused
from tests.support.builders import make_signal, make_trade
from tests.support.executor import Executor, market_of, signals
from tests.support.kafka_io import content, eventually, keyed
from tests.support.servers import Deployment


def symbols_apart(partitions: int) -> list[str]:
    """Name a symbol for each partition."""
    found: dict[int, str] = {}
    for number in range(100):
        symbol = f"PAIR{number}"
        found.setdefault((murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions, symbol)
    return [found[partition] for partition in range(partitions)]


async def pooled(deploy: Deploy, **settings: str) -> Deployment:
    deployment = await deploy(
        partitions=2, META_STRATEGY_POLICY="ucb", META_STRATEGY_CANDIDATES="all", **settings
    )
    deployment.settings["KAFKA_POOL_TOPIC"] = f"{deployment.prefix}-pool"
    done = await deployment.run("topics", "create")
    assert done.code == 0, done.err
    assert f"{deployment.prefix}-pool: created with 1 partition, 1 copy" in done.out
    return deployment


def lesson(symbol: str, best: str, *, trades: int) -> list[dict[str, Any]]:
    """Trades in which one strategy earns and all others lose."""
    return [
        make_trade(
            trade_id=f"{symbol}-{arm}-{number}",
            symbol=symbol,
            strategy=arm,
            regime="trend_up",
            realized_r=(2.0 if arm == best else -1.0) + 0.1 * (number % 3),
        )
        for number in range(trades)
        for arm in StrategyID
    ]


async def decided(deployment: Deployment, symbol: str, number: int) -> dict[str, Any]:
    """Send one signal, and give its decision."""
    signal = make_signal(signal_id=f"s{number}", symbol=symbol, market=market_of("trend_up"))
    await deployment.send_signals(keyed(signal))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        found = map(content, await tail.count(number))
        return next(one for one in found if one["signal_id"] == f"s{number}")


async def decided_by_the_pool(deployment: Deployment, symbol: str, first: int) -> dict[str, Any]:
    """Send signals until one is decided by all that was told by now; give its decision."""
    *_, newest = await deployment.kafka.read(f"{deployment.prefix}-pool")
    for number in count(first):
        decision = await decided(deployment, symbol, number)
        if decision["pool_offset"] > newest.offset:
            return decision
    raise AssertionError


async def test_what_one_partition_learned_another_decides_by(deploy: Deploy) -> None:
    deployment = await pooled(deploy)
    await deployment.started()
    taught, other = symbols_apart(2)
    before = await decided(deployment, other, 1)
    assert (before["pool_offset"], before["strategy"]) == (0, "ultra_aggressive")

    await deployment.send_trades(*map(keyed, lesson(taught, "defensive", trades=12)))
    await deployment.settled()
    after = await decided_by_the_pool(deployment, other, 2)

    assert after["strategy"] == "defensive"
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err
    done = await deployment.run("replay", "--verify", KAFKA_POOL_TOPIC="")
    assert done.code == 1
    assert "pool_offset: published 0, made again None" in done.err


async def test_all_is_told_once_whatever_fails(deploy: Deploy) -> None:
    deployment = await pooled(deploy)
    worker = await deployment.started()
    symbols = symbols_apart(2)
    sent = list(signals(400, seed=31, symbols=symbols))
    async with Executor(
        deployment.kafka, deployment.topics.decisions, deployment.topics.trades
    ) as executor:
        for start in range(0, 400, 100):
            await deployment.send_signals(*map(keyed, sent[start : start + 100]))
            wanted = 0.8 * (start + 100)
            await eventually(
                lambda wanted=wanted: len(executor.answered) >= wanted,
                timeout_s=60,
                what="decisions",
            )
            if start == 100:
                worker.kill()
                await deployment.redis.unlink(*await deployment.all_keys())
                worker.start()
            if start == 200:
                await deployment.started()  # the partitions are shared from now on
    await deployment.settled()

    learned: dict[tuple[int, str], list[int]] = defaultdict(list)
    for record in map(content, await deployment.kafka.read(f"{deployment.prefix}-pool")):
        counts = [stats[0] for regime, _, stats in record["parents"] if regime is None]
        learned[record["partition"], record["account"]].append(sum(counts))
    assert len(learned) == 4  # two partitions, two accounts
    for totals in learned.values():
        assert len(totals) >= 2
        assert totals == sorted(set(totals))
    offsets = defaultdict(list)
    for decision in await deployment.decisions():
        offsets[decision.partition].append(content(decision)["pool_offset"])
    for found in offsets.values():
        assert found == sorted(found)
        assert found[-1] > 0
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err
    assert "400 decisions the same to the byte" in done.out
    judged = await deployment.run("evaluate", "--json", timeout_s=90)
    assert judged.code == 0, judged.err
    assert json.loads(judged.out)["evaluation"]["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    alone = await deployment.run("evaluate", KAFKA_POOL_TOPIC="", timeout_s=90)
    assert alone.code == 1
    assert "read the topics with KAFKA_POOL_TOPIC set" in alone.err


async def test_the_log_has_to_be_there_and_to_stay(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2)
    pool = f"{deployment.prefix}-pool"
    deployment.settings["KAFKA_POOL_TOPIC"] = pool

    assert_refused(await deployment.run("worker"), pool, "topics create")
    await deployment.kafka.create(pool, 1, {"cleanup.policy": "compact"})
    assert_refused(await deployment.run("worker"), pool, "compacted")
    done = await deployment.run("topics", "create")
    assert done.code == 0, done.err
    assert (
        f"{pool}: has 1 partition; set cleanup.policy=delete, retention.ms=-1, retention.bytes=-1"
        in done.out
    )
    worker = await deployment.started()
    assert (await worker.metrics()).value("meta_strategy_pool_offset") == 0


async def test_partitions_tell_each_other_without_transactions(deploy: Deploy) -> None:
    deployment = await pooled(deploy, KAFKA_PROCESSING_GUARANTEE="at_least_once")
    await deployment.started()
    taught, other = symbols_apart(2)

    await deployment.send_trades(*map(keyed, lesson(taught, "defensive", trades=12)))
    await deployment.settled()
    after = await decided_by_the_pool(deployment, other, 1)

    assert after["strategy"] == "defensive"
