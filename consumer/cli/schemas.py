"""`meta-strategy schemas`: the published message schemas."""

from pathlib import Path

import click

from schemas.export import export_schemas


@click.group()
def schemas() -> None:
    """Publish the schemas of the messages."""


@schemas.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def export(directory: Path) -> None:
    """Write JSON Schemas and the AsyncAPI document into DIR, and print each path."""
    try:
        paths = export_schemas(directory)
    except OSError as error:
        raise click.ClickException(f"cannot write to {directory}: {error.strerror}") from error
    for path in paths:
        click.echo(path)
