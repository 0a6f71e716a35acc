"""Documents that name things of the code."""

import re
from pathlib import Path

from consumer.settings import Settings
from consumer.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


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
