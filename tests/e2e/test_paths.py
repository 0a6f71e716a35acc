"""Price paths of closed trades, on real servers: learned from once, and only while they fit."""

from typing import Any

from consumer.domain.paper import LARGEST_GAP_R
from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import path_for, signals, trade_for
from tests.support.fold_oracle import assert_table, fold
from tests.support.kafka_io import content, eventually, keyed
from tests.support.path_oracle import paper_r
from tests.support.servers import Deployment

SYMBOLS = ("EURUSD", "BTCUSDT")


async def decided(deployment: Deployment, count: int, seed: int) -> list[dict[str, Any]]:
    """Send signals and give their decisions."""
    before = len(await deployment.decisions())
    sent = signals(count, seed=seed, symbols=SYMBOLS, accounts=(None,), kinds=("trend_up",))
    await deployment.send_signals(*map(keyed, sent))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        found = [content(r) for r in await tail.count(before + count)]
    return [d for d in found if d["signal_id"].startswith(f"s{seed}-")]


def closed(decision: dict[str, Any], *, off_r: float = 0.0) -> dict[str, Any]:
    """Close a trade along a path: it earned what its ladder does on it, less `off_r`."""
    trade = trade_for(decision)
    tpsl = decision["tpsl"]
    path = path_for(trade, tpsl["atr"])
    earned = paper_r(
        [tpsl[f"atr_mult_{name}"] for name in ("sl", "tp1", "tp2", "tp3")],
        is_long=decision["side"] == "LONG",
        entry=trade["entry_price"],
        atr=tpsl["atr"],
        path=path,
        exit_price=trade["exit_price"],
    )
    return trade | {"path": path, "realized_r": earned - off_r}


async def assert_folded(deployment: Deployment) -> None:
    await deployment.settled()
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades)
    assert any(
        arm.paper_count > arm.count
        for partition in folded.values()
        for row in partition.rows.values()
        for arm in row.values()
    )
    assert_table(await deployment.table(), folded, deployment.prefix)


async def test_all_strategies_learn_from_each_path_once_whatever_fails(deploy: Deploy) -> None:
    deployment = await deploy(META_STRATEGY_POLICY="full_information")
    worker = await deployment.started()
    decisions = await decided(deployment, 60, seed=71)

    await deployment.send_trades(*(keyed(closed(d)) for d in decisions[:30]))
    await deployment.settled()
    worker.kill()
    # some are repeated, one has no path
    await deployment.send_trades(
        *(keyed(closed(d)) for d in decisions[20:50]), keyed(trade_for(decisions[50]))
    )
    worker.start()
    await assert_folded(deployment)
    metrics = await worker.metrics()
    assert metrics.value("meta_strategy_paths_total", outcome="refused") == 0
    assert metrics.value("meta_strategy_paths_trusted") == 1

    await deployment.redis.unlink(*await deployment.all_keys())
    await assert_folded(deployment)

    later = await decided(deployment, 20, seed=72)
    assert {d["policy"] for d in later} == {"full_information"}
    assert {d["propensity"] for d in later} == {1.0}
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err
    before = await deployment.table()
    await worker.terminate()
    done = await deployment.run("qtable", "rebuild", "--yes")
    assert done.code == 0, done.err
    assert await deployment.table() == before


async def test_paths_that_do_not_fit_are_no_longer_followed_and_it_is_said(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1, META_STRATEGY_POLICY="full_information")
    worker = await deployment.started()
    decisions = await decided(deployment, 150, seed=73)

    off_r = 2 * LARGEST_GAP_R
    await deployment.send_trades(*(keyed(closed(d, off_r=off_r)) for d in decisions[:12]))

    await worker.until_metric(lambda m: m.value("meta_strategy_paths_trusted") == 0)
    gap_r = (await worker.metrics()).value("meta_strategy_path_gap_r")
    assert abs(gap_r - off_r) < 1e-6
    (said,) = [line for line in worker.lines() if "not believed any more" in line["event"]]
    assert said["level"] == "warning"
    assert "account default" in said["event"]
    await deployment.send_signals(keyed(make_signal(signal_id="doubted", symbol="EURUSD")))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        last = [content(r) for r in await tail.count(151)][-1]
    assert "paths are not believed" in last["reasoning"]

    await deployment.send_trades(*(keyed(closed(d)) for d in decisions[12:150]))
    await worker.until_metric(lambda m: m.value("meta_strategy_paths_trusted") == 1)
    await eventually(lambda: "believed again" in worker.text(), what="a word of it")
    await deployment.send_signals(keyed(make_signal(signal_id="believed", symbol="EURUSD")))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        last = [content(r) for r in await tail.count(152)][-1]
    assert "paths are not believed" not in last["reasoning"]
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err
