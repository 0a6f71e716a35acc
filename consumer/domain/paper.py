"""What every strategy would have earned on the path of a closed trade, taken or not.

All strategies of a signal share its entry and differ only in their exits, and one position does not
move the market: one price path scores them all.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from consumer.domain.ladder import Bar, Ladder, walk
from schemas import CloseReason, Side


class PaperOutcome(NamedTuple):
    """What a ladder would have earned up to the exit."""

    r: float
    """Profit before fees [R: one ATR]; what was still open is marked at the exit price."""
    is_open: bool
    """Whether a part was still open: the mark is neither its end nor nothing."""


def paper_outcomes(
    ladders: Mapping[str, Ladder],
    side: Side,
    entry: float,
    atr: float,
    path: Sequence[tuple[int, float, float, float]],
    exit_price: float,
) -> dict[str, PaperOutcome]:
    """Walk every ladder along the path of a closed trade, as far as it is known.

    What is open at the exit is marked there: dropping it would keep only the ladders that happened
    to end in time, which is badly biased (stops come before targets).

    Args:
        ladders: By strategy id.
        side: Direction of the position.
        entry: Price it was opened at [quote].
        atr: Average true range at entry [quote].
        path: Candles from entry to exit: time, high, low, close. None of it beyond the exit.
        exit_price: Where the trade was closed at last [quote].
    """
    bars = [*_bars(entry, path)]
    mark = Bar(exit_price, exit_price, exit_price, exit_price)
    found = {}
    for name, ladder in ladders.items():
        outcome = walk(ladder, side, entry, atr, [*bars, mark])
        found[name] = PaperOutcome(outcome.gross_r, outcome.close_reason is CloseReason.TIMEOUT)
    return found


def _bars(entry: float, path: Sequence[tuple[int, float, float, float]]) -> Iterable[Bar]:
    """Give the candles their opens: a path does not tell them, so each begins where one ended."""
    closes = [entry, *(close for _, _, _, close in path)]
    for (opened, close), (_, high, low, _) in zip(pairwise(closes), path, strict=True):
        # a gap between two candles lies outside of the second one's range: it opened at its edge
        yield Bar(min(max(opened, low), high), high, low, close)
