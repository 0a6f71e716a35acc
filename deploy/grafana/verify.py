"""Runs every expression of every panel and alert rule against a real Prometheus server.

A dashboard that loads is not a dashboard that shows something. This fails when an expression is
refused, when a panel has no data, or when a metric that a rule is built on does not exist. It
needs only the standard library.

    # against a server that already scrapes the workers
    python deploy/grafana/verify.py --prometheus http://127.0.0.1:9090

    # against a worker: starts a private Prometheus (the binary must be installed) for a while
    python deploy/grafana/verify.py --scrape http://127.0.0.1:8000/metrics --seconds 60

Signals and closed trades should flow meanwhile (`meta-strategy demo` makes both). What only has
series once something went wrong may be empty; name more such metrics with --may-be-empty.
"""

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parent.parent
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
RULES = DEPLOY / "prometheus" / "rules.yml"

# Counters whose labels are only known when it happens: no series is good news.
MAY_BE_EMPTY = frozenset(
    {
        "meta_strategy_dead_letters_total",
        "meta_strategy_duplicates_total",
        "meta_strategy_skipped_total",
    }
)
METRIC = re.compile(r"\bmeta_strategy_\w+|\bup\b")
QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')


@dataclass(frozen=True, slots=True)
class Expression:
    """What is run: where it stands, its PromQL, and whether it may answer nothing."""

    place: str
    promql: str
    needs_data: bool


@dataclass(frozen=True, slots=True)
class Server:
    """A Prometheus server; `url` has no trailing slash."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of one call of the HTTP API.

        Raises:
            RuntimeError: The server refused the call; the message is the server's.
        """
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["error"]) from None

    def query(self, promql: str) -> list[Any]:
        return self.get("query", query=promql)["result"]


def metrics_of(promql: str) -> set[str]:
    return set(METRIC.findall(QUOTED.sub('""', promql)))


def expressions(substitutes: dict[str, str], may_be_empty: frozenset[str]) -> Iterator[Expression]:
    """Every target of every panel, with Grafana's variables filled in."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                promql = target["expr"]
                for name, value in substitutes.items():
                    promql = promql.replace(name, value)
                place = f"{path.stem}: {panel['title']} {target['refId']}"
                if "$" in promql:
                    raise SystemExit(f"{place}: unknown variable in {promql}")
                yield Expression(place, promql, not metrics_of(promql) & may_be_empty)


def check_panels(server: Server, wanted: list[Expression]) -> list[str]:
    problems = []
    for expression in wanted:
        try:
            result = server.query(expression.promql)
        except RuntimeError as error:
            problems.append(f"{expression.place}: {error}")
            continue
        real = [one for one in result if "value" in one and one["value"][1] != "NaN"]
        if not real and expression.needs_data:
            problems.append(f"{expression.place}: no data for {expression.promql}")
        print(f"  {len(real):3} series  {expression.place}")
    return problems


def check_rules(server: Server, rules: list[Any], may_be_empty: frozenset[str]) -> list[str]:
    """Run each rule; one that finds nothing is quiet, but what it watches has to exist."""
    problems = [] if rules else ["no rule is loaded"]
    for rule in rules:
        place = f"alert {rule['name']}"
        try:
            firing = len(server.query(rule["query"]))
        except RuntimeError as error:
            problems.append(f"{place}: {error}")
            continue
        problems += [
            f"{place}: {metric} has no series"
            for metric in sorted(metrics_of(rule["query"]) - may_be_empty)
            if not server.query(f"count({metric})")
        ]
        print(f"  {'QUIET' if not firing else 'ACTIVE':>10}  {place}")
    return problems


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def private_prometheus(targets: list[str]) -> Iterator[Server]:
    """A Prometheus of our own that scrapes the targets each second; gone afterwards."""
    binary = shutil.which("prometheus")
    if binary is None:
        raise SystemExit("no `prometheus` on the PATH; install it, or use --prometheus URL")
    with tempfile.TemporaryDirectory(prefix="verify-prometheus-") as folder:
        root = Path(folder)
        jobs = []
        for target in targets:
            url = urllib.parse.urlsplit(target)
            static = {
                "targets": [url.netloc],
                "labels": {"__metrics_path__": url.path or "/metrics"},
            }
            jobs.append(static)
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "meta-strategy", "static_configs": jobs}],
        }
        # JSON is YAML
        (root / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        port = free_port()
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={root / 'prometheus.yml'}",
                    f"--storage.tsdb.path={root / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            wait_until_ready(port, process, root / "log")
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(
    port: int, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 30
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(
        f"prometheus did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
    )


def verify(
    server: Server, rate_window: str, range_window: str, job: str, may_be_empty: frozenset[str]
) -> int:
    substitutes = {"$__rate_interval": rate_window, "$__range": range_window, "$job": job}
    rules = [
        rule
        for group in server.get("rules", type="alert")["groups"]
        if group["name"] == "meta-strategy"
        for rule in group["rules"]
    ]
    print(f"panels ({server.url})")
    wanted = list(expressions(substitutes, may_be_empty))
    problems = check_panels(server, wanted)
    print("rules")
    problems += check_rules(server, rules, may_be_empty)
    for problem in problems:
        print(f"FAILED {problem}")
    print(f"{len(wanted)} panel expressions, {len(rules)} rules, {len(problems)} problems")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run all panel and alert expressions against Prometheus."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--prometheus", metavar="URL", help="a running server")
    where.add_argument(
        "--scrape", metavar="URL", action="append", help="a worker's /metrics; may be repeated"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long to scrape first (default 60)"
    )
    parser.add_argument(
        "--rate-interval",
        default=None,
        help="for $__rate_interval (default 1m, or half of --seconds)",
    )
    parser.add_argument(
        "--range", default="1h", dest="range_window", help="for $__range (default 1h)"
    )
    parser.add_argument(
        "--job", default="meta-strategy", help="the deployment to look at (a pattern)"
    )
    parser.add_argument("--may-be-empty", metavar="METRIC", action="append", default=[])
    options = parser.parse_args()
    may_be_empty = MAY_BE_EMPTY | frozenset(options.may_be_empty)
    if options.prometheus:
        server = Server(options.prometheus.rstrip("/"))
        return verify(
            server, options.rate_interval or "1m", options.range_window, options.job, may_be_empty
        )
    with private_prometheus(options.scrape) as server:
        print(f"scraping for {options.seconds:.0f} s")
        time.sleep(options.seconds)
        window = options.rate_interval or f"{max(5, int(options.seconds / 2))}s"
        return verify(server, window, options.range_window, options.job, may_be_empty)


if __name__ == "__main__":
    sys.exit(main())
