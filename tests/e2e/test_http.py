"""Endpoints, metrics, log lines and the state file (contract, sections 5 to 8)."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import Deploy
from tests.support.builders import make_signal
from tests.support.executor import market_of, signals, trade_for
from tests.support.fold_oracle import assert_table, fold
from tests.support.kafka_io import Out, content, eventually, keyed
from tests.support.servers import Deployment, WorkerProcess

METRICS = {
    "meta_strategy_signals_total": {"regime"},
    "meta_strategy_decisions_total": {"strategy", "regime", "mode"},
    "meta_strategy_rewards_total": {"strategy", "regime", "outcome"},
    "meta_strategy_reward_r_bucket": {"strategy", "regime", "le"},
    "meta_strategy_reward_r_sum": {"strategy", "regime"},
    "meta_strategy_reward_gain_r_total": {"strategy", "regime"},
    "meta_strategy_reward_loss_r_total": {"strategy", "regime"},
    "meta_strategy_decision_seconds_bucket": {"le"},
    "meta_strategy_end_to_end_seconds_bucket": {"le"},
    "meta_strategy_dead_letters_total": {"topic", "reason"},
    "meta_strategy_duplicates_total": {"topic"},
    "meta_strategy_transactions_total": {"outcome"},
    "meta_strategy_redis_seconds_bucket": {"le"},
    "meta_strategy_consumer_lag": {"topic", "partition"},
    "meta_strategy_rewinds_total": set(),
    "meta_strategy_fenced_total": set(),
    "meta_strategy_degraded": set(),
    "meta_strategy_open_decisions": set(),
    "meta_strategy_attributions_total": {"attribution"},
    "meta_strategy_assigned_partitions": set(),
    "meta_strategy_epsilon": set(),
}


async def busy(deploy: Deploy, **settings: str) -> tuple[Deployment, WorkerProcess]:
    """A deployment in which everything happened once."""
    deployment = await deploy(partitions=2, META_STRATEGY_POLICY="epsilon_greedy", **settings)
    worker = await deployment.started()
    sent = list(signals(80, seed=71, symbols=("EURUSD", "BTCUSDT", "BINANCE:XRP/USDT")))
    await deployment.send_signals(*map(keyed, sent), keyed(sent[0]), Out(value=b"", key=b"X"))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        records = await tail.count(80)
    trades = [trade_for(content(r)) for r in records[:60]]
    await deployment.send_trades(*map(keyed, trades), keyed(trades[0]))
    await deployment.settled()
    return deployment, worker


async def test_endpoints_speak_of_the_whole_table(deploy: Deploy) -> None:
    deployment, first = await busy(deploy)
    second = await deployment.started()
    await second.until_readyz(lambda _, body: len(body.get("partitions", ())) == 1)
    records = [content(r) for r in await deployment.decisions()]
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades)
    arms = {
        (*context.split(":", 1)[1].rsplit(":", 1), strategy): arm
        for partition in folded.values()
        for context, row in partition.rows.items()
        if context.startswith("default:")
        for strategy, arm in row.items()
    }
    count = sum(len(r) for p in folded.values() for r in p.rows.values())
    closed = 60

    for worker in (first, second):
        status, summary = await worker.get("/api/summary")
        assert status == 200
        assert summary["total_entries"] == count
        assert summary["total_decisions"] == 80
        assert summary["total_updates"] == closed
        explored = sum(d["is_exploration"] for d in records)
        assert summary["exploration_rate"] == pytest.approx(explored / 80)
        assert summary["best_strategies"]
        for best in summary["best_strategies"]:
            if best.get("account", "default") == "default":
                arm = arms[best["symbol"], best["regime"], best["strategy"]]
                assert best["ema_reward"] == arm.ema_reward
                assert best["count"] == arm.count
                assert best["win_rate"] == pytest.approx(arm.win_count / arm.count)
                assert best["total_r"] == arm.total_r
        _, state = await worker.get("/api/state")
        assert (state["enabled"], state["epsilon"], state["alpha"]) == (True, 0.1, 0.2)
        assert state["total_selections"] == state["total_regime_detections"] == 80
        assert state["total_reward_updates"] == closed
        assert state["active_strategies"] == 20
        status, active = await worker.get("/api/active")
        assert status == 200
        still_open = {d["decision_id"] for d in records} - {
            json.loads(r.value)["decision_id"] for r in trades
        }
        text = json.dumps(active)
        assert all(decision_id in text for decision_id in still_open)
        for symbol in ("EURUSD", "BINANCE:XRP/USDT"):
            status, table = await worker.get(f"/api/qtable/{symbol}")
            assert status == 200
            text = json.dumps(table)
            for (name, regime, strategy), arm in arms.items():
                if name == symbol:
                    assert regime in text
                    assert strategy in text
                    assert json.dumps(arm.ema_reward) in text
        status, unknown = await worker.get("/api/qtable/NOTHING")
        assert status == 200
        assert "NOTHING" in json.dumps(unknown)
        assert "ema_reward" not in json.dumps(unknown)


async def test_epsilon_is_the_setting_and_a_metric_what_the_policy_explores_with(
    deploy: Deploy,
) -> None:
    """A policy that does not draw at a fixed rate does not read the setting."""
    deployment = await deploy(partitions=1, META_STRATEGY_POLICY="ucb", META_STRATEGY_EPSILON="0.3")
    worker = await deployment.started()

    _, state = await worker.get("/api/state")
    assert (state["policy"], state["epsilon"]) == ("ucb", 0.3)
    assert (await worker.metrics()).value("meta_strategy_epsilon") == 0.0
    (started,) = [line for line in worker.lines() if line["event"].startswith("[META-STRATEGY]")]
    assert started["event"] == "[META-STRATEGY] Enabled - epsilon=30%, alpha=20%"


async def test_the_page_and_the_probes(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1)
    worker = await deployment.started()

    assert (await worker.request("/healthz"))[0] == 200
    status, kind, text = await worker.request("/")
    assert (status, kind) == (200, "text/html")
    assert "<html" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert (await worker.request("/nothing"))[0] == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/healthz", "/readyz", "/metrics", "/api/summary", "/api/qtable/X"):
            assert (await worker.request(path, method))[0] in {404, 405}


async def test_all_metrics_are_there_and_none_names_a_symbol(deploy: Deploy) -> None:
    _, worker = await busy(deploy)

    metrics = await worker.until_metric(
        lambda m: (
            m.value("meta_strategy_rewards_total") >= 60
            and m.label_names("meta_strategy_consumer_lag")
            and m.value("meta_strategy_open_decisions") == 20
        )
    )

    names = {s.name for s in metrics.samples}
    assert METRICS.keys() - names == set()
    assert "meta_strategy_build_info" in names
    assert "meta_strategy_skipped" in metrics.families
    for name, labels in METRICS.items():
        assert metrics.label_names(name) == labels, name
    values = {v for s in metrics.samples for v in s.labels.values()}
    assert not {v for v in values if "EURUSD" in v or "BTCUSDT" in v or "XRP" in v}
    assert metrics.value("meta_strategy_signals_total") == 80
    assert metrics.value("meta_strategy_decisions_total") == 80
    assert metrics.value("meta_strategy_decision_seconds_count") == 80
    assert metrics.value("meta_strategy_end_to_end_seconds_count") == 80
    assert metrics.value("meta_strategy_reward_r_count") == 60
    gain = metrics.value("meta_strategy_reward_gain_r_total")
    loss = metrics.value("meta_strategy_reward_loss_r_total")
    assert gain > 0 < loss
    assert metrics.value("meta_strategy_reward_r_sum") == pytest.approx(gain - loss)
    assert metrics.value("meta_strategy_attributions_total", attribution="decision") == 60
    assert metrics.value("meta_strategy_assigned_partitions") == 2
    assert metrics.value("meta_strategy_epsilon") == pytest.approx(0.1)
    assert metrics.value("meta_strategy_build_info") == 1
    assert metrics.value("meta_strategy_duplicates_total") == 2
    assert metrics.value("meta_strategy_dead_letters_total", reason="invalid_json") == 1
    assert metrics.value("meta_strategy_transactions_total", outcome="committed") > 0
    assert metrics.value("meta_strategy_consumer_lag") == 0


async def test_a_worker_without_partitions_is_ready(deploy: Deploy) -> None:
    """More workers than partitions: the spare one must not hold up a rollout."""
    deployment = await deploy(partitions=1)
    await deployment.started()

    spare = await deployment.started()

    ready = [
        await worker.until_readyz(lambda status, _: status == 200) for worker in deployment.workers
    ]
    assert sorted(body["partitions"] for body in ready) == [[], [0]]
    for path in ("/api/summary", "/api/state", "/api/active", "/api/qtable/X"):
        assert (await spare.request(path))[0] == 200


async def test_a_stopping_worker_is_not_ready(deploy: Deploy) -> None:
    """Readiness turns before the partitions are given up, and again only when all are open."""
    deployment = await deploy(partitions=2)
    worker = deployment.worker()
    worker.start()
    body = await worker.until_readyz(lambda status, _: status == 503)
    assert all(isinstance(reason, str) and reason for reason in body["reasons"])
    await worker.wait_ready()
    assert (await worker.get("/readyz"))[1]["partitions"] == [0, 1]


async def test_log_lines_are_the_contract_s(deploy: Deploy) -> None:
    deployment = await deploy(partitions=1, LOG_RECORDS="all", META_STRATEGY_EPSILON="0")
    worker = await deployment.started()
    signal = make_signal(
        symbol="BTCUSDT",
        market=market_of("trend_up") | {"adx": 35.0, "trend_strength": 0.6, "atr_pct": 0.005},
    )
    await deployment.send_signals(keyed(signal))
    async with deployment.kafka.tail(deployment.topics.decisions) as tail:
        (record,) = await tail.count(1)
        decision = content(record)
        await deployment.send_trades(
            *(keyed(trade_for(decision, trade_id=f"t{n}", realized_r=3.5)) for n in range(12))
        )
        await deployment.settled()
        await deployment.send_signals(keyed(signal | {"signal_id": "second"}))
        await tail.count(2)
    await eventually(lambda: worker.text().count("[STRATEGY]") == 2, what="the second line")

    lines = worker.lines()
    by_start: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if match := re.match(r"\[[A-Z -]+\]", line["event"]):
            by_start.setdefault(match[0], []).append(line)
    started = by_start["[META-STRATEGY]"][0]["event"]
    assert started == "[META-STRATEGY] Enabled - epsilon=0%, alpha=20%"
    regime = by_start["[REGIME]"][0]
    assert regime["event"] == (
        "[REGIME] BTCUSDT: TREND_UP (conf=85%) - Trending UP: ADX=35.0, trend_strength=0.60, "
        "ATR=0.50%"
    )
    chosen = by_start["[STRATEGY]"][1]["event"]
    assert chosen == (
        "[STRATEGY] BTCUSDT: Ultra Aggressive (explore=False, conf=88%) - Exploitation: highest "
        "Q-value=3.500"
    )
    update = by_start["[RL UPDATE]"][-1]
    assert update["event"] == (
        "[RL UPDATE] BTCUSDT trend_up ultra_aggressive: R=+3.50, EMA=3.50, count=12, WR=100.0%"
    )
    assert regime["decision_id"] == decision["decision_id"]
    assert update["trade_id"] == "t11"
    assert all(line["level"] and line["timestamp"] for line in lines)


async def test_records_are_not_logged_below_info(deploy: Deploy) -> None:
    _, quiet = await busy(deploy, LOG_RECORDS="all", LOG_LEVEL="WARNING")

    assert "[REGIME]" not in quiet.text()
    assert "[RL UPDATE]" not in quiet.text()
    assert all(line["level"] in {"warning", "error", "critical"} for line in quiet.lines())


async def test_the_page_s_address_can_be_opened_where_the_host_is_an_ipv6_address(
    deploy: Deploy,
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    deployment = await deploy(partitions=1)
    worker = deployment.worker(HTTP_HOST="::1", HTTP_PORT="0")
    worker.start()

    page = re.compile(r'"page": ?"([^"]+)"')
    await eventually(lambda: page.search(worker.text()), what="the page's address")

    (url,) = page.findall(worker.text())
    assert url.startswith("http://[::1]:")
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200


async def test_the_state_file_fills_an_empty_redis(deploy: Deploy, tmp_path: Path) -> None:
    state = tmp_path / "kept" / "state.json"
    deployment, worker = await busy(deploy, META_STRATEGY_STATE_FILE=str(state))
    assert not state.exists()
    assert (await worker.terminate())[0] == 0
    table = await deployment.table()
    json.loads(state.read_text())
    before = {k: await deployment.redis.hgetall(k) for k in await deployment.all_keys()}
    await deployment.redis.delete(*before)

    again = await deployment.started()

    async def is_back() -> bool:
        return await deployment.table() == table

    await eventually(is_back, what="the table from the file")
    assert "state file" in again.text()
    trades = await deployment.kafka.read(deployment.topics.trades)
    folded = fold(await deployment.decisions(), trades)
    assert_table(await deployment.table(), folded, deployment.prefix)
    # it goes on from there
    opened = [line for line in again.lines() if "is open" in line["event"]]
    assert all(line["folded_trades"] == 0 for line in opened)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no snapshot: "),
        ("{}", "is no snapshot: "),
        ('{"format":"meta-strategy-snapshot","version":2}', "is no snapshot: partitions: "),
        (
            '{"format":"meta-strategy-snapshot","version":1,"partitions":{"0":{}}}',
            "is of version 1 of the format, this package reads 2: do without the file",
        ),
    ],
)
async def test_a_broken_state_file_is_refused_in_one_line(
    deploy: Deploy, tmp_path: Path, text: str, reason: str
) -> None:
    deployment = await deploy(partitions=1)
    state = tmp_path / "state.json"
    state.write_text(text)

    done = await deployment.run("worker", META_STRATEGY_STATE_FILE=str(state))

    assert done.code == 1
    (line,) = done.own_lines
    assert line.startswith(f"meta-strategy: META_STRATEGY_STATE_FILE={state}: {reason}")


async def test_what_is_broken_inside_a_state_file_is_not_put_down_to_redis(
    deploy: Deploy, tmp_path: Path
) -> None:
    """Who is told to rebuild what is in Redis looks in the wrong place."""
    state = tmp_path / "state.json"
    deployment, worker = await busy(deploy, META_STRATEGY_STATE_FILE=str(state))
    assert (await worker.terminate())[0] == 0
    kept = json.loads(state.read_text())
    for partition in kept["partitions"].values():
        partition["totals"]["decisions"] = "many"
    state.write_text(json.dumps(kept))
    await deployment.redis.delete(*await deployment.all_keys())

    imported = await deployment.run("qtable", "import", str(state), "--yes")
    started = await deployment.run("worker")

    for done, name in ((imported, state), (started, f"META_STRATEGY_STATE_FILE={state}")):
        assert done.code == 1, done
        (line,) = done.own_lines
        assert re.fullmatch(
            rf"meta-strategy: partition \d in {re.escape(str(name))} cannot be read "
            r"\(.*'many'\): do without the file, the logs hold all that it tells",
            line,
        )


async def test_a_state_file_that_was_folded_otherwise_is_not_mended_by_a_rebuild(
    deploy: Deploy, tmp_path: Path
) -> None:
    """The table is right by then: it is the file that keeps the worker from starting."""
    state = tmp_path / "state.json"
    deployment, worker = await busy(deploy, META_STRATEGY_STATE_FILE=str(state))
    assert (await worker.terminate())[0] == 0
    deployment.settings["META_STRATEGY_ALPHA"] = "0.5"
    assert (await deployment.run("qtable", "rebuild", "--yes")).code == 0

    done = await deployment.run("worker")

    assert done.code == 1, done
    (line,) = done.own_lines
    assert f"partition 0 in META_STRATEGY_STATE_FILE={state} was folded with alpha=0.2" in line
    assert line.endswith("set it back, or do without the file, the logs hold all that it tells")
    state.unlink()
    await deployment.started()


async def test_a_worker_that_refuses_leaves_the_state_file(deploy: Deploy, tmp_path: Path) -> None:
    """What was refused would be gone, with all partitions that are whole, before anybody looks at it."""
    state = tmp_path / "state.json"
    deployment, worker = await busy(deploy, META_STRATEGY_STATE_FILE=str(state))
    assert (await worker.terminate())[0] == 0
    kept = json.loads(state.read_text())
    kept["partitions"]["0"]["totals"]["decisions"] = "many"
    state.write_text(json.dumps(kept))
    await deployment.redis.delete(*await deployment.all_keys())

    done = await deployment.run("worker")

    assert done.code == 1, done
    assert json.loads(state.read_text()) == kept


async def test_a_crash_leaves_the_old_state_file(deploy: Deploy, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    deployment, worker = await busy(deploy, META_STRATEGY_STATE_FILE=str(state))
    await worker.terminate()
    old = state.read_bytes()

    again = await deployment.started()
    again.kill()

    assert state.read_bytes() == old
