"""Partition states in a JSON file: an export, and what a clean stop leaves behind."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumer.domain.stored import StoredPartition
from consumer.errors import RefusedError
from consumer.store.files import write_in_one_step
from consumer.store.meta import Meta
from consumer.store.raw import RawPartition

_VERSION = 2
"""Of the file; it grows with what a partition holds."""
_Number = Annotated[int, Field(ge=0)]
_WAY_OUT = "do without the file, the logs hold all that it tells"


class _Head(BaseModel):
    """What tells whether the rest can be read."""

    format: Literal["meta-strategy-snapshot"]
    version: int


class _File(_Head):
    """A snapshot file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: dict[_Number, RawPartition]


class Snapshot:
    """States by partition, each with its watermark, so that the logs can be folded on from it.

    Args:
        partitions: The states.
        name: What an error calls it.
    """

    def __init__(self, partitions: Mapping[int, RawPartition], name: str = "the snapshot") -> None:
        self.partitions = dict(partitions)
        self._name = name

    def get(self, partition: int) -> StoredPartition | None:
        """Give the state of a partition; None when it is not in the file.

        Raises:
            RefusedError: The file holds what this package does not write.
        """
        raw = self.partitions.get(partition)
        if raw is None or not raw.is_whole:
            return None
        return raw.decode(self._where(partition), _WAY_OUT)

    def check(self, meta: Meta) -> None:
        """Compare what its folds depend on with this worker's.

        Raises:
            RefusedError: They differ.
        """
        for number, raw in self.partitions.items():
            meta.check(raw.meta, self._where(number), _WAY_OUT)

    def _where(self, partition: int) -> str:
        return f"partition {partition} in {self._name}"

    def save(self, path: Path) -> None:
        """Write the file in one step: a crash leaves the old one, or none.

        Raises:
            OSError: It cannot be written.
        """
        content = {
            "format": "meta-strategy-snapshot",
            "version": _VERSION,
            "partitions": {
                str(number): {one.name: getattr(raw, one.name) for one in fields(raw)}
                for number, raw in sorted(self.partitions.items())
            },
        }
        write_in_one_step(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def load_snapshot(path: Path, name: str = "") -> Snapshot:
    """Read a snapshot file.

    Args:
        path: Where it is.
        name: What an error calls it; the path when empty.

    Raises:
        RefusedError: It cannot be read, or is none; one line that says why.
    """
    name = name or str(path)
    try:
        content = path.read_bytes()
        version = _Head.model_validate_json(content).version
        if version != _VERSION:
            raise RefusedError(
                f"{name}: is of version {version} of the format, this package reads {_VERSION}: {_WAY_OUT}"
            )
        parsed = _File.model_validate_json(content)
    except OSError as error:
        raise RefusedError(f"{name}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RefusedError(
            f"{name}: is no snapshot: {field or 'content'}: {first['msg']}"
        ) from None
    return Snapshot(parsed.partitions, name=name)
