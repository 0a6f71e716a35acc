"""Which decisions are remembered: for their trades, and for repeats of their signals."""

from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter

from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import OpenDecision, decision_of
from consumer.domain.window import Row, Window
from consumer.errors import BadMessageError
from schemas import DeadLetterCode, Side, TradeClosed


def _decision_rows(_: Sequence[str], decisions: Sequence[OpenDecision]) -> list[Row]:
    return [decision.row() for decision in decisions]


def _id_rows(ids: Sequence[str], numbers: Sequence[int]) -> list[Row]:
    return list(zip(ids, numbers, strict=True))


def _number_of(row: Row) -> int:
    number: int = row[1]
    return number


class Remembered:
    """Open and closed decisions of a partition, and the ids of its last ones.

    A decision is forgotten when it is too old, or when there are too many. Its id is known for repeats
    apart from that: of each account the last ones, as many as `dedupe_window` says.

    Args:
        settings: Of the fold.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        # the order of these is part of the state: oldest first, and what leaves first. Open ones leave from
        # anywhere, when they are closed
        self.open: Window[OpenDecision] = Window(_decision_rows, decision_of)
        self.closed: Window[OpenDecision] = Window(_decision_rows, decision_of)
        self.ids: dict[str, Window[int]] = {}
        """By account: id and number of each decision that makes a signal a repeat."""
        self._open_by_symbol: dict[tuple[str, str, Side], dict[str, None]] | None = None
        """Oldest first; kept from the first trade on that names no decision: most name theirs."""
        self.changes: set[str] = set()
        """Ids of decisions that were opened, closed or forgotten open since they were last taken."""
        self.is_all_touched = False
        """Whether all open ones count as changed."""
        self.forgotten = 0
        """How many of them were forgotten open."""
        self.is_scattered = False
        """Whether a closed decision left before older ones did, since the changes were last taken."""

    def knows(self, account: str, decision_id: str) -> bool:
        """Tell whether this id is among the last decisions of the account: its signal a repeat."""
        ids = self.ids.get(account)
        return ids is not None and decision_id in ids

    def find(self, decision_id: str) -> OpenDecision | None:
        """Give a decision that is remembered, open or closed."""
        return self.open.get(decision_id) or self.closed.get(decision_id)

    def admit(self, decision: OpenDecision) -> bool:
        """Remember a decision, with its number, whose id is not known.

        Returns:
            Whether it is; not where an earlier record of the same id is remembered still: that one stays.
        """
        oldest_ms = decision.timestamp_ms - self._settings.decision_ttl_ms
        ids = self._ids_of(decision.account)
        ids.add(decision.decision_id, decision.number)
        while len(ids) > self._settings.dedupe_window:
            ids.pop_oldest()
        known = self.find(decision.decision_id)
        if known is not None:  # out of the dedupe window, still remembered
            if known.timestamp_ms >= oldest_ms:
                return False
            self._forget(known)
        self._open(decision)
        while len(self.open) > self._settings.open_decisions_max:
            self._forget(self.open.oldest)
        while self.open and (first := self.open.oldest).timestamp_ms < oldest_ms:
            self._forget(first)
        while self.closed and (first := self.closed.oldest).timestamp_ms < oldest_ms:
            self._forget(first)
        return True

    def close(self, decision: OpenDecision, number: int) -> None:
        """Take note of the first trade of an open decision, and of its number."""
        self.open.remove(decision.decision_id)
        self._unlist(decision)
        self.closed.add(decision.decision_id, decision.closed(number))
        self.changes.add(decision.decision_id)
        while len(self.closed) > self._settings.open_decisions_max:
            self._forget(self.closed.oldest)

    def decision_of(
        self, trade: TradeClosed, account: str, timestamp_ms: int
    ) -> OpenDecision | None:
        """Find the decision of a trade: the one it names, else the newest open one of its symbol and side.

        Raises:
            BadMessageError: It names a decision of the other side.
        """
        named, symbol, side = trade.decision_id, trade.symbol, trade.side
        decision = self._newest_open(account, symbol, side) if named is None else self.find(named)
        if (
            decision is None
            or timestamp_ms - decision.timestamp_ms > self._settings.decision_ttl_ms
            # one of another symbol is known only where both share a partition: never rely on it
            or (decision.account, decision.symbol) != (account, symbol)
        ):
            return None
        if decision.side is not side:
            raise BadMessageError(
                DeadLetterCode.INVALID_MESSAGE,
                f"side: is {side}, its decision's is {decision.side}",
            )
        return decision

    def _newest_open(self, account: str, symbol: str, side: Side) -> OpenDecision | None:
        if self._open_by_symbol is None:
            self._open_by_symbol = {}
            for decision in self.open.values():
                self._list(decision)
        newest = next(reversed(self._open_by_symbol.get((account, symbol, side), {})), None)
        return None if newest is None else self.open.get(newest)

    def _open(self, decision: OpenDecision) -> None:
        self.open.add(decision.decision_id, decision)
        self._list(decision)
        self.changes.add(decision.decision_id)

    def _forget(self, decision: OpenDecision) -> None:
        if decision.decision_id in self.open:
            self.open.remove(decision.decision_id)
            self._unlist(decision)
            self.changes.add(decision.decision_id)
            self.forgotten += 1
        else:
            name = decision.decision_id
            self.is_scattered = self.is_scattered or self.closed.oldest.decision_id != name
            self.closed.remove(name)

    def _ids_of(self, account: str) -> Window[int]:
        ids = self.ids.get(account)
        if ids is None:
            ids = self.ids[account] = Window(_id_rows, _number_of)
        return ids

    def _list(self, decision: OpenDecision) -> None:
        if self._open_by_symbol is not None:
            key = (decision.account, decision.symbol, decision.side)
            self._open_by_symbol.setdefault(key, {})[decision.decision_id] = None

    def _unlist(self, decision: OpenDecision) -> None:
        if self._open_by_symbol is None:
            return
        key = (decision.account, decision.symbol, decision.side)
        listed = self._open_by_symbol[key]
        del listed[decision.decision_id]
        if not listed:
            del self._open_by_symbol[key]

    # The view

    @property
    def all_ids(self) -> list[tuple[str, str, int]]:
        """Account, id and number of each decision that makes a signal a repeat."""
        return [
            (account, key, number)
            for account, ids in self.ids.items()
            for key, number in ids.items()
        ]

    def take_changes(self) -> set[str]:
        """Give what was touched since the last call, and start anew."""
        taken, self.changes = self.changes, set()
        self.is_all_touched = False
        self.forgotten = 0
        self.is_scattered = False
        return taken

    def touch_all(self) -> None:
        """Count all open ones as changed."""
        self.is_all_touched = True

    def restore(
        self,
        open_: Iterable[OpenDecision],
        closed: Iterable[OpenDecision],
        ids: Sequence[tuple[str, str, int]],
    ) -> None:
        """Put stored decisions, in any order, into this empty object."""
        for decision in sorted(open_, key=attrgetter("number")):
            self._open(decision)
        for decision in sorted(closed, key=attrgetter("closed_number")):
            self.closed.add(decision.decision_id, decision)
        for account, key, number in sorted(ids, key=itemgetter(2)):
            self._ids_of(account).add(key, number)
        self.take_changes()

    def clear(self) -> None:
        """Forget everything."""
        self.open.clear()
        self.ids.clear()
        self._open_by_symbol = None
        self.closed.clear()
        self.take_changes()
