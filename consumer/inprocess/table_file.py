"""A table in a file that people can read."""

import json
import threading
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.qtable import ArmStats
from consumer.domain.reward import RewardUnit
from consumer.domain.stored import Position, StoredPartition, Totals
from consumer.errors import RefusedError
from consumer.store.files import write_in_one_step
from schemas import MarketRegime
from schemas.fields import Account, StrategyName, Symbol

_TOLD = tuple(one.name for one in fields(ArmStats) if "feature_sums" not in one.name)
"""Statistics of an arm in the file; no policy in process looks at features."""

_Count = Annotated[int, Field(ge=0)]


_Regime = Annotated[MarketRegime, Field(strict=False)]


class _Stats(BaseModel):
    """What is known of one strategy."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    strategy: StrategyName
    count: Annotated[int, Field(ge=1)]
    ema_reward: float
    avg_reward: float
    win_count: _Count
    loss_count: _Count
    total_r: float
    sum_squares: float
    loss_squares: float
    recent_r: float
    paper_count: _Count
    paper_r: float
    paper_squares: float
    paper_loss_squares: float
    recent_paper_r: float

    @classmethod
    def fields_of(cls, strategy: str, stats: ArmStats) -> dict[str, Any]:
        """Give the fields of an arm."""
        told = {name: getattr(stats, name) for name in _TOLD}
        return {"strategy": str(strategy), "avg_reward": stats.avg_reward} | told

    @property
    def stats(self) -> ArmStats:
        """The arm."""
        return ArmStats(**{name: getattr(self, name) for name in _TOLD})


class _Entry(_Stats):
    """One strategy in one context."""

    account: Account
    symbol: Symbol
    regime: _Regime


class _Parent(_Stats):
    """One strategy over all symbols."""

    account: Account
    regime: _Regime | None


class _Totals(BaseModel):
    """Counters over the table's life."""

    model_config = ConfigDict(strict=True, extra="forbid")

    decisions: _Count
    explorations: _Count
    rewards: _Count


class _File(BaseModel):
    """The whole file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["meta-strategy-table"]
    version: Literal[2]
    reward_unit: RewardUnit
    totals: _Totals
    entries: list[_Entry]
    parents: list[_Parent]


class TableFile:
    """A table in a JSON file that people can read; belongs to one process and one selector.

    Args:
        path: Where it is; need not be there yet.
        reward_unit: Of all its rewards.
    """

    def __init__(self, path: Path, reward_unit: RewardUnit) -> None:
        self.path = path
        self._unit = reward_unit
        self._lock = threading.Lock()
        self._written = 0

    def load(self) -> StoredPartition | None:
        """Read the table; None when there is no file.

        Raises:
            RefusedError: It cannot be read, is broken, or holds another unit; one line, with its
                name. It is left as it is.
        """
        try:
            parsed = _File.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RefusedError(f"{self.path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "content"
            raise RefusedError(
                f"{self.path}: is no in-process table: {field}: {first['msg']}"
            ) from None
        if parsed.reward_unit != self._unit:
            raise RefusedError(
                f"{self.path}: its rewards are in the unit {parsed.reward_unit!r}, "
                f"reward_unit is {self._unit!r}; they never mix"
            )
        rows: dict[ContextKey, dict[str, ArmStats]] = {}
        for number, entry in enumerate(parsed.entries):
            row = rows.setdefault(ContextKey(entry.account, entry.symbol, entry.regime), {})
            if entry.strategy in row or entry.win_count + entry.loss_count > entry.count:
                problem = "is there twice" if entry.strategy in row else "counts do not add up"
                raise RefusedError(
                    f"{self.path}: is no in-process table: entries.{number}: {problem}"
                )
            row[entry.strategy] = entry.stats
        parents: dict[ParentKey, dict[str, ArmStats]] = {}
        for above in parsed.parents:
            parents.setdefault(ParentKey(above.account, above.regime), {})[above.strategy] = (
                above.stats
            )
        counts = parsed.totals
        totals = Totals(counts.decisions, counts.explorations, counts.rewards)
        return StoredPartition(
            position=Position(),
            totals=totals,
            rows=rows,
            open=(),
            closed=(),
            decision_ids=(),
            trades=(),
            parents=parents,
        )

    def write(self, number: int, stored: StoredPartition) -> None:
        """Write a state in one step, unless a newer one is there; from any thread.

        Args:
            number: Counts the states of the table: threads may come in another order.
            stored: The state.

        Raises:
            RefusedError: It cannot be written; the old file stays. A later write holds all.
        """
        with self._lock:
            if number <= self._written:
                return
            try:
                write_in_one_step(self.path, self._text(stored))
            except OSError as error:
                raise RefusedError(f"{self.path}: cannot be written: {error.strerror}") from None
            self._written = number

    def _text(self, stored: StoredPartition) -> str:
        entries = [
            _Entry(
                account=context.account,
                symbol=context.symbol,
                regime=context.regime,
                **_Stats.fields_of(strategy, stats),
            ).model_dump(mode="json")
            for context, row in stored.rows.items()  # in order: it settles ties in the summary
            for strategy, stats in row.items()
        ]
        parents = [
            _Parent(
                account=parent.account,
                regime=parent.regime,
                **_Stats.fields_of(strategy, stats),
            ).model_dump(mode="json")
            for parent, row in stored.parents.items()
            for strategy, stats in row.items()
        ]
        content = {
            "format": "meta-strategy-table",
            "version": 2,
            "reward_unit": self._unit,
            "totals": {name: getattr(stored.totals, name) for name in _Totals.model_fields},
            "entries": entries,
            "parents": parents,
        }
        return json.dumps(content, indent=1) + "\n"
