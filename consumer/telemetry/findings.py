"""What a look at the learned tables shows that somebody should know."""

from collections.abc import Container, Mapping
from typing import NamedTuple

from consumer.domain.context import ParentKey
from consumer.domain.drift import LARGEST_Z, Drift, drift_of
from consumer.domain.paper import LARGEST_GAP_R
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.evidence import earned, on_paper
from consumer.domain.qtable import Row
from consumer.telemetry.logs import Logger
from consumer.telemetry.metrics import Metrics

_STAYS_Z = 3.0
_KINDS = (("earned", earned), ("on paper", on_paper))


class _Where(NamedTuple):
    partition: int
    parent: ParentKey


class Findings:
    """Judges the states of a worker's partitions, and tells what has changed since its last look.

    Args:
        metrics: Where it shows.
        logger: Gets a line at each turn.
    """

    def __init__(self, metrics: Metrics, logger: Logger) -> None:
        self._metrics = metrics
        self._logger = logger
        self._doubted: set[tuple[int, str]] = set()
        """Partitions and accounts whose paths are not believed."""
        self._judged: dict[_Where, tuple[Row, dict[tuple[str, str], Drift]]] = {}
        """Rows over all symbols as they were looked at, and their arms that drift, by strategy and kind."""

    def look(self, states: Mapping[int, PartitionState]) -> None:
        """Look at all partitions of the worker, by number."""
        self._judge_paths(states)
        self._judge_drift(states)

    def _judge_paths(self, states: Mapping[int, PartitionState]) -> None:
        found = {
            (number, account): calibration
            for number, state in states.items()
            for account, calibration in state.calibrations.items()
        }
        doubted = {where for where, calibration in found.items() if not calibration.is_trusted}
        self._metrics.path_gap_r.set(max((c.mean_gap_r for c in found.values()), default=0.0))
        self._metrics.paths_trusted.set(not doubted)
        for number, account in sorted(doubted ^ (self._doubted & found.keys())):
            calibration = found[number, account]
            now = "believed again" if calibration.is_trusted else "not believed any more"
            self._logger.warning(
                f"paths of account {account} are {now}: they are {calibration.mean_gap_r:.3g} R "
                f"off what was earned, less than {LARGEST_GAP_R:g} are accepted",
                partition=number,
            )
        self._doubted = doubted

    def _judge_drift(self, states: Mapping[int, PartitionState]) -> None:
        before, self._judged = self._judged, {}
        for number, state in states.items():
            for parent, row in state.table.parents.items():
                where = _Where(number, parent)
                known = before.get(where)
                # a row never changes once made: most are the same as a moment ago
                if known is None or known[0] is not row:
                    earlier = {} if known is None else known[1]
                    drifting = _drifting(row, state.settings.decay, earlier)
                    self._tell(where, drifting, earlier)
                    known = (row, drifting)
                self._judged[where] = known
        self._metrics.drifting_arms.set(sum(len(arms) for _, arms in self._judged.values()))

    def _tell(
        self,
        where: _Where,
        now: Mapping[tuple[str, str], Drift],
        before: Mapping[tuple[str, str], Drift],
    ) -> None:
        account, regime, variant = where.parent
        for strategy, kind in now.keys() - before.keys():
            found = now[strategy, kind]
            self._logger.warning(
                f"drift: {strategy} of account {account} in {regime or 'all regimes'} lately "
                f"{found.recent:+.3g} R {kind}, {found.mean:+.3g} R over all, "
                f"{abs(found.z):.1f} deviations apart",
                partition=where.partition,
                **({} if variant is None else {"variant": variant}),
            )


def _drifting(
    row: Row, decay: float, before: Container[tuple[str, str]]
) -> dict[tuple[str, str], Drift]:
    found = {}
    for strategy, stats in row.items():
        for kind, rewards in _KINDS:
            drift = drift_of(stats, decay, rewards)
            # one that drifts has to come well back: at the edge every reward would turn it
            edge = _STAYS_Z if (strategy, kind) in before else LARGEST_Z
            if drift is not None and abs(drift.z) > edge:
                found[strategy, kind] = drift
    return found
