"""Documents that name things of the code."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from aiokafka.partitioner import murmur2

from chaos.page import code_span
from consumer.cli.main import cli
from consumer.settings import Settings, load
from consumer.store.meta import Meta
from consumer.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_the_reference_names_every_setting() -> None:
    missing = {name.upper() for name in Settings.model_fields} - set(
        re.findall(r"[A-Z][A-Z0-9_]+", REFERENCE)
    )

    assert not missing


def test_the_reference_names_every_metric() -> None:
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics().registry.collect()
        if family.name.startswith("meta_strategy_")
    }

    assert not {name for name in families if name not in REFERENCE}


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        (page.name, target)
        for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert not broken


def test_the_readme_looks_for_its_symbol_where_it_is() -> None:
    """Another partition holds nothing of it: the first look at the table would find none."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (partitions,) = re.findall(r"topics create --partitions (\d+)", page)
    ((number, symbol),) = re.findall(r"ms:\{(\d+)\}:q:default:(\w+):", page)

    assert int(number) == (murmur2(symbol.encode()) & 0x7FFFFFFF) % int(partitions)


# Commands


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for part in command.list_commands(context):
        found = command.get_command(context, part)
        assert found is not None
        yield from commands(found, f"{name} {part}".strip())


def test_the_reference_names_every_command_and_option() -> None:
    """Who looks an option up must find it; who finds one must be able to give it."""
    listed = {}
    for row in re.findall(
        r"^\| (`meta-strategy .*?) \| ", section(REFERENCE, "Commands"), re.MULTILINE
    ):
        first, *others = re.findall(r"`([^`]+)`", row)
        group = " ".join(first.split()[1:2])
        for form in (first.removeprefix("meta-strategy "), *(f"{group} {one}" for one in others)):
            name = re.match(r"[a-z -]*[a-z]", form.partition(" --")[0].partition(" [")[0])
            assert name
            listed[name[0]] = set(re.findall(r"--[a-z-]+", form))

    assert listed == {
        name: {option for p in command.params for option in p.opts if option.startswith("--")}
        for name, command in commands(cli, "")
    }


def test_a_message_that_quotes_a_command_is_one_code_span() -> None:
    """Within single backticks the quoted command would stand outside, and the rest inside."""
    page = (ROOT / "docs" / "chaos.md").read_text(encoding="utf-8")

    assert code_span("it ends") == "`it ends`"
    assert code_span("run `meta-strategy doctor`") == "`` run `meta-strategy doctor` ``"
    refused = re.findall(r"^- .*: exit code \d+, (.*)$", page, re.MULTILINE)
    assert refused
    assert all(re.fullmatch(r"`` .* ``|`[^`]*`", span) for span in refused)


# What the table depends on

IDENTITY: dict[str, dict[str, object]] = {
    "KAFKA_TRADE_CLOSED_TOPIC": {"kafka_trade_closed_topic": "other"},
    "KAFKA_DECISIONS_TOPIC": {"kafka_decisions_topic": "other"},
    "KAFKA_CANDLES_TOPIC": {"kafka_candles_topic": "candles"},
    "META_STRATEGY_CANDLES_TIMEFRAME": {
        "kafka_candles_topic": "candles",
        "meta_strategy_candles_timeframe": "1m",
    },
    "META_STRATEGY_HALF_LIFE": {"meta_strategy_half_life": 50.0},
    "META_STRATEGY_ALPHA": {"meta_strategy_alpha": 0.5},
    "META_STRATEGY_REWARD_UNIT": {"meta_strategy_reward_unit": "risk"},
    "META_STRATEGY_LEARN_EXCLUDE": {"meta_strategy_learn_exclude": "none"},
    "META_STRATEGY_DECISION_TTL_DAYS": {"meta_strategy_decision_ttl_days": 1.0},
    "META_STRATEGY_OPEN_DECISIONS_MAX": {"meta_strategy_open_decisions_max": 5},
    "META_STRATEGY_DEDUPE_WINDOW": {"meta_strategy_dedupe_window": 5},
    "META_STRATEGY_PROFILES_FILE": {},
    "REGIME_ATR_REFERENCE": {"regime_atr_reference": 0.02},
}
"""What changes the identity of a table, with another value of it."""


def fields_of(**settings: object) -> dict[str, str]:
    found = load(**settings)
    return Meta(found.fold, 8, found.topics).fields


def test_the_identity_of_a_table_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with another value refuses to start: who sets one must know before."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('[[profiles]]\nstrategy_id = "scalp"\nr_sl = 0.7\n')
    usual = fields_of()
    changed = set()
    for name, settings in IDENTITY.items():
        values = settings or {"meta_strategy_profiles_file": profiles}
        differs = {key for key, value in fields_of(**values).items() if value != usual[key]}
        assert differs, name
        changed |= differs

    # the others are this version's own, and the partition count
    assert usual.keys() - changed == {"layout", "partitions", "features"}
    rows = [row for row in REFERENCE.splitlines() if "part of the table's identity" in row]
    documented = {
        name for row in rows if row.startswith("|") for name in re.findall(r"`([A-Z_]{5,})`", row)
    }
    assert documented == IDENTITY.keys()
    told = section(OPERATIONS, "Changing what the table depends on")
    assert {name for name in IDENTITY if f"`{name}`" not in told} == set()


# What an operator sees


def texts(package: str = "consumer") -> Iterator[str]:
    """All texts of the code, with nothing where a value stands."""
    for path in ROOT.glob(f"{package}/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "\0" for part in node.values
                ]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_that_are_quoted_are_there() -> None:
    """Somebody looks for them in the middle of the night."""
    said = "\n".join(texts())
    quoted = re.findall(r'"([^"\n]+)"', section(OPERATIONS, "What can go wrong"))
    assert len(quoted) > 10

    for quote in quoted:
        # a value, and what follows the name of a variable, are not the text's own
        for part in re.split(r"\.\.\.|\bN\b|\d+|: [A-Z_]{6,}.*", quote):
            assert part.strip() in said, quote


def test_what_to_install_is_there_to_be_installed() -> None:
    """The package is in no registry: its extras are installed from a checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/**/*.md")]
    said = "\n".join([*texts(), *texts("lab"), *pages])

    hints = re.findall(r"pip install '([^']*)\[(\w+)\]'", said)

    assert {place for place, _ in hints} == {"."}
    assert {extra for _, extra in hints} == project["optional-dependencies"].keys()
    assert "' extra" not in said


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, by their whole name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "consumer":
            yield from (f"consumer.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_architecture_lists_every_module_above_those_that_know_it() -> None:
    told = section(ARCHITECTURE, "Modules")
    rows = re.findall(r"^\| (`.*?) \|", told, re.MULTILINE)
    place = {
        name: number
        for number, row in enumerate(rows)
        for name in re.findall(r"`(?:consumer/)?([a-z_]+)(?:/|\.py)`", row)
    }

    for path in [
        path for part in ("consumer", "lab", "schemas") for path in ROOT.glob(f"{part}/**/*.py")
    ]:
        package, *parts = path.relative_to(ROOT).with_suffix("").parts
        if parts == ["__init__"]:
            continue
        own = parts[0] if package == "consumer" else package
        for module in imported(path):
            first, _, rest = module.partition(".")
            known = rest.partition(".")[0] if first == "consumer" else first
            if first in {"consumer", "lab", "schemas"} and known not in {own, ""}:
                assert place[known] < place[own], (path, module)
    for path in ROOT.glob("consumer/telemetry/[a-z]*.py"):
        assert f"`{path.name}`" in told
