"""What is measured of signals, on real servers: learned once whatever fails, and all in the logs."""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations_with_replacement
from random import Random
from typing import Any

import pytest

from consumer.stream.read_record import ReadRecord
from tests.e2e.conftest import Deploy
from tests.support.executor import signals, trade_for
from tests.support.kafka_io import content, keyed
from tests.support.servers import Deployment

DECAY = 2.0 ** (-1.0 / 300.0)
SYMBOLS = ("EURUSD", "BTCUSDT")


async def decided(deployment: Deployment, count: int, seed: int) -> list[dict[str, Any]]:
    """Send signals that tell more than the usual ones, and give their decisions."""
    rng = Random(seed)
    before = len(await deployment.decisions())
    for signal in signals(count, seed=seed, symbols=SYMBOLS, accounts=(None,), kinds=("trend_up",)):
        signal["confidence"] = rng.random()
        signal["market"]["recent_news_sentiment"] = rng.uniform(-1.0, 1.0)
        await deployment.send_signals(keyed(signal))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        found = [content(record) for record in await tail.count(before + count)]
    return [one for one in found if one["signal_id"].startswith(f"s{seed}-")]


def sums_of(
    decisions: Sequence[ReadRecord], trades: Sequence[ReadRecord], partition: int
) -> dict[str, list[float]]:
    """Add up what each strategy's rewards have to do with the signals, from the logs alone."""
    features = {one["decision_id"]: one["features"] for one in map(content, decisions)}
    strategy = {one["decision_id"]: one["strategy"] for one in map(content, decisions)}
    seen: dict[str, dict[str, tuple[list[float], float]]] = defaultdict(dict)
    for record in sorted(trades, key=lambda one: one.offset):
        if record.partition == partition:
            trade = content(record)
            name = trade["decision_id"]
            # the first record of a trade gives its place; a revision, a new reward
            revised = seen[strategy[name]].get(trade["trade_id"])
            if revised is None or trade.get("revision"):
                z = [1.0, *features[name]]
                seen[strategy[name]][trade["trade_id"]] = (z, trade["realized_r"])
    found = {}
    for name, rewards in seen.items():
        size = len(next(iter(rewards.values()))[0])
        weights = [DECAY**later for later in reversed(range(len(rewards)))]
        rows = list(zip(weights, rewards.values(), strict=True))
        pairs = combinations_with_replacement(range(size), 2)
        found[name] = [sum(w * z[a] * z[b] for w, (z, _) in rows) for a, b in pairs]
        found[name] += [sum(w * z[a] * r for w, (z, r) in rows) for a in range(size)]
    return found


async def test_what_signals_tell_is_learned_once_whatever_fails(deploy: Deploy) -> None:
    deployment = await deploy(META_STRATEGY_POLICY="linear")
    worker = await deployment.started()
    rng = Random(5)
    decisions = await decided(deployment, 60, seed=91)
    assert {len(one["features"]) for one in decisions} == {12}

    closed = [trade_for(one, realized_r=rng.gauss(0.0, 2.0)) for one in decisions]
    await deployment.send_trades(*map(keyed, closed[:30]))
    await deployment.settled()
    worker.kill()
    corrected = [one | {"revision": 1, "realized_r": one["realized_r"] + 1.0} for one in closed[:5]]
    await deployment.send_trades(*map(keyed, closed[20:]), *map(keyed, corrected))
    worker.start()
    await deployment.settled()

    view = await deployment.view()
    logs = (
        await deployment.decisions(),
        await deployment.kafka.read(deployment.topics.trades),
    )
    compared = 0
    for partition in range(deployment.partitions):
        parents = view.get(f"{deployment.prefix}:{{{partition}}}:parents", {})
        for strategy, wanted in sums_of(*logs, partition).items():
            found, on_paper = json.loads(parents[f"default:*:{strategy}"])[-2:]
            assert found == pytest.approx(wanted)
            assert on_paper == []
            in_rows = [
                json.loads(row[f"{strategy}:features"])[0]
                for key, row in (await deployment.table()).items()
                if f"{{{partition}}}:" in key and f"{strategy}:features" in row
            ]
            assert in_rows
            assert all(len(sums) == 13 for sums in in_rows)
            compared += 1
    assert compared >= 2

    await deployment.redis.unlink(*await deployment.all_keys())
    await deployment.until_same(view)
    later = await decided(deployment, 10, seed=92)
    assert all(", features " in one["reasoning"] for one in later)
    done = await deployment.run("replay", "--verify")
    assert done.code == 0, done.err
    await deployment.settled()
    view = await deployment.view()
    await worker.terminate()
    done = await deployment.run("qtable", "rebuild", "--yes")
    assert done.code == 0, done.err
    await deployment.until_same(view)
