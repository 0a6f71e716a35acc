"""No secret, and nothing of a message but validated ids, appears in logs, metrics, errors or HTTP (I13)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer import settings as product_settings
from consumer.settings import Settings
from tests.support.builders import make_signal, make_trade
from tests.support.kafka_io import Out, content, headers_of, keyed
from tests.support.secured import Secured, serving
from tests.support.secured_servers import SECRET
from tests.support.servers import WorkerProcess

# the first test waits for the servers, and for a dozen of Kafka's commands, each a JVM
pytestmark = pytest.mark.timeout(600)

PAYLOAD = "canarypayload"
PATHS = ("/", "/healthz", "/readyz", "/metrics", "/api/summary", "/api/state", "/api/active")
SECRET_ENVIRONMENT = ("KAFKA_SASL_PASSWORD", "REDIS_URL")


def good_signal(**overrides: Any) -> dict[str, Any]:
    """A signal that carries the canary wherever a good one can."""
    return make_signal(
        timeframe=PAYLOAD, metadata={PAYLOAD: [PAYLOAD, {"deep": PAYLOAD}]}, **overrides
    ) | {"unknown": PAYLOAD, PAYLOAD: 1}


def poison() -> Iterator[tuple[str, Out]]:
    """Records that are refused, for the canary or with it."""
    key = b"BTCUSDT"
    hidden = [(PAYLOAD, PAYLOAD.encode()), ("traceparent", PAYLOAD.encode())]
    for topic, make in (("signals", make_signal), ("trade-closed", make_trade)):
        message = make(symbol="BTCUSDT")
        for value in (
            PAYLOAD.encode(),
            f'{{"{PAYLOAD}": {PAYLOAD}}}'.encode(),
            json.dumps([PAYLOAD]).encode(),
            json.dumps(PAYLOAD).encode(),
            b"\xff" + PAYLOAD.encode(),
            PAYLOAD.encode() * 10_000,
        ):
            yield topic, Out(value=value, key=key, headers=hidden)
        wrong: dict[str, Any] = {
            "symbol": f"{PAYLOAD} {PAYLOAD} {PAYLOAD}",
            "side": PAYLOAD,
            "schema_version": PAYLOAD,
            "account": f"!{PAYLOAD}",
            "metadata": PAYLOAD,
        }
        for name, value in wrong.items():
            yield topic, Out(value=json.dumps(message | {name: value}).encode(), key=key)
        yield topic, Out(value=json.dumps(message).encode(), key=PAYLOAD.encode())
    market = make_signal()["market"]
    for signal in (
        make_signal(ts=PAYLOAD),
        make_signal(market=market | {"atr": PAYLOAD}),
        make_signal(market=PAYLOAD),
        make_signal() | {"higher_timeframes": [{PAYLOAD: PAYLOAD}]},
        make_signal(signal_id=PAYLOAD * 20),
        make_signal(metadata={PAYLOAD: PAYLOAD * 1_000}),
    ):
        yield "signals", Out(value=json.dumps(signal).encode(), key=key)
    for changes in (
        {"closed_at": PAYLOAD},
        {"close_reason": PAYLOAD},
        {"regime": PAYLOAD},
        # of no decision: one that another test left open would take it
        {"strategy": PAYLOAD, "regime": "trend_up", "decision_id": "none"},
        {"decision_id": PAYLOAD},
        {"trade_id": PAYLOAD, "revision": 3},
        {"exits": [{"price": PAYLOAD, "fraction": 1}]},
        {"path": [[PAYLOAD, 1, 1, 1]]},
        {"entry_price": PAYLOAD},
    ):
        trade = make_trade(symbol="BTCUSDT") | changes
        yield "trade-closed", Out(value=json.dumps(trade).encode(), key=key)


async def said_by(worker: WorkerProcess) -> str:
    """Give all that a worker says to anybody: its log, and the answer of every endpoint."""
    answers = [await worker.request(path) for path in (*PATHS, "/api/qtable/BTCUSDT")]
    return "\n".join([worker.text(), *(text for _, _, text in answers)])


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_neither_secrets_nor_payloads_are_told(secured: Secured, log_format: str) -> None:
    name = {"LOG_FORMAT": log_format, "LOG_LEVEL": "DEBUG", "LOG_RECORDS": "all"}
    sent = list(poison())
    async with (
        secured.clients("executor", writes=True) as executor,
        secured.clients("router") as router,
        secured.clients("operator") as operator,
    ):
        before = len(await operator.read("strategy-dead-letters"))
        decided = len(await router.read("strategy-decisions"))
        async with serving(secured.worker(**name)) as worker:
            for topic, record in sent:
                await executor.send(topic, [record])
            hidden = [(PAYLOAD, PAYLOAD.encode())]
            good = good_signal(signal_id=f"secrets-{log_format}")
            await executor.send("signals", [keyed(good, headers=hidden)])
            async with router.tail("strategy-decisions") as tail:
                records = await tail.count(decided + 1)
            (decision,) = (d for d in map(content, records) if d["signal_id"] == good["signal_id"])
            trade = make_trade(
                symbol="BTCUSDT",
                trade_id=f"secrets-{log_format}",
                decision_id=decision["decision_id"],
                metadata={PAYLOAD: PAYLOAD},
            )
            await executor.send("trade-closed", [keyed(trade, headers=hidden)])
            # another test may have left a record to be refused
            await worker.until_metric(
                lambda m: (
                    m.value("meta_strategy_rewards_total") == 1
                    and m.value("meta_strategy_dead_letters_total") >= len(sent)
                )
            )

            said = await said_by(worker)

        assert SECRET not in said
        assert PAYLOAD not in said
        # the log did speak of them
        assert f"secrets-{log_format}" in said
        assert "dead letter" in said
        letters = (await operator.read("strategy-dead-letters"))[before:]
    assert len(letters) >= len(sent)
    for letter in letters:
        assert PAYLOAD not in json.dumps(headers_of(letter, "dlq."))
    for command in (["dead-letters", "list"], ["qtable", "show"], ["doctor"]):
        done = await secured.run(*command, user="operator")
        assert done.code == 0, done
        assert PAYLOAD not in done.out + done.err, command


async def test_secrets_in_the_environment_are_no_less_kept(secured: Secured) -> None:
    password, url = secured.password("selector"), secured.redis_url("worker")
    assert SECRET in password
    assert SECRET in url
    given = {
        "KAFKA_SASL_PASSWORD_FILE": "",
        "KAFKA_SASL_PASSWORD": password,
        "REDIS_URL_FILE": "",
        "REDIS_URL": url,
        "LOG_LEVEL": "DEBUG",
    }

    async with serving(secured.worker(**given)) as worker:
        assert SECRET not in await said_by(worker)
        assert (await worker.terminate())[0] == 0
    assert SECRET not in worker.text()


async def test_commands_that_fail_keep_them_too(secured: Secured, tmp_path: Path) -> None:
    """`Secured.run` looks for the secrets in all that a command says."""
    async with (
        secured.clients("executor", writes=True) as executor,
        serving(secured.worker()) as worker,
    ):
        # a letter that the worker's user may not read
        await executor.send("signals", [Out(value=SECRET.encode(), key=b"BTCUSDT")])
        await worker.until_metric(lambda m: m.value("meta_strategy_dead_letters_total") > 0)
    file = tmp_path / "export.json"
    file.write_text(f'{{"{SECRET}": 1}}')
    for command in (
        ["topics", "create", "--partitions", "9"],
        ["topics", "migrate", "--partitions", "9", "--yes"],
        ["qtable", "export", str(file / "below a file")],
        ["qtable", "import", str(file), "--yes"],
        ["dead-letters", "list"],
        ["dead-letters", "replay", "--yes"],
    ):
        done = await secured.run(*command)  # as the worker's user, who may do none of it

        assert done.code == 1, (command, done)
        assert "Traceback" not in done.err, command

    inside = f"rediss://worker:{SECRET}@"
    for wrong in (f"{inside}host:port", f"http://{SECRET}", f"{inside}host/{SECRET}", SECRET):
        done = await secured.run("worker", REDIS_URL_FILE="", REDIS_URL=wrong)
        assert done.code == 2, (wrong, done)
    done = await secured.run("worker", KAFKA_SASL_PASSWORD=SECRET)
    assert done.code == 2, done  # both the file and the variable


async def test_what_is_kept_holds_no_secret(secured: Secured, tmp_path: Path) -> None:
    state, export = tmp_path / "state.json", tmp_path / "export.json"
    async with serving(secured.worker(META_STRATEGY_STATE_FILE=str(state))) as worker:
        assert (await worker.terminate())[0] == 0
    done = await secured.run("qtable", "export", str(export), user="operator")

    assert done.code == 0, done
    for file in (state, export, secured.directory / "kafka.log", secured.directory / "redis.log"):
        assert SECRET not in file.read_text(errors="replace"), file


def test_settings_and_connection_hide_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "selector")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    monkeypatch.setenv("REDIS_URL", f"rediss://worker:{SECRET}@host/0")

    loaded = product_settings.load()

    assert loaded.connection.sasl_password == SECRET
    for text in (
        repr(loaded),
        str(loaded),
        f"{loaded.model_dump()}",
        loaded.model_dump_json(),
        repr(loaded.connection),
        str(loaded.connection),
    ):
        assert SECRET not in text


def test_every_setting_that_may_hold_a_secret_is_one() -> None:
    """A new password or URL is hidden, and may come from a file."""
    suspicious = {
        name.upper()
        for name in Settings.model_fields
        if any(word in name for word in ("password", "secret", "token", "url"))
    }

    assert suspicious == set(SECRET_ENVIRONMENT)
