"""A partition as it is stored: hashes of text, and what they mean."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import attrgetter, itemgetter
from typing import ClassVar, TypeVar

from pydantic import ConfigDict

from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.stored import Position, StoredPartition, Totals
from consumer.errors import RefusedError
from consumer.store import codec
from consumer.store.blocks import BlockHash

T = TypeVar("T")


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
    """Open decisions by id."""
    decisions_closed: dict[str, str]
    """Blocks of closed decisions that are remembered."""
    decision_ids: dict[str, str]
    """Blocks of the ids by which a repeated signal is known, by account."""
    trades: dict[str, str]
    """Blocks of counted trades, by account."""
    trades_revised: dict[str, str]
    """Those that were revised since, as they stand now, by account and id."""
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

    def blocks(self, name: BlockHash) -> Mapping[str, str]:
        """Give a hash of blocks."""
        match name:
            case "decisions-closed":
                return self.decisions_closed
            case "decision-ids":
                return self.decision_ids
            case "trades":
                return self.trades

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
        return StoredPartition(
            position=Position(
                int(self.watermark["decisions"]),
                int(self.watermark["trades"]),
                int(self.watermark.get("candles", 0)),
            ),
            totals=decode_totals(self.totals),
            rows=dict(map(codec.decode_row, self.contexts.values())),
            open=[codec.decode_decision(text) for text in self.decisions.values()],
            closed=self._closed(),
            decision_ids=self._ids(),
            trades=self._trades(),
            parents=codec.decode_parents(self.parents.values()),
            markets=dict(codec.decode_market(key, text) for key, text in self.markets.items()),
            followed=[codec.decode_followed(key, text) for key, text in self.followed.items()],
            series=dict(codec.decode_series(key, text) for key, text in self.series.items()),
        )

    # A block may be the last one's remainder: some of its entries are forgotten already

    def _closed(self) -> list[OpenDecision]:
        oldest = int(self.totals.get("closed_from", 0))
        found: dict[str, OpenDecision] = {}
        for _, text in _in_order(self.decisions_closed):
            for decision in codec.decode_decisions(text):
                if decision.closed_number >= oldest:
                    found[decision.decision_id] = decision
        return list(found.values())

    def _ids(self) -> list[tuple[str, str, int]]:
        found: dict[str, dict[str, int]] = {}
        for account, text in _in_order(self.decision_ids):
            found.setdefault(account, {}).update(codec.decode_ids(text))
        return [
            (account, decision_id, number)
            for account, ids in found.items()
            for decision_id, number in self._newest(ids.items(), itemgetter(1))
        ]

    def _trades(self) -> list[FoldedTrade]:
        found: dict[str, dict[str, FoldedTrade]] = {}
        for account, text in _in_order(self.trades):
            known = found.setdefault(account, {})
            for trade in codec.decode_trades(account, text):
                known[trade.trade_id] = trade
        for name, text in self.trades_revised.items():
            trade = codec.decode_trade(name, text)
            found[trade.account][trade.trade_id] = trade
        return [
            trade
            for known in found.values()
            for trade in self._newest(known.values(), attrgetter("sequence"))
        ]

    def _newest(self, found: Iterable[T], number: Callable[[T], int]) -> list[T]:
        window = int(self.meta["dedupe_window"])
        return sorted(found, key=number)[-window:]


def _in_order(blocks: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give account and text of each block, the oldest of an account first: of two entries the newer one counts."""
    for name in sorted(blocks, key=codec.block_of):
        yield codec.block_of(name)[0], blocks[name]


def decode_totals(fields: Mapping[str, str]) -> Totals:
    """Read the hash of counters."""
    return Totals(**{name: int(fields.get(name, 0)) for name in asdict(Totals())})
