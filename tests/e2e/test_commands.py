"""The command line, as operators and their scripts use it (contract, section 9)."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from click.testing import CliRunner

from chaos.views import out_of_blocks
from consumer.cli.main import cli
from consumer.local.server import free_port
from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal, make_trade
from tests.support.executor import signals, trade_for
from tests.support.fold_oracle import assert_table, decision_id, fold
from tests.support.kafka_io import KafkaIo, Out, content, headers_of, keyed
from tests.support.servers import Deployment, Finished, is_same_view

COMMANDS = [
    [],
    ["worker"],
    ["demo"],
    ["topics"],
    ["topics", "create"],
    ["topics", "migrate"],
    ["qtable"],
    ["qtable", "show"],
    ["qtable", "export"],
    ["qtable", "import"],
    ["qtable", "rebuild"],
    ["dead-letters"],
    ["dead-letters", "list"],
    ["dead-letters", "replay"],
    ["schemas"],
    ["schemas", "export"],
    ["doctor"],
    ["replay"],
]
WRONG_USE = [
    ["nonsense"],
    ["worker", "too", "many"],
    ["worker", "--nonsense"],
    ["topics", "nonsense"],
    ["topics", "create", "--partitions", "0"],
    ["qtable", "nonsense"],
    ["qtable", "export"],
    ["qtable", "import"],
    ["schemas", "export"],
    ["dead-letters", "nonsense"],
    ["dead-letters", "replay", "--reason", "nonsense"],
    ["dead-letters", "replay", "--max", "x"],
    ["doctor", "too", "many"],
    ["qtable", "import", "/nowhere/table.json"],
    ["demo", "--bars", "/nowhere/BTCUSDT_1h.csv"],
    ["backtest", "--bars", "/nowhere/BTCUSDT_1h.csv"],
    ["backtest", "--timeframe", "7x"],
    ["backtest", "--timeframe", "1m"],
    ["backtest", "--symbol", "X"],
    ["backtest", "--signals", "nonsense"],
    ["backtest", "--out", "/nowhere/report.html"],
    ["evaluate", "--decisions", "/nowhere/d.jsonl", "--trades", "/nowhere/t.jsonl"],
]


async def in_parts(deployment: Deployment, commands: list[list[str]]) -> list[Any]:
    """Run commands, three at a time: enough for two cores."""
    finished: list[Any] = []
    for start in range(0, len(commands), 3):
        part = commands[start : start + 3]
        finished += await asyncio.gather(*(deployment.run(*c) for c in part))
    return finished


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_everywhere(command: list[str]) -> None:
    done = CliRunner().invoke(cli, [*command, "--help"])

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == ""


@pytest.mark.parametrize("command", WRONG_USE, ids=" ".join)
def test_wrong_use_ends_with_2_and_the_usage(command: list[str]) -> None:
    done = CliRunner().invoke(cli, command)

    assert done.exit_code == 2, done.output
    assert "Usage: " in done.stderr


async def test_wrong_use_of_the_process_ends_with_2(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run("worker", "--nonsense")

    assert (done.code, done.out) == (2, "")
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


async def test_no_command_shows_a_traceback_without_servers(deploy: Deploy, tmp_path: Path) -> None:
    deployment = await deploy(topics=False)
    deployment.settings |= {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    commands = [
        ["topics", "create"],
        ["qtable", "show"],
        ["qtable", "export", str(tmp_path / "export.json")],
        ["qtable", "rebuild", "--yes"],
        ["dead-letters", "list"],
        ["dead-letters", "replay", "--yes"],
    ]

    for command, done in zip(commands, await in_parts(deployment, commands), strict=True):
        assert done.code == 1, command
        assert done.own_lines[-1].startswith("meta-strategy: "), done.err
        assert "Traceback" not in done.err


# Topics


async def config_of(kafka: KafkaIo, topic: str) -> dict[str, str]:
    responses = await kafka.admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic)]
    )
    ((_, _, _, _, entries),) = responses[0].resources
    return {entry[0]: entry[1] for entry in entries}


async def test_topics_create_makes_them_right(deploy: Deploy, kafka: KafkaIo) -> None:
    deployment = await deploy(topics=False)
    names = deployment.topics

    first = await deployment.run("topics", "create", "--partitions", "3")
    again = await deployment.run("topics", "create")

    assert (first.code, again.code) == (0, 0)
    for name in (names.signals, names.trades, names.decisions, names.dead_letters):
        assert name in first.out
    for name in (names.signals, names.trades, names.decisions):
        assert await kafka.partitions(name) == 3
    assert await kafka.partitions(names.dead_letters) > 0
    for name in (names.trades, names.decisions):
        config = await config_of(kafka, name)
        assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "-1")
    worker = await deployment.started()
    assert (await worker.get("/readyz"))[1]["partitions"] == [0, 1, 2]


async def test_topics_create_mends_the_memory_s_retention(deploy: Deploy, kafka: KafkaIo) -> None:
    deployment = await deploy(topics=False)
    await kafka.create(deployment.topics.trades, 2, {"cleanup.policy": "compact"})
    await kafka.create(deployment.topics.decisions, 2, {"retention.ms": "1000"})

    assert (await deployment.run("topics", "create")).code == 0

    for name in (deployment.topics.trades, deployment.topics.decisions):
        config = await config_of(kafka, name)
        assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "-1")
    assert await kafka.partitions(deployment.topics.signals) == 2


async def test_topics_create_keeps_what_else_a_topic_was_given(
    deploy: Deploy, kafka: KafkaIo
) -> None:
    """Kafka puts back to its defaults what a request to alter a topic does not name."""
    deployment = await deploy(topics=False)
    own = {"max.message.bytes": "131072", "compression.type": "zstd"}
    await kafka.create(deployment.topics.trades, 2, own | {"retention.ms": "1000"})

    done = await deployment.run("topics", "create")

    assert done.code == 0, done
    config = await config_of(kafka, deployment.topics.trades)
    assert {name: config[name] for name in own} == own
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "-1")


async def test_topics_create_tells_of_copies_that_it_does_not_change(
    deploy: Deploy, kafka: KafkaIo
) -> None:
    """Who asked for five would trust in them; and of one copy two in sync would refuse every record."""
    deployment = await deploy(topics=False)
    names = deployment.topics
    await kafka.create(names.trades, 2, {"retention.ms": "1000"})
    for name in (names.signals, names.decisions, names.dead_letters):
        await kafka.create(name, 2)

    other = await deployment.run("topics", "create", "--replication", "5")
    same = await deployment.run("topics", "create", "--replication", "1")
    unasked = await deployment.run("topics", "create")

    assert (other.code, same.code, unasked.code) == (0, 0, 0)
    told = [line for line in other.out.splitlines() if "its copies stay at 1, not 5" in line]
    assert {line.partition(":")[0] for line in told} == {*astuple(names)}
    assert "copies" not in same.out + unasked.out
    config = await config_of(kafka, names.trades)
    assert (config["retention.ms"], config["min.insync.replicas"]) == ("-1", "1")


async def test_a_feed_that_is_there_keeps_its_own_settings(deploy: Deploy, kafka: KafkaIo) -> None:
    """Candles are somebody else's: a worker reads them as they are, doctor says what that means."""
    deployment = await deploy(topics=False)
    feed = f"{deployment.prefix}-feed"
    deployment.settings["KAFKA_CANDLES_TOPIC"] = feed
    own = {"retention.ms": "600000", "message.timestamp.type": "LogAppendTime"}
    await kafka.create(feed, 2, own)

    assert (await deployment.run("topics", "create")).code == 0

    config = await config_of(kafka, feed)
    assert {name: config[name] for name in own} == own
    assert await kafka.partitions(deployment.topics.signals) == 2
    await deployment.started()
    told = await deployment.run("doctor")
    assert f"{feed} has retention.ms=600000" in told.out


async def test_topics_create_lets_only_an_empty_topic_grow(deploy: Deploy, kafka: KafkaIo) -> None:
    """Growing parts a symbol's old records from its new ones."""
    deployment = await deploy(topics=False)
    names = deployment.topics
    await kafka.create(names.signals, 4)
    await kafka.create(names.trades, 2)

    grown = await deployment.run("topics", "create")

    assert grown.code == 0
    assert await kafka.partitions(names.trades) == 4
    await kafka.send(names.trades, [Out(value=b"{}", key=b"X")])
    refused = await deployment.run("topics", "create", "--partitions", "6")
    assert refused.code == 1
    assert names.trades in refused.err
    assert "topics migrate" in refused.err
    assert await kafka.partitions(names.trades) == 4


# The table


FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


async def taught(deploy: Deploy, **settings: str) -> Deployment:
    """A deployment with a table, whose worker was stopped."""
    deployment = await deploy(partitions=2, **settings)
    worker = await deployment.started()
    await deployment.send_signals(
        *map(keyed, signals(150, seed=51, symbols=("EURUSD", "BTCUSDT", "BINANCE:XRPUSDT")))
    )
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        records = await tail.count(150)
    await deployment.send_trades(*(keyed(trade_for(content(r))) for r in records[:120]))
    await deployment.settled()
    assert (await worker.terminate())[0] == 0
    return deployment


async def test_the_table_is_shown_exported_imported_and_rebuilt(
    deploy: Deploy, tmp_path: Path
) -> None:
    deployment = await taught(deploy)
    before = await deployment.view()
    table = await deployment.table()
    file = tmp_path / "export.json"

    shown = await deployment.run("qtable", "show")
    one = await deployment.run("qtable", "show", "BINANCE:XRPUSDT", "--json")
    as_json = await deployment.run("qtable", "show", "--json")
    exported = await deployment.run("qtable", "export", str(file))

    assert [done.code for done in (shown, one, as_json, exported)] == [0] * 4
    assert "EURUSD" in shown.out
    entries = json.loads(as_json.out)
    cells = {
        (key.split(":q:", 1)[1], field.removesuffix(":count"))
        for key, fields in table.items()
        for field in fields
        if field.endswith(":count")
    }
    assert {
        (f"{e['account']}:{e['symbol']}:{e['regime']}", e["strategy"]) for e in entries
    } == cells
    for entry in entries:
        (fields,) = (
            f
            for k, f in table.items()
            if k.endswith(f":q:{entry['account']}:{entry['symbol']}:{entry['regime']}")
        )
        for name in ("count", "ema_reward", "avg_reward", "total_r"):
            assert entry[name] == float(fields[f"{entry['strategy']}:{name}"])
    assert {e["symbol"] for e in json.loads(one.out)} == {"BINANCE:XRPUSDT"}
    json.loads(file.read_text())

    await deployment.redis.delete(*before)
    imported = await deployment.run("qtable", "import", str(file))
    assert imported.code == 0, imported
    assert imported.out == "2 partitions imported\n"
    assert out_of_blocks(await deployment.view()) == out_of_blocks(before)

    await deployment.redis.delete(*before)
    rebuilt = await deployment.run("qtable", "rebuild", "--yes")
    assert rebuilt.code == 0, rebuilt
    assert is_same_view(await deployment.view(), before)

    # over a table that was changed by hand, too
    key = next(iter(table))
    await deployment.redis.hset(key, next(iter(table[key])), "123")
    await deployment.redis.hset(f"{deployment.prefix}:{{0}}:q:default:GONE:unknown", "a", "1")
    asked = await deployment.run("qtable", "rebuild", typed="y\n")
    assert asked.code == 0, asked
    after = await deployment.view()
    after.pop(f"{deployment.prefix}:{{0}}:q:default:GONE:unknown", None)
    assert is_same_view(after, before)


async def test_contexts_of_variants_are_told_apart(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    worker = await deployment.started()
    echo = {"strategy": "scalp", "regime": "unknown", "realized_r": 1.0}
    await deployment.send_trades(
        *(
            keyed(make_trade(trade_id=f"t-{variant}", **echo, variant=variant))
            for variant in (None, "A", "B")
        )
    )
    await deployment.settled()

    shown = await deployment.run("qtable", "show")
    _, body = await worker.get("/api/qtable/BTCUSDT")

    contexts = [line.split()[2] for line in shown.out.splitlines()[1:]]
    assert contexts == ["unknown", "unknown:A", "unknown:B"]
    assert [one["variant"] for one in body["contexts"]] == [None, "A", "B"]


async def test_a_refused_question_changes_nothing(deploy: Deploy) -> None:
    deployment = await taught(deploy)
    before = await deployment.view()

    done = await deployment.run("qtable", "rebuild", typed="n\n", META_STRATEGY_ALPHA="0.5")

    assert done.code != 0
    assert "Traceback" not in done.err
    assert await deployment.view() == before


async def on_terminal(deployment: Deployment, *arguments: str, typed: str) -> Finished:
    """Run a command whose input is a terminal on which somebody types."""
    ours, its = os.openpty()
    try:
        os.write(ours, typed.encode())
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "consumer.cli.main", *arguments],
            cwd=deployment.directory,
            env=deployment.environment(),
            stdin=its,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(its)
    return Finished(done.returncode, done.stdout, done.stderr)


async def test_an_import_asks_on_a_terminal_alone(deploy: Deploy, tmp_path: Path) -> None:
    """A script has nobody who could answer; what cannot be imported is told before it is asked."""
    deployment = await deploy(partitions=1)
    file = tmp_path / "export.json"
    assert (await deployment.run("qtable", "export", str(file))).code == 0

    refused = await on_terminal(deployment, "qtable", "import", str(file), typed="n\n")
    taken = await on_terminal(deployment, "qtable", "import", str(file), typed="y\n")
    missing = await on_terminal(deployment, "qtable", "import", "/nope.json", typed="y\n")

    assert (refused.code, refused.own_lines) == (1, ["Aborted!"])
    assert "Replace the table" in refused.out
    assert "imported" not in refused.out
    assert taken.code == 0, taken
    assert taken.out.endswith("0 partitions imported\n")
    assert (missing.code, missing.out) == (2, "")
    assert "'/nope.json' does not exist." in missing.own_lines[-1]


async def test_a_table_that_is_served_is_refused_before_anything_is_asked_or_told(
    deploy: Deploy, tmp_path: Path
) -> None:
    deployment = await deploy(partitions=1)
    file = tmp_path / "export.json"
    assert (await deployment.run("qtable", "export", str(file))).code == 0
    await deployment.started()

    for command in (["rebuild"], ["import", str(file)]):
        for options in ([], ["--yes"]):
            done = await on_terminal(deployment, "qtable", *command, *options, typed="y\n")

            assert (done.code, done.out) == (1, ""), done
            (line,) = done.own_lines
            assert "has members: stop the workers first" in line


async def test_a_rebuild_takes_new_settings_over(deploy: Deploy) -> None:
    deployment = await taught(deploy)
    new = {"META_STRATEGY_ALPHA": "0.5", "META_STRATEGY_REWARD_UNIT": "risk"}

    done = await deployment.run("qtable", "rebuild", "--yes", **new)

    assert done.code == 0, done
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades, alpha=0.5, unit="risk")
    assert_table(await deployment.table(), folded, deployment.prefix)
    await deployment.started(**new)


@pytest.mark.parametrize("content_", ["", "{}", "[]", '{"format": "other"}', "\x00"])
async def test_a_file_that_is_no_export_is_refused(
    deploy: Deploy, tmp_path: Path, content_: str
) -> None:
    deployment = await deploy(partitions=1)
    file = tmp_path / "broken.json"
    file.write_text(content_)

    done = await deployment.run("qtable", "import", str(file))

    assert done.code == 1
    assert "Traceback" not in done.err
    assert str(file) in done.err


# Dead letters


async def test_dead_letters_are_listed_and_sent_again(deploy: Deploy) -> None:
    deployment = await deploy(partitions=2)
    topics = deployment.topics
    await deployment.started()
    signal = make_signal(symbol="EURUSD", signal_id="keyless")
    value = json.dumps(signal).encode()
    await deployment.send_signals(
        Out(value=b"nonsense", key=b"EURUSD", headers=[("traceparent", b"t")]),
        Out(value=value, key=b"EUR"),
    )
    await deployment.send_trades(
        keyed(trade_for(decision_like(signal))), Out(value=b"x" * 70_000, key=b"EURUSD")
    )
    async with deployment.kafka.tail(topics.dead_letters) as tail:
        await tail.count(4)

        listed = await deployment.run("dead-letters", "list")
        as_json = await deployment.run("dead-letters", "list", "--json")
        assert (listed.code, as_json.code) == (0, 0)
        codes = {"invalid_json", "symbol_key_mismatch", "unknown_decision", "too_large"}
        assert all(code in listed.out for code in codes)
        letters = [json.loads(line) for line in as_json.out.splitlines()]
        assert {letter["reason"] for letter in letters} == codes
        assert {letter["topic"] for letter in letters} == {topics.signals, topics.trades}

        # its cause was mended: the decision is there now
        await deployment.send_signals(keyed(signal))
        async with deployment.kafka.tail(topics.decisions) as decisions:
            await decisions.count(1)
        sent = await deployment.run(
            "dead-letters", "replay", "--reason", "unknown_decision", "--yes"
        )
        assert sent.code == 0, sent
        await deployment.settled()
        trades = await deployment.kafka.read(topics.trades)
        assert len(trades) == 3
        (row,) = (await deployment.table()).values()
        assert any(v == "1" for k, v in row.items() if k.endswith(":count"))

        # what is still bad comes back, with its own headers
        again = await deployment.run(
            "dead-letters", "replay", "--reason", "invalid_json", "--max", "1", "--yes"
        )
        assert again.code == 0, again
        await tail.count(5)
        last = headers_of(tail.records[-1])
        assert (last["dlq.reason"], last["traceparent"]) == ("invalid_json", "t")
        assert [k for k, _ in tail.records[-1].headers].count("dlq.reason") == 1


def dead_letter(in_partition: int, **told: str) -> Out:
    """A record among the dead letters that tells this in its headers."""
    headers = [(f"dlq.{name}", text.encode()) for name, text in told.items()]
    return Out(value=b"{}", key=b"X", partition=in_partition, headers=headers)


async def test_dead_letters_are_read_up_to_an_open_transaction(deploy: Deploy) -> None:
    """A worker at work has one open: what it has not committed yet nobody can read."""
    deployment = await deploy(partitions=2)
    topics = deployment.topics
    told = {"topic": topics.trades, "partition": "0"}
    before = [dead_letter(n, offset=f"{n}", **told) for n in (0, 1)]
    await deployment.kafka.send(topics.dead_letters, before)
    worker = AIOKafkaProducer(
        bootstrap_servers=deployment.stack.bootstrap_servers,
        transactional_id=f"{deployment.group}-at-work",
    )
    await worker.start()
    try:
        await worker.begin_transaction()
        await worker.send_and_wait(topics.dead_letters, b"{}", partition=0)
        behind = [dead_letter(n, offset=f"{n + 2}", **told) for n in (0, 1)]
        await deployment.kafka.send(topics.dead_letters, behind)

        listed = await deployment.run("dead-letters", "list", "--json")
        sent = await deployment.run("dead-letters", "replay", "--yes")
    finally:
        await worker.stop()

    assert listed.code == 0, listed
    assert [json.loads(line)["offset"] for line in listed.out.splitlines()] == [0, 1, 3]
    assert (sent.code, sent.out) == (0, "3 records sent\n"), sent


async def test_dead_letters_that_a_stranger_wrote_are_shown_and_go_where_they_may(
    deploy: Deploy,
) -> None:
    """Who may write there could else end every listing, or send a decision by the operator's hand."""
    deployment = await deploy(partitions=1)
    topics, feed = deployment.topics, f"{deployment.prefix}-feed"
    deployment.settings["KAFKA_CANDLES_TOPIC"] = feed
    await deployment.kafka.create(feed, 1)
    letters = [
        dead_letter(0, topic=topics.trades, partition="seven", offset="9" * 5_000, ts="1"),
        dead_letter(0, topic=topics.signals, partition="3", offset="", ts="2"),
        dead_letter(0, topic=topics.decisions, partition="0", offset="4", ts="3"),
        dead_letter(0, topic="no topic\nat \x1b[31mall", partition="0", offset="5", ts="4"),
        dead_letter(0, ts="5"),
        dead_letter(0, topic=feed, partition="0", offset="6", ts="6"),
    ]
    await deployment.kafka.send(topics.dead_letters, letters)

    listed = await deployment.run("dead-letters", "list")
    as_json = await deployment.run("dead-letters", "list", "--json")
    sent = await deployment.run("dead-letters", "replay", "--yes")

    assert (listed.code, as_json.code) == (0, 0), (listed, as_json)
    places = [line.split("  ")[0] for line in listed.out.splitlines()]
    assert places == [
        f"1 {topics.trades}-?@?",
        f"2 {topics.signals}-3@?",
        f"3 {topics.decisions}-0@4",
        r"4 no topic\nat \x1b[31mall-0@5",
        "5 ?-?@?",
        f"6 {feed}-0@6",
        "6 dead letters",
    ]
    found = [json.loads(line) for line in as_json.out.splitlines()]
    assert [(one["topic"], one["partition"], one["offset"]) for one in found] == [
        (topics.trades, None, None),
        (topics.signals, 3, None),
        (topics.decisions, 0, 4),
        ("no topic\nat \x1b[31mall", 0, 5),
        ("", None, None),
        (feed, 0, 6),
    ]
    assert (sent.code, sent.out) == (0, "3 records sent\n"), sent
    inputs = topics.signals, topics.trades, feed
    assert sent.own_lines == [f"3 name none of {', '.join(inputs)} and cannot be sent again"]
    for topic, count in (*dict.fromkeys(inputs, 1).items(), (topics.decisions, 0)):
        assert len(await deployment.kafka.read(topic)) == count, topic


def decision_like(signal: dict[str, Any]) -> dict[str, Any]:
    """What a trade must know of a decision that is not made yet."""
    return {
        "decision_id": decision_id("default", signal["signal_id"]),
        "signal_id": signal["signal_id"],
        "symbol": signal["symbol"],
        "account": "default",
        "side": signal["side"],
        "tpsl": {"entry_reference": 50_000.0, "atr": 250.0},
    }


# The rest


async def test_schemas_are_exported(deploy: Deploy, tmp_path: Path) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run("schemas", "export", str(tmp_path / "new" / "schemas"))

    assert done.code == 0, done
    files = {path.name: json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    schemas = [found for found in files.values() if "$schema" in found]
    assert {s["$schema"] for s in schemas} == {"https://json-schema.org/draft/2020-12/schema"}
    assert len(schemas) >= 4
    assert any(found.get("asyncapi", "").startswith("3.") for found in files.values())


async def test_doctor_says_that_all_is_well(deploy: Deploy) -> None:
    deployment = await taught(deploy)

    done = await deployment.run("doctor")

    assert done.code == 0, done
    text = done.out.lower()
    assert all(word in text for word in ("settings", "kafka", "topics", "redis"))
    assert len(done.out.splitlines()) >= 4


async def test_doctor_sees_what_would_delete_memory_or_has(deploy: Deploy) -> None:
    """Logs that are deleted by size, and one that was made anew under its table: no worker would start."""
    deployment = await taught(deploy)
    topics = deployment.topics
    resource = ConfigResource(
        ConfigResourceType.TOPIC, topics.decisions, {"retention.ms": "-1", "retention.bytes": "9"}
    )
    await deployment.kafka.admin.alter_configs([resource])

    limited = await deployment.run("doctor")
    mended = await deployment.run("topics", "create")
    await deployment.kafka.remove(topics.trades)
    await deployment.kafka.create(topics.trades, deployment.partitions, FOREVER)
    anew = await deployment.run("doctor")

    assert limited.code == 0
    assert f"{topics.decisions} has retention.bytes=9: what it deletes" in limited.out
    assert f"{topics.decisions}: has" in mended.out
    assert "retention.bytes=-1" in mended.out
    assert anew.code == 1
    assert f"{topics.trades}-0: the table is folded up to offset" in anew.out
    assert "retention" not in anew.out


async def test_doctor_names_each_failing_thing(deploy: Deploy, kafka: KafkaIo) -> None:
    deployment = await deploy(topics=False)
    other = await taught(deploy)
    await kafka.create(deployment.topics.signals, 2)
    nowhere = f"127.0.0.1:{free_port()}"

    finished = await asyncio.gather(
        deployment.run("doctor", KAFKA_BOOTSTRAP_SERVERS=nowhere),
        deployment.run("doctor", REDIS_URL=f"redis://{nowhere}/0"),
        deployment.run("doctor"),
        other.run("doctor", META_STRATEGY_ALPHA="0.7"),
    )

    assert [done.code for done in finished] == [1, 1, 1, 1]
    assert all("Traceback" not in done.err for done in finished)
    no_kafka, no_redis, no_topics, other_alpha = ([*done.out.splitlines()] for done in finished)
    assert any("kafka" in line and "error" in line for line in no_kafka)
    assert any("redis" in line and "error" in line for line in no_redis)
    assert any(deployment.topics.trades in line and "error" in line for line in no_topics)
    assert any("alpha" in line and "error" in line for line in other_alpha)
