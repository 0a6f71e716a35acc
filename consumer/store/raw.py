"""A partition as it is stored: hashes of text, and what they mean."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import ClassVar

from pydantic import ConfigDict

from consumer.domain.stored import Position, StoredPartition, Totals
from consumer.errors import RefusedError
from consumer.store import codec


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector away: it would look through all that is made here, and stays, several times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # put with what is old, unseen. Frozen for good, it would keep every circle, too, that others
        # have left behind meanwhile
        gc.freeze()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class RawPartition:
    """The hashes of a partition as they are stored, in the order of `keys.HASHES`."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    watermark: dict[str, str]
    """The next offset to fold of each log; `rebuild` while it is written anew."""
    meta: dict[str, str]
    """What the fold depends on."""
    contexts: dict[str, str]
    """Each row once more in one field, by its name: an opening reads these."""
    decisions: dict[str, str]
    """Remembered decisions by id."""
    decision_ids: dict[str, str]
    """The ids by which a repeated signal is known, where no decision tells them."""
    trades: dict[str, str]
    """Counted trades by account and id."""
    totals: dict[str, str]
    """Counters over the life of the partition."""
    parents: dict[str, str]
    """The arms of the rows over all symbols."""
    markets: dict[str, str]
    """The regime of each market, and since when."""
    followed: dict[str, str]
    """Signals that are followed on paper, by decision id."""
    series: dict[str, str]
    """The last candle of each symbol and timeframe."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the state at a position: not absent, and not being written anew."""
        return "decisions" in self.watermark and "trades" in self.watermark

    def decode(self, where: str, way_out: str) -> StoredPartition:
        """Read the state out of them.

        Args:
            where: What they are, for an error.
            way_out: What is to be done when they cannot be read.

        Raises:
            RefusedError: They are not what this package writes.
        """
        try:
            with _uncollected():
                return self._decode()
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise RefusedError(f"{where} cannot be read ({error}): {way_out}") from error

    def _decode(self) -> StoredPartition:
        open_, closed = codec.split_decisions(
            codec.decode_decision(key, text) for key, text in self.decisions.items()
        )
        ids = []
        for key, text in self.decision_ids.items():
            account, number = codec.decode_decision_id(text)
            ids.append((account, key, number))
        return StoredPartition(
            position=Position(
                int(self.watermark["decisions"]),
                int(self.watermark["trades"]),
                int(self.watermark.get("candles", 0)),
            ),
            totals=decode_totals(self.totals),
            rows=dict(map(codec.decode_row, self.contexts.values())),
            open=open_,
            closed=closed,
            decision_ids=ids,
            trades=[codec.decode_trade(name, text) for name, text in self.trades.items()],
            parents=codec.decode_parents(self.parents.values()),
            markets=dict(codec.decode_market(key, text) for key, text in self.markets.items()),
            followed=[codec.decode_followed(key, text) for key, text in self.followed.items()],
            series=dict(codec.decode_series(key, text) for key, text in self.series.items()),
        )


def decode_totals(fields: Mapping[str, str]) -> Totals:
    """Read the hash of counters."""
    return Totals(**{name: int(fields.get(name, 0)) for name in asdict(Totals())})
