"""From a signal to its decision, and from a closed trade to the table: the product's promise."""

import json
import math
from collections import Counter
from random import Random
from signal import SIGTERM
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import market_of, signals, trade_for
from tests.support.fold_oracle import (
    LEVELS,
    Partition,
    assert_table,
    by_source,
    decision_id,
    expected_decision,
    fold,
    levels_of,
)
from tests.support.kafka_io import Out, content, headers_of, keyed
from tests.support.servers import Deployment

TIMING = {"ts", "source", "degraded"}
"""What of a decision depends on when, where and how fast it was made."""
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def assert_decision(decision: dict[str, Any], signal: dict[str, Any], table: Partition) -> None:
    """Compare a decision with what the contract makes of its signal and of the table then."""
    account, symbol = signal.get("account") or "default", signal["symbol"]
    market = signal["market"]
    row = table.rows.get(f"{account}:{symbol}:{decision['regime']}", {})
    expected = expected_decision(signal, row)

    assert decision["schema_version"] == 1
    assert decision["decision_id"] == decision_id(account, signal["signal_id"])
    for name in ("signal_id", "symbol", "side", "timeframe", "metadata"):
        assert decision[name] == signal.get(name)
    assert decision["account"] == account
    assert decision["regime"] == expected.regime
    assert decision["regime_confidence"] == pytest.approx(expected.regime_confidence, abs=1e-12)
    assert decision["regime_reasoning"]
    assert decision["strategy"] in expected.candidates
    assert decision["strategy_name"] == decision["strategy"].replace("_", " ").title()
    if decision["is_exploration"]:
        assert decision["mode"] == "explore"
    else:
        assert decision["mode"] == expected.mode
        assert decision["strategy"] == expected.greedy
        if expected.reasoning is not None:
            assert decision["reasoning"] == expected.reasoning
    assert decision["confidence"] == pytest.approx(expected.confidences[decision["strategy"]])
    assert decision["policy"] == "epsilon_greedy"
    assert decision["policy_version"]
    assert decision["propensities"] == pytest.approx(expected.propensities, abs=1e-12)
    assert math.fsum(decision["propensities"].values()) == pytest.approx(1.0, abs=1e-12)
    assert decision["propensity"] == decision["propensities"][decision["strategy"]]
    assert decision["degraded"] is False
    assert decision["experiment"] is None
    assert decision["variant"] is None
    tpsl = decision["tpsl"]
    multiples = tuple(tpsl[f"atr_mult_{name}"] for name in ("sl", "tp1", "tp2", "tp3"))
    assert multiples == LEVELS[decision["strategy"]]
    assert [tpsl[f"partial_close_tp{n}"] for n in (1, 2, 3)] == [0.4, 0.3, 0.3]
    prices = [tpsl["stop_loss"], *(tpsl[f"take_profit_{n}"] for n in (1, 2, 3))]
    assert prices == pytest.approx(
        levels_of(decision["strategy"], signal["side"], market["current_price"], market["atr"]),
        rel=1e-12,
    )
    assert (tpsl["atr"], tpsl["entry_reference"]) == (market["atr"], market["current_price"])


async def answered(deployment: Deployment, count: int, *, timeout_s: float = 30.0) -> list[Any]:
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        return await tail.count(count, timeout_s=timeout_s)


async def test_every_signal_is_decided_by_the_contract_and_every_trade_is_learned(
    deploy: Deploy,
) -> None:
    """Four rounds, so that later decisions exploit what earlier trades taught."""
    deployment = await deploy(partitions=4, META_STRATEGY_POLICY="epsilon_greedy")
    await deployment.started()
    sent = list(
        signals(
            1200,
            seed=1,
            symbols=("EURUSD", "BTCUSDT", "BINANCE:XRPUSDT", "SOL/USDT"),
            kinds=("trend_up", "strong trend_up", "range_low_vol", "illiquid", "mixed"),
        )
    )
    for number, signal in enumerate(sent):
        if number % 3:
            del signal["metadata"]

    for done in range(0, len(sent), 300):
        batch = sent[done : done + 300]
        await deployment.send_signals(
            *(keyed(s, headers=[("traceparent", TRACE.encode())]) for s in batch)
        )
        records = await answered(deployment, done + 300)
        new = {s["signal_id"] for s in batch}
        await deployment.send_trades(
            *(keyed(trade_for(d)) for d in map(content, records) if d["signal_id"] in new)
        )
        await deployment.settled()

    decisions = await deployment.decisions()
    by_id = {signal["signal_id"]: signal for signal in sent}
    assert Counter(content(r)["signal_id"] for r in decisions) == dict.fromkeys(by_id, 1)
    modes = Counter[str]()

    def watch(decision: dict[str, Any], table: Partition) -> None:
        modes[decision["mode"]] += 1
        assert_decision(decision, by_id[decision["signal_id"]], table)

    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(decisions, trades, watch=watch)
    assert_table(await deployment.table(), folded, deployment.prefix)
    assert set(modes) == {"explore", "heuristic", "exploit"}
    # 0.035 is 4 standard errors of a share of 10 % at n = 1,200
    assert modes["explore"] / len(sent) == pytest.approx(0.1, abs=0.035)
    for record in decisions:
        decision = content(record)
        assert record.key == decision["symbol"].encode()
        assert record.partition == decision["source"]["partition"]
        assert headers_of(record) == {
            "decision_id": decision["decision_id"],
            "strategy": decision["strategy"],
            "regime": decision["regime"],
            "schema_version": "1",
            "traceparent": TRACE,
        }
    assert await deployment.dead_letters() == []


async def test_the_default_policy_finds_what_pays_and_carries_it_to_other_symbols(
    deploy: Deploy,
) -> None:
    """The best strategy is not the cold-start choice of its regime."""
    best = "trend_rider"
    deployment = await deploy(partitions=1)
    await deployment.started()
    many = list(signals(320, seed=4, symbols=("EURUSD",), accounts=(None,), kinds=("trend_up",)))
    rng = Random(2)
    chosen: list[str] = []
    for done in range(0, 300, 20):
        await deployment.send_signals(*map(keyed, many[done : done + 20]))
        records = await answered(deployment, done + 20)
        decisions = [content(record) for record in records[done:]]
        chosen += [decision["strategy"] for decision in decisions]
        await deployment.send_trades(
            *(
                keyed(
                    trade_for(d, realized_r=rng.gauss(1.5 if d["strategy"] == best else 0.0, 1.5))
                )
                for d in decisions
            )
        )
        await deployment.settled()
    await deployment.send_signals(*(keyed(signal | {"symbol": "SOLUSDT"}) for signal in many[300:]))
    records = await answered(deployment, 320)
    elsewhere = [content(record) for record in records[300:]]

    assert {content(record)["policy"] for record in records} == {"ucb"}
    assert chosen[0] != best
    assert Counter(chosen[-100:])[best] >= 80
    assert [decision["strategy"] for decision in elsewhere] == [best] * 20
    assert {decision["propensity"] for decision in elsewhere} == {1.0}


async def test_decisions_stand_in_the_order_and_at_the_place_of_their_signals(
    deploy: Deploy,
) -> None:
    deployment = await deploy(partitions=4)
    sent = list(signals(400, seed=2))
    places = await deployment.kafka.send(deployment.topics.signals, map(keyed, sent))
    await deployment.started()

    records = await answered(deployment, 400)

    found = dict(by_source(records))
    for signal, place in zip(sent, places, strict=True):
        decision = found[place.partition, place.offset]
        assert decision["signal_id"] == signal["signal_id"]
        assert decision["source"] == {
            "topic": deployment.topics.signals,
            "partition": place.partition,
            "offset": place.offset,
        }
    for partition in range(4):
        offsets = [content(r)["source"]["offset"] for r in records if r.partition == partition]
        assert offsets == sorted(set(offsets))


async def test_a_decision_has_the_times_of_its_signal_in_utc_with_milliseconds(
    deploy: Deploy,
) -> None:
    deployment = await deploy(partitions=1)
    await deployment.started()
    times = [1_767_225_600_123, "2026-01-01T02:00:00.5+02:00", "2026-01-01t00:00:00.123456789z"]

    await deployment.send_signals(*(keyed(make_signal(ts=ts)) for ts in times))

    records = await answered(deployment, 3)
    assert [content(r)["signal_ts"] for r in records] == [
        "2026-01-01T00:00:00.123Z",
        "2026-01-01T00:00:00.500Z",
        "2026-01-01T00:00:00.123Z",
    ]
    assert "traceparent" not in headers_of(records[0])


async def test_the_same_seed_and_signals_give_the_same_decisions(deploy: Deploy) -> None:
    """A replay must reproduce every draw, also by another worker (invariant I12)."""
    found = []
    for seed in ("7", "7", "8"):
        deployment = await deploy(
            partitions=2, META_STRATEGY_SEED=seed, META_STRATEGY_EPSILON="0.5"
        )
        await deployment.send_signals(*map(keyed, signals(200, seed=3)))
        worker = await deployment.started()
        records = await answered(deployment, 200)
        worker.kill()
        found.append(
            {
                d["signal_id"]: {k: v for k, v in d.items() if k not in TIMING}
                for d in map(content, records)
            }
        )

    first, again, other = found
    assert first == again
    chosen = [{i: d["strategy"] for i, d in run.items()} for run in (first, other)]
    assert chosen[0] != chosen[1]


async def test_a_disabled_worker_takes_the_default_and_still_learns(deploy: Deploy) -> None:
    deployment = await deploy(META_STRATEGY_ENABLED="false", DEFAULT_STRATEGY="moderate")
    await deployment.started()
    await deployment.send_signals(*map(keyed, signals(40, seed=4)))

    records = await answered(deployment, 40)
    await deployment.send_trades(*(keyed(trade_for(content(r))) for r in records))
    await deployment.settled()

    for decision in map(content, records):
        assert (decision["mode"], decision["strategy"]) == ("default", "moderate")
        assert decision["propensity"] == 1
        assert decision["propensities"] == {"moderate": 1}
        assert decision["is_exploration"] is False
    trades = await deployment.kafka.read(deployment.topics.trades)
    assert_table(await deployment.table(), fold(records, trades), deployment.prefix)


async def test_an_operator_reads_a_context_with_hgetall(deploy: Deploy) -> None:
    """Key, fields and digits are what runbooks and dashboards rely on."""
    deployment = await deploy(partitions=2, META_STRATEGY_EPSILON="0")
    await deployment.started()
    signal = make_signal(symbol="EURUSD", market=market_of("trend_up", 1.1))
    await deployment.send_signals(keyed(signal))
    (record,) = await answered(deployment, 1)
    decision = content(record)

    await deployment.send_trades(
        *(
            keyed(trade_for(decision, trade_id=f"t{n}", realized_r=r))
            for n, r in enumerate((0.1, -0.7, 0))
        )
    )
    await deployment.settled()

    key = f"{deployment.prefix}:{{{record.partition}}}:q:default:EURUSD:trend_up"
    found = await deployment.redis.hgetall(key)
    ema = 0.8 * (0.8 * 0.1 + 0.2 * -0.7) + 0.2 * 0
    expected = {
        "count": 3,
        "ema_reward": ema,
        "avg_reward": (0.1 + -0.7 + 0) / 3,
        "win_count": 1,
        "loss_count": 1,
        "total_r": 0.1 + -0.7 + 0,
    }
    for name, value in expected.items():
        text = found[f"ultra_aggressive:{name}"]
        assert float(text) == value
        if isinstance(value, float):
            assert text == format(value, ".17g")
    mark = await deployment.watermark(record.partition)
    assert mark["trades"] == "3"
    assert int(mark["decisions"]) >= 1
    assert await deployment.redis.type(f"{deployment.prefix}:{{{record.partition}}}:meta") == "hash"
    assert all(
        k.startswith(f"{deployment.prefix}:{{") and k.split("{")[1].split("}")[0] in {"0", "1"}
        for k in await deployment.all_keys()
    )
    assert json.loads(json.dumps(found)) == found


# What the group says of offsets


async def put_group_back(deployment: Deployment, topic: str, offset: int) -> None:
    """Let the group say what it said long ago, as a coordinator that has not caught up does."""
    log = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=deployment.stack.bootstrap_servers,
        group_id=deployment.group,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([log])
        await consumer.commit({log: offset})
    finally:
        await consumer.stop()


async def test_an_offset_of_long_ago_makes_no_second_decision(deploy: Deploy) -> None:
    """Ids are remembered for a while only; the newest decision tells how far signals are answered."""
    deployment = await deploy(partitions=1, META_STRATEGY_DEDUPE_WINDOW="3")
    sent = list(signals(40, seed=71))
    first = await deployment.started()
    await deployment.send_signals(*map(keyed, sent[:30]))
    await deployment.settled()
    first.signal(SIGTERM)
    assert await first.wait(10.0) == 0

    await put_group_back(deployment, deployment.topics.signals, 4)
    second = await deployment.started()
    await deployment.send_signals(*map(keyed, sent[30:]))
    await deployment.settled()

    found = Counter(content(r)["signal_id"] for r in await deployment.decisions())
    assert found == Counter(s["signal_id"] for s in sent)
    assert "the group's offset is behind the decisions" in second.text()


@pytest.mark.parametrize("is_wiped", [False, True], ids=["view", "logs"])
async def test_an_offset_of_long_ago_sends_no_second_dead_letter(
    deploy: Deploy, is_wiped: bool
) -> None:
    """The view, or the newest decision, tells how far closed trades were worked off."""
    deployment = await deploy(partitions=1)
    sent = list(signals(6, seed=73))
    first = await deployment.started()
    await deployment.send_signals(*map(keyed, sent[:4]))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        decisions = [content(record) for record in await tail.count(4)]
    bad = [Out(value=b"{"), Out(value=b"{}"), keyed(trade_for(decisions[0]) | {"side": "UP"})]
    trades = [keyed(trade_for(decision)) for decision in decisions]
    await deployment.send_trades(*bad, *trades)
    await deployment.settled()
    await deployment.send_signals(keyed(sent[4]))  # decided with all of them folded
    await deployment.settled()
    first.signal(SIGTERM)
    assert await first.wait(10.0) == 0

    if is_wiped:
        await deployment.redis.unlink(*await deployment.all_keys())
    await put_group_back(deployment, deployment.topics.trades, 0)
    await deployment.started()
    await deployment.send_signals(keyed(sent[5]))
    await deployment.send_trades(Out(value=b"[]"))
    await deployment.settled()

    assert len(await deployment.decisions()) == 6
    assert len(await deployment.dead_letters()) == len(bad) + 1


async def test_a_topic_that_was_made_anew_is_read_from_where_the_group_says(
    deploy: Deploy,
) -> None:
    """Its offsets begin again: those of the decisions say nothing of them."""
    deployment = await deploy(partitions=1)
    sent = list(signals(50, seed=72))
    first = await deployment.started()
    await deployment.send_signals(*map(keyed, sent[:20]))
    await deployment.settled()
    first.signal(SIGTERM)
    assert await first.wait(10.0) == 0

    await deployment.kafka.remove(deployment.topics.signals)
    await deployment.kafka.create(deployment.topics.signals, 1)
    await deployment.send_signals(*map(keyed, sent[20:]))
    await deployment.started(KAFKA_GROUP_ID=f"{deployment.group}-anew")

    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(len(sent))
    found = Counter(content(r)["signal_id"] for r in await deployment.decisions())
    assert found == Counter(s["signal_id"] for s in sent)
