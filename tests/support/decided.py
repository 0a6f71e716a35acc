"""What every policy decides and learns from the same traffic, as digests; of the sources, or of what is compiled.

python -m tests.support.decided     # of the sources, though compiled modules lie beside them
"""

import hashlib
import json
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from typing import get_args

_PAIRS, _BATCH = 900, 50


class SourcesOnly:
    """Finds the modules of the product by their sources alone."""

    @staticmethod
    def find_spec(name: str, path: list[str] | None, _: object = None) -> ModuleSpec | None:
        if path is None or name.partition(".")[0] != "consumer":
            return None
        found = (FileFinder(at, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name) for at in path)
        return next((spec for spec in found if spec is not None), None)


def digests() -> dict[str, str]:
    """Give the digest of all decisions and of the table after them, by policy."""
    from bench.traffic import make_backlog
    from consumer.domain.partition_state import PartitionState
    from consumer.domain.policies.catalog import PolicyName
    from consumer.pipeline import Pipeline
    from consumer.process import is_compiled
    from consumer.settings import load
    from consumer.store import codec
    from tests.support.builders import START_MS, FakeRecord

    backlog = make_backlog(_PAIRS, ts="2026-03-01T12:00:00.000Z", symbols=20)
    signals = [FakeRecord(s.value, key=s.key, offset=n) for n, s in enumerate(backlog.signals)]
    trades = [FakeRecord(value, key=key, offset=n) for n, (key, value) in enumerate(backlog.trades)]
    found = {"compiled": str(is_compiled())}
    for policy in get_args(PolicyName):
        settings = load(meta_strategy_policy=policy, meta_strategy_candidates="all")
        state, pipeline = PartitionState(settings.fold), Pipeline(settings.decider)
        digest = hashlib.sha256()
        for first in range(0, _PAIRS, _BATCH):
            step = pipeline.step(
                state,
                trades[max(0, first - _BATCH) : first],
                signals[first : first + _BATCH],
                now_ms=START_MS,
                degraded=False,
            )
            for record in step.decisions:
                digest.update(record.value or b"")
        for context, row in state.table.rows.items():
            digest.update(repr(codec.encode_row(context, row)).encode())
        for parent, row in state.table.parents.items():
            for strategy, stats in row.items():
                digest.update(codec.encode_parent(parent, strategy, stats).encode())
        found[policy] = digest.hexdigest()
    return found


if __name__ == "__main__":
    sys.meta_path.insert(0, SourcesOnly)  # type: ignore[arg-type]
    print(json.dumps(digests()))
