"""`meta-strategy backtest` and `evaluate` as they are typed."""

import json

from tests.e2e.conftest import Deploy
from tests.support.executor import Executor, signals
from tests.support.kafka_io import eventually, keyed

COUNT = 300
PATIENCE_S = 90.0  # loading the libraries of a report takes seconds where others are at work


async def test_a_backtest_of_the_shipped_bars_writes_a_report(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)

    done = await deployment.run(
        "backtest", "--policy", "epsilon_greedy", "--out", "r.html", timeout_s=PATIENCE_S
    )

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].endswith("signals of EURUSD, GOOGL; 0 left out")
    assert lines[-1] == "report: r.html"
    assert any(line.startswith("always ultra_aggressive") for line in lines)
    page = (deployment.directory / "r.html").read_text(encoding="utf-8")
    assert "<h1>Backtest: EURUSD, GOOGL</h1>" in page


async def test_bars_and_signals_of_the_user(deploy: Deploy) -> None:
    """The figures as JSON; the same command again gives the same."""
    deployment = await deploy(topics=False)
    rows = ["time,open,high,low,close"]
    price = 100.0
    for number in range(200):
        opened, price = price, price + (0.4 if number % 3 else -0.5)
        low, high = sorted((opened, price))
        rows.append(f"{1_700_000_000 + 900 * number},{opened},{high + 0.1},{low - 0.1},{price}")
    bars = deployment.directory / "BTCUSDT_15m.csv"
    bars.write_text("\n".join(rows), encoding="utf-8")
    asked = deployment.directory / "signals.csv"
    asked.write_text(
        "time,symbol,side\n"
        + "".join(f"{1_700_000_000 + 900 * n},BTCUSDT,LONG\n" for n in range(0, 200, 5)),
        encoding="utf-8",
    )
    command = ["backtest", "--bars", str(bars), "--signals", str(asked), "--json"]

    done = await deployment.run(*command, "--fees-bps", "2", timeout_s=PATIENCE_S)
    again = await deployment.run(*command, "--fees-bps", "2", timeout_s=PATIENCE_S)

    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["signals"] + figures["left_out"] == 40
    assert figures["data"][0]["symbol"] == "BTCUSDT"
    assert figures["policies"][0]["open"] > 0
    assert figures == json.loads(again.out)


async def test_wrong_use_is_one_line(deploy: Deploy) -> None:
    deployment = await deploy(topics=False)

    policy = await deployment.run("backtest", "--policy", "clever")
    out = await deployment.run("backtest", "--out", "nowhere/report.html")
    signals_ = await deployment.run("backtest", "--signals", "nonsense")
    fine = await deployment.run("backtest", "--timeframe", "1m")
    files = await deployment.run("evaluate", "--decisions", __file__)

    assert policy.code == 2
    assert policy.own_lines[-1].startswith("meta-strategy: META_STRATEGY_POLICY: must be ")
    assert out.code == signals_.code == fine.code == 2
    assert out.own_lines[-1] == (
        "Error: Invalid value for '--out': nowhere/report.html: cannot be written: "
        "No such file or directory"
    )
    assert signals_.own_lines[-1] == (
        "Error: nonsense: is no rule (breakout, stretch, coin), and there is no such file"
    )
    assert fine.own_lines[-1] == "Error: EURUSD: bars of 1h cannot be merged to 1m"
    assert files.code == 2


async def test_a_run_is_judged_by_its_topics(deploy: Deploy) -> None:
    """The policy that was at work is worth what it earned; another one may be told too little of."""
    deployment = await deploy(partitions=2, META_STRATEGY_EPSILON="0.5")
    await deployment.started()
    sent = list(signals(COUNT, seed=5, symbols=("BTCUSDT", "EURUSD")))
    async with Executor(
        deployment.kafka, deployment.topics.decisions, deployment.topics.trades
    ) as executor:
        await deployment.send_signals(*map(keyed, sent))
        await eventually(
            lambda: len(executor.answered) == COUNT, timeout_s=60, what="answers to all decisions"
        )
    await deployment.settled()

    same = await deployment.run("evaluate", "--json", timeout_s=PATIENCE_S)
    other = await deployment.run("evaluate", timeout_s=PATIENCE_S, META_STRATEGY_ENABLED="false")

    assert same.code == 0, same.err
    found = json.loads(same.out)["evaluation"]
    assert found["decisions"] == COUNT
    assert 0 < found["open"] < COUNT / 2
    assert found["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["ips"] == found["logged"]
    assert other.code == 0, other.err
    assert f"{COUNT} decisions: " in other.out
    assert "open trades: if all ended by their stop" in other.out
    assert other.out.splitlines()[-1].startswith(
        ("too little overlap to say", "no difference", "always ultra_aggressive would have earned")
    )
