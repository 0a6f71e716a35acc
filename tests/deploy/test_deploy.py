"""The deployment files agree with the contract: settings, metrics, hardening, alerts, dashboard."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from consumer.settings import Settings
from consumer.settings import load as load_settings
from consumer.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "meta-strategy.json"

yaml = pytest.importorskip(
    "ruamel.yaml", reason="ruamel.yaml, of check-jsonschema, is not installed"
)


def instruments() -> dict[str, set[str]]:
    """The worker's own metrics, named as expressions name them, with their labels."""
    found = {}
    for collector in Metrics().registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            suffix = {"counter": "_total", "histogram": "_bucket"}.get(collector._type, "")
            labels = {*collector._labelnames, *({"le"} if suffix == "_bucket" else ())}
            found[f"{collector._name}{suffix}"] = labels
    return found


METRICS = instruments()
SETTINGS = {name.upper() for name in Settings.model_fields} | {
    "KAFKA_SASL_PASSWORD_FILE",
    "REDIS_URL_FILE",
}
# Labels that Prometheus, or the place where it scrapes, adds.
SCRAPE_LABELS = {"job", "instance", "pod", "namespace", "container", "endpoint"}

SELECTOR = re.compile(r"\b(meta_strategy_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def load(path: Path) -> Any:
    return yaml.YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    return load(ROOT / "compose.yaml")


def pod() -> dict[str, Any]:
    return load(KUBERNETES / "base" / "deployment.yaml")["spec"]["template"]["spec"]


def rules() -> list[dict[str, Any]]:
    return load(DEPLOY / "prometheus" / "rules.yml")["groups"][0]["rules"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def expressions() -> list[tuple[str, str]]:
    return [*panel_expressions(), *((rule["alert"], rule["expr"]) for rule in rules())]


def tool(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_compose_file_follows_the_compose_specification() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")

    run(
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        ROOT / "compose.yaml",
    )


def test_compose_publishes_on_loopback_only() -> None:
    """None of these services asks for a password on its port, but Grafana."""
    ports = [
        port for service in compose()["services"].values() for port in service.get("ports", [])
    ]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_images_name_a_version() -> None:
    images = [service["image"] for service in compose()["services"].values()]

    assert [
        image for image in images if not re.fullmatch(r"[\w./-]+:(local|v?\d[\w.-]*)", image)
    ] == []


@pytest.mark.parametrize("name", ["worker", "topics"])
def test_compose_contains_the_application(name: str) -> None:
    service = compose()["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_every_variable_of_a_worker_is_a_known_setting() -> None:
    """A misspelt variable would be ignored, and the default hold without a word."""
    services = compose()["services"]
    names = {name for service in ("worker", "topics") for name in services[service]["environment"]}
    for path in KUBERNETES.rglob("*.env"):
        lines = path.read_text(encoding="utf-8").splitlines()
        names |= {line.split("=", 1)[0] for line in lines if line and not line.startswith("#")}
    for path in KUBERNETES.rglob("kustomization.yaml"):
        for generator in load(path).get("configMapGenerator", []):
            names |= {literal.split("=", 1)[0] for literal in generator.get("literals", [])}
    for container in pod()["containers"]:
        names |= {variable["name"] for variable in container.get("env", [])}

    assert {"KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "REDIS_URL_FILE"} <= names
    assert names - SETTINGS == set()


def make_authority(path: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=authority"
    subprocess.run(
        [*command.split(), "-keyout", str(path.with_suffix(".key")), "-out", str(path)],
        check=True,
        capture_output=True,
    )


def worker_environment(where: str, secrets: Path) -> dict[str, str]:
    """What a worker of compose or Kubernetes finds in its environment; its secrets lie in a folder of ours."""
    if where == "compose":
        return compose()["services"]["worker"]["environment"]
    example = load(KUBERNETES / "base" / "secret.example.yaml")["stringData"]
    for key, value in example.items():
        (secrets / key).write_text(value, encoding="utf-8")
        if key.endswith(".crt"):  # the example's is a place to put one's own
            make_authority(secrets / key)
    (mount,) = [m for m in pod()["containers"][0]["volumeMounts"] if m["name"] == "secrets"]
    text = (KUBERNETES / "base" / "settings.env").read_text(encoding="utf-8")
    lines = text.replace(mount["mountPath"], str(secrets)).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_a_worker_accepts_the_values(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no .env of whoever runs this
    for name, value in worker_environment(where, tmp_path).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert settings.http_host == "0.0.0.0"  # noqa: S104 -- a container is reached from outside it
    assert settings.log_format == "json"


def test_image_settings_are_known() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[-1]
    block = re.search(r"^ENV ((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert block

    names = {part.split("=", 1)[0] for part in block[1].replace("\\\n", " ").split()}

    assert "HTTP_HOST" in names
    assert {name for name in names if not name.startswith("PYTHON")} - {"PATH"} - SETTINGS == set()


def test_image_starts_as_a_number_and_without_a_shell() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()

    assert "STOPSIGNAL SIGTERM" in lines
    assert 'ENTRYPOINT ["meta-strategy"]' in lines
    assert 'CMD ["worker"]' in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


def test_nothing_switches_assertions_off() -> None:
    """The Kafka client checks its own state with assert."""
    files = [
        ROOT / "Dockerfile",
        ROOT / "compose.yaml",
        *KUBERNETES.rglob("*.yaml"),
        *KUBERNETES.rglob("*.env"),
    ]
    pattern = re.compile(r'PYTHONOPTIMIZE=(?!\s)\S|PYTHONOPTIMIZE:\s*\S|"-OO?"|python\S* -OO?\b')

    assert [path.name for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_lock_that_the_image_is_built_from_holds_the_build_backend() -> None:
    lock = (ROOT / "requirements-native.txt").read_text(encoding="utf-8")

    assert re.search(r"^hatchling==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert re.search(r"^uv==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert re.search(r"^mypy==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert re.search(r"^setuptools==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)


def test_pod_is_restricted() -> None:
    """What the `restricted` Pod Security Standard asks for, and no more time to stop than is needed."""
    spec = pod()
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] == 15
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_pod_gets_no_variables_from_services() -> None:
    """The Service `meta-strategy` would inject META_STRATEGY_PORT, and one called `kafka` KAFKA_PORT."""
    assert pod()["enableServiceLinks"] is False


def test_secret_files_are_keys_of_the_secret() -> None:
    spec = pod()
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "secrets"]
    settings = (KUBERNETES / "base" / "settings.env").read_text(encoding="utf-8")
    keys = load(KUBERNETES / "base" / "secret.example.yaml")["stringData"]

    named = re.findall(rf"={re.escape(mount['mountPath'])}/(\S+)", settings)

    assert sorted(named) == sorted(keys)


def test_kustomizations_build() -> None:
    kubectl = tool("kubectl", "kustomize")
    command = [kubectl, "kustomize" if kubectl.endswith("kubectl") else "build"]

    plain = list(yaml.YAML(typ="safe").load_all(run(*command, KUBERNETES / "base")))
    full = list(yaml.YAML(typ="safe").load_all(run(*command, KUBERNETES / "overlays" / "example")))

    deployment = {document["kind"]: document for document in plain}["Deployment"]
    assert deployment["spec"]["replicas"] == 2
    kinds = {document["kind"]: document for document in full}
    assert {"ScaledObject", "PodMonitor"} <= kinds.keys()
    # the autoscaler owns the count
    assert "replicas" not in kinds["Deployment"]["spec"]


@pytest.mark.parametrize(("place", "expression"), expressions(), ids=lambda value: str(value)[:40])
def test_expressions_use_metrics_and_labels_of_the_contract(place: str, expression: str) -> None:
    """A renamed metric makes an empty panel and an alert that never fires: both look like peace."""
    allowed = set(SCRAPE_LABELS)
    for metric, matchers in SELECTOR.findall(expression):
        labels = METRICS.get(metric)
        assert labels is not None, f"{place}: {metric} is no metric of the worker"
        assert set(MATCHER.findall(re.sub(r'"[^"]*"', "", matchers))) <= labels | SCRAPE_LABELS, (
            place
        )
        allowed |= labels
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= allowed, place


def test_every_metric_has_a_panel() -> None:
    shown = {
        metric
        for _, expression in panel_expressions()
        for metric, _ in SELECTOR.findall(expression)
    }

    assert len(METRICS) >= 22
    assert METRICS.keys() - shown == set()


def test_dashboard_is_what_its_code_builds() -> None:
    pytest.importorskip(
        "grafana_foundation_sdk",
        reason="grafana-foundation-sdk is not installed: see deploy/grafana/dashboard.py",
    )
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "dashboard.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert DASHBOARD.read_text(encoding="utf-8") == module.render()


def test_alerts_say_what_happened_and_where_to_read_on() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert re.fullmatch(r"docs/operations\.md#[a-z-]+", rule["annotations"]["runbook"]), rule[
            "alert"
        ]


def test_runbook_anchors_exist() -> None:
    page = ROOT / "docs" / "operations.md"
    if not page.exists():
        pytest.skip("docs/operations.md is not written yet")
    text = page.read_text(encoding="utf-8")
    anchors = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        anchors.add(re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-"))

    assert {rule["annotations"]["runbook"].split("#")[1] for rule in rules()} - anchors == set()


def test_every_alert_is_shown_to_fire() -> None:
    tests = load(DEPLOY / "prometheus" / "rules_test.yml")["tests"]
    fired = {
        case["alertname"]
        for one in tests
        for case in one["alert_rule_test"]
        if case.get("exp_alerts")
    }

    assert {rule["alert"] for rule in rules()} - fired == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    *command, name = arguments

    run(tool("promtool"), *command, DEPLOY / "prometheus" / name)


def test_provisioned_source_is_the_one_the_dashboard_can_choose() -> None:
    (source,) = load(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")[
        "datasources"
    ]
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (provider,) = load(DEPLOY / "grafana" / "provisioning" / "dashboards" / "meta-strategy.yaml")[
        "providers"
    ]
    mounts = compose()["services"]["grafana"]["volumes"]

    assert source["type"] == "prometheus"
    assert source["isDefault"] is True
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    sources = {panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"}
    assert sources == {"$datasource"}


@pytest.mark.parametrize("script", ["users.sh", "acls.sh"])
def test_without_kafkas_tools_a_script_says_so_and_leaves_nothing(
    script: str, tmp_path: Path
) -> None:
    """A password on disk that no broker knows looks as if it were set."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir", "mktemp", "rm", "openssl", "cat", "sed"):
        (tools / name).symlink_to(shutil.which(name) or "")
    secrets = tmp_path / "secrets"

    done = subprocess.run(
        [DEPLOY / "kafka" / script, "127.0.0.1:1", secrets],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert re.fullmatch(
        r"kafka-\w+\.sh is not on the PATH: add Kafka's bin directory\n", done.stderr
    )
    assert not secrets.exists()
