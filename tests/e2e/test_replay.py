"""`meta-strategy replay`: from the logs alone, every decision can be made again, to the byte."""

import orjson

from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import Executor, signals
from tests.support.kafka_io import Out, content, eventually, keyed
from tests.support.servers import Deployment

SYMBOLS = ("EURUSD", "BTCUSDT", "GBPJPY")
COUNT = 400
DECISIONS = COUNT + len(SYMBOLS)


async def traded(deploy: Deploy) -> Deployment:
    """A deployment that has learned while it decided, was killed in between, and met bad input."""
    deployment = await deploy(partitions=2)
    worker = await deployment.started()
    sent = list(signals(COUNT, seed=77, symbols=SYMBOLS))
    topics = deployment.topics
    async with Executor(deployment.kafka, topics.decisions, topics.trades) as executor:
        for start in range(0, COUNT, 50):
            part = sent[start : start + 50]
            bad = Out(value=b"{", key=b"EURUSD")
            await deployment.send_signals(*map(keyed, part), keyed(part[0]), bad)
            if start == 200:
                worker.kill()
                worker.start()
            wanted = start + 50
            await eventually(
                lambda wanted=wanted: len(executor.answered) >= wanted * 0.8,
                timeout_s=60,
                what="decisions",
            )
    # what comes after the last decision of a partition is not looked at
    last = [make_signal(signal_id=f"last-{symbol}", symbol=symbol) for symbol in SYMBOLS]
    await deployment.send_signals(*map(keyed, last))
    await deployment.settled()
    return deployment


async def test_every_decision_is_made_again_to_the_byte(deploy: Deploy) -> None:
    deployment = await traded(deploy)

    done = await deployment.run("replay", "--verify")

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert f"{DECISIONS} decisions the same to the byte" in lines
    assert f"{COUNT // 50 * 2} signals rightly without one: repeats and bad messages" in lines


async def test_another_seed_is_told_apart_not_compared(deploy: Deploy) -> None:
    deployment = await traded(deploy)
    deployment.settings["META_STRATEGY_SEED"] = "5"

    done = await deployment.run("replay")
    verified = await deployment.run("replay", "--verify")

    assert (done.code, verified.code) == (0, 1)
    assert f"{DECISIONS} decisions of another policy_version, not compared" in done.out
    assert verified.own_lines[-1] == "meta-strategy: not every decision was compared"


async def test_the_first_difference_is_named(deploy: Deploy) -> None:
    """A decision that the worker would not have made, and one that it would not have left out."""
    deployment = await deploy(partitions=1)
    await deployment.started()
    await deployment.send_signals(keyed(make_signal(signal_id="a")))
    await deployment.settled()
    (honest,) = await deployment.decisions()
    forged = content(honest)
    forged["tpsl"]["stop_loss"] += 0.5
    await deployment.send_signals(keyed(make_signal(signal_id="b")))
    await deployment.settled()
    copy = await deploy(partitions=1)
    copy.settings |= {"KAFKA_SIGNALS_TOPIC": deployment.topics.signals}
    second = content((await deployment.decisions())[1])
    await copy.kafka.send(
        copy.topics.decisions,
        [Out(value=orjson.dumps(forged), key=honest.key, timestamp_ms=honest.timestamp)],
    )

    tampered = await copy.run("replay", "--verify")
    await deployment.send_signals(keyed(make_signal(signal_id="c")))
    await deployment.settled()
    left_out = await deploy(partitions=1)
    left_out.settings |= {"KAFKA_SIGNALS_TOPIC": deployment.topics.signals}
    records = await deployment.decisions()
    await left_out.kafka.send(
        left_out.topics.decisions,
        [Out(value=r.value, key=r.key, timestamp_ms=r.timestamp) for r in (records[0], records[2])],
    )
    skipped = await left_out.run("replay", "--verify")

    assert tampered.code == 1
    assert "partition 0, offset 0: tpsl.stop_loss: published " in tampered.own_lines[-1]
    assert skipped.code == 1
    assert f"decision {second['decision_id']}: published 'nothing'" in skipped.own_lines[-1]
