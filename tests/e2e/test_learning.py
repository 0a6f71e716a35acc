"""What a closed trade teaches, and what it must not (contract, sections 1 and 4)."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from tests.e2e.conftest import Deploy
from tests.support.builders import OMIT, make_signal, make_trade
from tests.support.executor import market_of, signals, trade_for
from tests.support.fold_oracle import assert_table, decision_id, fold
from tests.support.kafka_io import content, headers_of, keyed
from tests.support.servers import Deployment, Samples


async def decided(deployment: Deployment, *sent: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Send signals and wait for their decisions, in the order of the signals."""
    await deployment.send_signals(*map(keyed, sent))
    wanted = {s["signal_id"] for s in sent}
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.until(lambda rs: wanted <= {content(r)["signal_id"] for r in rs})
        by_id = {content(r)["signal_id"]: content(r) for r in tail.records}
    return [by_id[s["signal_id"]] for s in sent]


async def judged(deployment: Deployment, **settings: Any) -> dict[str, dict[str, str]]:
    """Compare the table with the oracle's and give it."""
    await deployment.settled()
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades, **settings)
    table = await deployment.table()
    assert_table(table, folded, deployment.prefix)
    refused = {
        (number, offset): code
        for number, partition in folded.items()
        for offset, code in partition.refused.items()
    }
    letters = [headers_of(r, "dlq.") for r in await deployment.dead_letters()]
    assert {
        (int(said["dlq.partition"]), int(said["dlq.offset"])): said["dlq.reason"]
        for said in letters
        if said["dlq.topic"] == deployment.topics.trades
    } == refused
    return table


def outcomes(metrics: Samples) -> dict[str, float]:
    names = ("win", "loss", "flat", "excluded", "revised")
    return {
        name: value
        for name in names
        if (value := metrics.value("meta_strategy_rewards_total", outcome=name))
    }


async def test_repeats_of_signals_and_trades_are_counted_not_answered(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2)
    worker = await deployment.started()
    sent = list(signals(20, seed=61))
    decisions = await decided(deployment, *sent)
    trades = [trade_for(d) for d in decisions]

    await deployment.send_signals(*map(keyed, sent))
    changed = [s | {"side": "LONG" if s["side"] == "SHORT" else "SHORT"} for s in sent]
    await deployment.send_signals(*map(keyed, changed))
    await deployment.send_trades(*map(keyed, [*trades, *trades]))
    await deployment.send_trades(*(keyed(t | {"exit_price": 1.0}) for t in trades))
    await deployment.settled()

    assert len(await deployment.decisions()) == 20
    await judged(deployment)
    metrics = await worker.metrics()
    topics = deployment.topics
    assert metrics.value("meta_strategy_duplicates_total", topic=topics.signals) == 40
    assert metrics.value("meta_strategy_duplicates_total", topic=topics.trades) == 40
    assert metrics.value("meta_strategy_signals_total") == 20
    worker.kill()

    # a repeat is still one for the next worker
    await deployment.send_signals(*map(keyed, sent))
    await deployment.send_trades(*map(keyed, trades))
    again = await deployment.started()
    await deployment.settled()
    assert len(await deployment.decisions()) == 20
    await judged(deployment)
    assert (await again.metrics()).value("meta_strategy_duplicates_total") == 40


async def test_ids_belong_to_their_account(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    await deployment.started()
    one = make_signal(signal_id="same", account=OMIT)
    other = make_signal(signal_id="same", account="paper")

    first, second = (await decided(deployment, one))[0], None
    await deployment.send_signals(keyed(other), keyed(other))
    await deployment.settled()
    records = [content(r) for r in await deployment.decisions()]
    assert [r["account"] for r in records] == ["default", "paper"]
    second = records[1]
    assert first["decision_id"] == decision_id("default", "same")
    assert second["decision_id"] == decision_id("paper", "same")
    await deployment.send_trades(
        keyed(trade_for(first, trade_id="t")), keyed(trade_for(second, trade_id="t"))
    )
    table = await judged(deployment)
    assert len(table) == 2


async def test_a_dedupe_window_forgets_the_oldest(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1, META_STRATEGY_DEDUPE_WINDOW="5")
    await deployment.started()
    sent = [make_signal(signal_id=f"n{n}") for n in range(6)]
    await decided(deployment, *sent)

    await deployment.send_signals(keyed(sent[5]), keyed(sent[1]), keyed(sent[0]))
    await deployment.settled()

    ids = [content(r)["signal_id"] for r in await deployment.decisions()]
    assert ids == ["n0", "n1", "n2", "n3", "n4", "n5", "n0"]


async def test_a_revision_corrects_as_if_it_had_always_stood_there(deploy: Deploy) -> None:
    """Quarters of R are exact in binary: counts and sums must be exact, too."""
    deployment = await deploy(partitions=1, META_STRATEGY_EPSILON="0")
    worker = await deployment.started()
    (decision,) = await decided(deployment, make_signal(symbol="EURUSD"))

    def trade(name: str, **parts: Any) -> Any:
        return keyed(trade_for(decision, trade_id=name, **parts))

    await deployment.send_trades(
        trade("a", realized_r=1.0),
        trade("b", realized_r=-0.75),
        trade("c", realized_r=0.5),
        trade("d", realized_r=2.0, close_reason="manual"),
        trade("a", realized_r=-1.0, revision=1),  # the first: a win becomes a loss
        trade("b", realized_r=0.25, revision=2),
        trade("b", realized_r=9.0, revision=1),  # older than what is there
        trade("b", realized_r=9.0, revision=2),  # the same again
        trade("d", realized_r=9.0, revision=1),  # of an excluded trade
        trade("c", realized_r=0.0, revision=7),
        trade("b", realized_r=0.75, revision=3, close_reason="manual"),  # its reason is the first's
        trade("never seen", realized_r=1.0, revision=1),
        trade("e", realized_r=1.5),
    )

    table = await judged(deployment)
    (row,) = table.values()
    said = {name.split(":")[1]: float(value) for name, value in row.items() if name[0] == "u"}
    rewards = [-1.0, 0.75, 0.0, 1.5]
    ema = rewards[0]
    for reward in rewards[1:]:
        ema = 0.8 * ema + 0.2 * reward
    assert said["count"] == 4
    assert (said["win_count"], said["loss_count"]) == (2, 1)
    assert said["total_r"] == sum(rewards)
    assert said["avg_reward"] == sum(rewards) / 4
    assert said["ema_reward"] == pytest.approx(ema, rel=1e-12)
    metrics = await worker.metrics()
    assert outcomes(metrics) == {"win": 3, "loss": 1, "excluded": 2, "revised": 4}
    assert metrics.value("meta_strategy_duplicates_total") == 2
    assert metrics.value("meta_strategy_dead_letters_total", reason="unknown_trade") == 1


async def test_a_trade_without_a_decision_id_belongs_to_the_newest_open_one(
    deploy: Deploy,
) -> None:
    """Of its account, symbol and side; a decision that was closed is no candidate."""
    deployment = await deploy(partitions=1, META_STRATEGY_EPSILON="0")
    worker = await deployment.started()
    sent = [
        make_signal(symbol="EURUSD", market=market_of("range_low_vol")),
        make_signal(symbol="EURUSD", market=market_of("trend_up")),
        make_signal(symbol="EURUSD", side="SHORT", market=market_of("trend_down")),
        make_signal(symbol="EURUSD", account="paper", market=market_of("illiquid")),
        make_signal(symbol="BTCUSDT", market=market_of("high_volatility")),
    ]
    older, newer, _, _, _ = await decided(deployment, *sent)

    def trade(number: int, **parts: Any) -> Any:
        return keyed(
            make_trade(
                trade_id=f"t{number}", **{"symbol": "EURUSD", "realized_r": float(number)} | parts
            )
        )

    await deployment.send_trades(
        trade(1),  # the newer one
        trade(2),  # then the older one
        trade(3),  # then there is none
        trade(4, decision_id=newer["decision_id"]),  # named, it counts again
        trade(5, side="SHORT"),
        trade(6, account="paper"),
        trade(7, account="live"),
        trade(8, strategy="scalp", regime="unknown"),  # none open, but echoed
        trade(9, decision_id="lost", strategy="moderate", regime="trend_up"),
        trade(10, decision_id=older["decision_id"], strategy="moderate", regime="unknown"),
    )

    table = await judged(deployment)
    rewards = {
        (key.split(":q:")[1], field.removesuffix(":total_r")): float(value)
        for key, row in table.items()
        for field, value in row.items()
        if field.endswith(":total_r")
    }
    assert rewards == {
        ("default:EURUSD:trend_up", "ultra_aggressive"): 5.0,
        ("default:EURUSD:range_low_vol", "scalp"): 12.0,
        ("default:EURUSD:trend_down", "ultra_aggressive"): 5.0,
        ("paper:EURUSD:illiquid", "defensive"): 6.0,
        ("default:EURUSD:unknown", "scalp"): 8.0,
        ("default:EURUSD:trend_up", "moderate"): 9.0,
    }
    metrics = await worker.metrics()
    by_symbol = metrics.value("meta_strategy_attributions_total", attribution="symbol")
    assert by_symbol == 4
    assert metrics.value("meta_strategy_attributions_total") == 8
    assert metrics.value("meta_strategy_dead_letters_total", reason="unknown_decision") == 2


async def test_excluded_reasons_are_counted_not_learned(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1, META_STRATEGY_LEARN_EXCLUDE="timeout,liquidation")
    worker = await deployment.started()
    reasons = ("take_profit", "stop_loss", "timeout", "manual", "liquidation", "external")
    (decision,) = await decided(deployment, make_signal())

    await deployment.send_trades(
        *(keyed(trade_for(decision, trade_id=r, close_reason=r, realized_r=1.0)) for r in reasons)
    )

    table = await judged(deployment, exclude=frozenset({"timeout", "liquidation"}))
    (row,) = table.values()
    assert [value for name, value in row.items() if name.endswith(":count")] == ["4"]
    assert outcomes(await worker.metrics()) == {"win": 4, "excluded": 2}


async def test_rewards_in_the_unit_of_risk_make_every_full_stop_minus_one(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1, META_STRATEGY_REWARD_UNIT="risk")
    await deployment.started()
    kinds = ("range_low_vol", "strong trend_up", "trend_up")
    decisions = await decided(
        deployment, *(make_signal(symbol=f"S{n}", market=market_of(k)) for n, k in enumerate(kinds))
    )

    await deployment.send_trades(
        *(
            keyed(trade_for(d, exit_price=d["tpsl"]["stop_loss"], entry_price=50_000.0))
            for d in decisions
        )
    )

    table = await judged(deployment, unit="risk")
    totals = [float(v) for r in table.values() for n, v in r.items() if n.endswith(":total_r")]
    assert totals == pytest.approx([-1.0] * 3)


async def test_realized_r_is_made_of_exits_fees_and_atr(deploy: Deploy) -> None:
    """Numbers that are exact in binary, so that no order of operations matters."""
    deployment = await deploy(partitions=1)
    await deployment.started()
    market = market_of("trend_up") | {"current_price": 1024.0, "atr": 4.0}
    long, short = await decided(
        deployment,
        make_signal(symbol="LONGS", market=market),
        make_signal(symbol="SHORTS", side="SHORT", market=market),
    )
    halves = [{"price": 1028.0, "fraction": 0.5}, {"price": 1036.0, "fraction": 0.5}]
    cases: list[tuple[dict[str, Any], float]] = [
        ({"exit_price": 1032.0}, 2.0),
        ({"exit_price": 1032.0, "fees": 1.0}, 1.75),
        ({"exit_price": 1032.0, "fees": -1.0}, 2.25),
        ({"exit_price": 1032.0, "atr": 8.0}, 1.0),
        ({"exit_price": OMIT, "exits": halves}, 2.0),
        ({"exit_price": 1.0, "exits": halves, "fees": 2.0}, 1.5),
        ({"exit_price": 1.0, "exits": halves, "fees": 2.0, "realized_r": -3.25}, -3.25),
    ]

    await deployment.send_trades(
        *(
            keyed(trade_for(d, trade_id=f"t{n}", **{"entry_price": 1024.0, "atr": OMIT} | parts))
            for d in (long, short)
            for n, (parts, _) in enumerate(cases)
        )
    )
    # ids belong to an account, not to a symbol
    await deployment.settled()
    table = await judged(deployment)
    ((name, total),) = [
        (k, float(v)) for r in table.values() for k, v in r.items() if k.endswith(":total_r")
    ]
    assert total == sum(reward for _, reward in cases), name


async def test_ages_go_by_record_time_not_by_the_clock(deploy: Deploy) -> None:
    """A decision older than its limit is forgotten, by the logs' own times."""
    deployment = await deploy(partitions=1, META_STRATEGY_DECISION_TTL_DAYS="0.01")
    await deployment.started()
    (decision,) = await decided(deployment, make_signal())
    (record,) = await deployment.decisions()
    at_ms, ttl_ms = record.timestamp, 864_000

    await deployment.send_trades(
        keyed(trade_for(decision, trade_id="in time"), timestamp_ms=at_ms + ttl_ms),
        keyed(trade_for(decision, trade_id="too late"), timestamp_ms=at_ms + ttl_ms + 1),
        keyed(trade_for(decision, trade_id="in time again"), timestamp_ms=at_ms),
    )

    table = await judged(deployment, ttl_ms=ttl_ms)
    (row,) = table.values()
    assert [value for name, value in row.items() if name.endswith(":count")] == ["2"]


async def test_at_least_once_decides_and_learns_the_same(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2, KAFKA_PROCESSING_GUARANTEE="at_least_once")
    worker = await deployment.started()
    sent = list(signals(200, seed=62))
    decisions = await decided(deployment, *sent)
    await deployment.send_trades(*(keyed(trade_for(d)) for d in decisions))
    await deployment.send_signals(keyed(sent[0] | {"market": {}}))

    await judged_at_least_once(deployment, sent)
    worker.kill()
    more = list(signals(100, seed=63))
    await deployment.send_signals(*map(keyed, more))
    await deployment.started()
    await judged_at_least_once(deployment, [*sent, *more])


async def judged_at_least_once(deployment: Deployment, sent: list[dict[str, Any]]) -> None:
    await deployment.settled()
    records = await deployment.decisions()
    assert {content(r)["signal_id"] for r in records} == {s["signal_id"] for s in sent}
    trades = await deployment.kafka.read(deployment.topics.trades)
    assert_table(await deployment.table(), fold(records, trades), deployment.prefix)
    codes = {headers_of(r)["dlq.reason"] for r in await deployment.dead_letters()}
    assert codes == {"invalid_message"}


async def test_a_new_group_may_start_at_the_end(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2, KAFKA_START="latest")
    await deployment.send_signals(*map(keyed, signals(50, seed=64)))
    await deployment.started()
    late = list(signals(20, seed=65))

    decisions = await decided(deployment, *late)

    assert len(decisions) == len(await deployment.decisions()) == 20
    # once it has offsets, the group goes on from them
    deployment.workers[0].kill()
    later = list(signals(20, seed=66))
    await deployment.send_signals(*map(keyed, later))
    await deployment.started()
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        await tail.count(40)


async def test_an_executor_that_writes_in_transactions_is_read_to_the_end(deploy: Deploy) -> None:
    """Its markers take offsets: lag must still come back to 0; what it aborts is nothing."""
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    topics = deployment.topics
    producer = AIOKafkaProducer(
        bootstrap_servers=deployment.stack.bootstrap_servers,
        transactional_id=f"{deployment.group}-executor",
    )
    await producer.start()
    try:
        for number in range(3):
            async with producer.transaction():
                out = keyed(make_signal(signal_id=f"c{number}"))
                await producer.send_and_wait(topics.signals, out.value, key=out.key)
        await producer.begin_transaction()
        out = keyed(make_signal(signal_id="aborted"))
        await producer.send_and_wait(topics.signals, out.value, key=out.key)
        await producer.abort_transaction()
        async with deployment.kafka.tail(topics.decisions) as tail:
            records = await tail.count(3)
        async with producer.transaction():
            for record in records:
                out = keyed(trade_for(content(record)))
                await producer.send_and_wait(topics.trades, out.value, key=out.key)
    finally:
        await producer.stop()

    await worker.until_metric(
        lambda m: (
            m.value("meta_strategy_rewards_total") == 3
            and [s.value for s in m.families["meta_strategy_consumer_lag"].samples] == [0, 0]
        )
    )
    assert [content(r)["signal_id"] for r in records] == ["c0", "c1", "c2"]
    trades = await deployment.kafka.read(topics.trades)
    worker.kill()
    await deployment.started()
    assert_table(await deployment.table(), fold(records, trades), deployment.prefix)


async def test_records_deleted_unread_are_counted_once(deploy: Deploy) -> None:
    """Both the group's offset and the table's position in closed trades stand below what is left."""
    deployment = await deploy(partitions=1)
    echo = {"strategy": "scalp", "regime": "trend_up", "realized_r": 1.0}

    async def send(*numbers: int) -> None:
        await deployment.send_signals(*(keyed(make_signal(signal_id=f"s{n}")) for n in numbers))
        await deployment.send_trades(
            *(keyed(make_trade(trade_id=f"t{n}", **echo)) for n in numbers)
        )

    worker = await deployment.started()
    await send(0, 1, 2)
    await deployment.settled()
    assert (await worker.terminate())[0] == 0
    await send(3, 4, 5)
    topics = deployment.topics
    for topic in (topics.signals, topics.trades):
        log = TopicPartition(topic, 0)
        await deployment.kafka.admin.delete_records({log: RecordsToDelete(before_offset=5)})
    worker = await deployment.started()
    await deployment.settled()

    metrics = await worker.metrics()
    for topic in (topics.signals, topics.trades):
        assert metrics.value("meta_strategy_skipped_total", topic=topic) == 2
    assert len(await deployment.decisions()) == 4


async def test_a_revision_may_be_a_time(deploy: Deploy) -> None:
    """Of an executor that numbers corrections by when it made them [Unix us]."""
    deployment = await deploy(partitions=1)
    await deployment.started()
    echo = {"trade_id": "t", "strategy": "scalp", "regime": "trend_up"}
    await deployment.send_trades(
        keyed(make_trade(realized_r=1.0, **echo)),
        keyed(make_trade(realized_r=2.0, revision=1_772_366_400_000_000, **echo)),
    )
    await deployment.settled()

    ((_, row),) = (await deployment.table()).items()
    assert float(row["scalp:total_r"]) == 2.0
