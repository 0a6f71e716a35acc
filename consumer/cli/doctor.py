"""`meta-strategy doctor`."""

import asyncio
import sys

import click

from consumer import settings
from consumer.doctor import Finding, examine


@click.command()
def doctor() -> None:
    """Check settings, Kafka, topics and Redis; exit code 1 when something is wrong."""
    loaded = settings.load()
    unknown = settings.unknown_variables(settings.given_variables())
    for warning in (*unknown, *loaded.unread()):
        _show(Finding("settings", "warning", warning))
    _show(Finding("settings", "ok", f"policy {loaded.meta_strategy_policy}"))
    findings = asyncio.run(_examine(loaded))
    sys.exit(1 if any(finding.grade == "error" for finding in findings) else 0)


async def _examine(loaded: settings.Settings) -> list[Finding]:
    findings = []
    async for finding in examine(loaded):
        _show(finding)
        findings.append(finding)
    return findings


def _show(finding: Finding) -> None:
    color = {"ok": "green", "warning": "yellow", "error": "red"}[finding.grade]
    click.echo(f"{click.style(finding.grade.ljust(7), fg=color)} {finding.subject}: {finding.text}")
