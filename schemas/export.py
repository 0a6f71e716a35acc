"""Writes the published schemas to files; a test compares those of the repository."""

import json
from pathlib import Path

from schemas.asyncapi import asyncapi_document
from schemas.json_schema import message_schemas


def render_schemas() -> dict[str, bytes]:
    """Give every published file as it stands on disk.

    Returns:
        The content by file name: UTF-8, indented by two, with a newline at the end; the same
        bytes in every call and process.
    """
    documents = {f"{name}.schema.json": schema for name, schema in message_schemas().items()}
    documents["asyncapi.json"] = asyncapi_document()
    return {
        name: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        for name, document in documents.items()
    }


def export_schemas(directory: Path) -> list[Path]:
    """Write every published file into a directory, which is made if it is missing.

    Args:
        directory: Where to; files of other names in it are left alone.

    Returns:
        The files written, in a stable order.

    Raises:
        OSError: The directory cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in render_schemas().items():
        path = directory / name
        path.write_bytes(content)
        paths.append(path)
    return paths
