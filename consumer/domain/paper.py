"""What every strategy would have earned on the path of a closed trade, taken or not.

All strategies of a signal share its entry and differ only in their exits, and one position does not
move the market: one price path scores them all.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import fsum, inf
from typing import NamedTuple

from consumer.domain.ladder import Bar, Ladder
from consumer.domain.reward import LARGEST_R, RewardUnit, in_unit
from schemas import Side, TradeClosed

LARGEST_GAP_R = 0.15
"""Mean difference to what was earned from which on paths are not believed [R: one ATR]."""
_COMPARED = 100
"""Trades that are compared, the newest."""
_LEAST_COMPARED = 10
"""Before so many, a single odd trade would decide."""


class Calibration:
    """Tells whether paths are to be believed: by the chosen strategy, whose reward is known.

    A path on other prices than those that were traded, a ladder that the executor does not follow,
    a stop that it moves: each shows as a difference between the outcome on paper and the real one.
    """

    __slots__ = ("_gaps", "is_trusted", "mean_gap_r")

    def __init__(self) -> None:
        self._gaps: dict[int, float] = {}
        self.mean_gap_r = 0.0
        """Mean difference over the newest trades with a path [R: one ATR]."""
        self.is_trusted = True

    def put(self, number: int, gap_r: float) -> None:
        """Add a trade; of too many, the one of the lowest number leaves.

        Args:
            number: Of the trade.
            gap_r: Difference between its outcome on paper and its reward [R], at least 0.
        """
        self._gaps[number] = gap_r
        if len(self._gaps) > _COMPARED:
            del self._gaps[min(self._gaps)]
        self._judge()

    def correct(self, number: int, gap_r: float) -> None:
        """Change the difference of a trade; what is not compared any more is passed over."""
        if number in self._gaps:
            self._gaps[number] = gap_r
            self._judge()

    def drop(self, number: int) -> None:
        """Forget a trade."""
        if self._gaps.pop(number, None) is not None:
            self._judge()

    def _judge(self) -> None:
        count = len(self._gaps)
        # the exact sum: the same however the window came to be
        self.mean_gap_r = fsum(self._gaps.values()) / count if count else 0.0
        self.is_trusted = count < _LEAST_COMPARED or self.mean_gap_r < LARGEST_GAP_R


TRUSTED = Calibration()
"""Of an account without paths; never changed."""


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
    sign, start = side.sign, entry * side.sign
    opens: list[float] = []
    # furthest prices so far, turned so that more is better on both sides: they only rise, so that
    # the candle in which a level was first touched is found by bisection, for every ladder at once
    gains: list[float] = []
    falls: list[float] = []
    gain = fall = -inf
    for bar in (*_bars(entry, path), Bar(exit_price, exit_price, exit_price, exit_price)):
        best, worst = (bar.high, bar.low) if sign > 0 else (-bar.low, -bar.high)
        gain, fall = max(gain, best), max(fall, -worst)
        opens.append(bar.open * sign)
        gains.append(gain)
        falls.append(fall)
    return {
        name: _outcome(ladder, start, atr, opens, gains, falls, exit_price * sign)
        for name, ladder in ladders.items()
    }


def _outcome(
    ladder: Ladder,
    start: float,
    atr: float,
    opens: Sequence[float],
    gains: Sequence[float],
    falls: Sequence[float],
    end: float,
) -> PaperOutcome:
    """Give what `walk` gives, to the last bit."""
    stop = start - ladder.stop * atr
    stopped = bisect_left(falls, -stop)
    rungs = [rung for rung in zip(ladder.targets, ladder.fractions, strict=True) if rung[1] > 0.0]
    gross, left = 0.0, 1.0
    for number, (distance, fraction) in enumerate(rungs, 1):
        target = start + distance * atr
        reached = bisect_left(gains, target)
        if reached >= stopped or reached == len(gains):
            break
        part = left if number == len(rungs) else fraction
        gross += (max(opens[reached], target) - start) * part
        left -= part
    else:
        return PaperOutcome(gross / atr, is_open=False)
    is_open = stopped == len(falls)
    gross += ((end if is_open else min(opens[stopped], stop)) - start) * left
    return PaperOutcome(gross / atr, is_open)


def paper_rewards(
    ladders: Mapping[str, Ladder], trade: TradeClosed, atr: float, unit: RewardUnit
) -> dict[str, float]:
    """Give what each strategy would have earned on a trade's path, net of the trade's fees [unit].

    Args:
        ladders: By strategy id.
        trade: With a path.
        atr: Average true range that its levels were made of [quote].
        unit: Of the rewards.

    Returns:
        By strategy id; nothing when one of them is out of the range of rewards: prices of such a
        path are not those of the trade.
    """
    exit_price = trade.exits[-1].price if trade.exits else trade.exit_price
    found = paper_outcomes(
        ladders, trade.side, trade.entry_price, atr, trade.path or (), exit_price or 0.0
    )
    one_r = atr if trade.atr is None else trade.atr  # as for the reward: its own comes first
    rewards = {
        name: outcome.r * (atr / one_r) - (trade.fees or 0.0) / one_r
        for name, outcome in found.items()
    }
    if not all(abs(reward) <= LARGEST_R for reward in rewards.values()):
        return {}
    return {name: in_unit(r, unit, ladders[name].stop) for name, r in rewards.items()}


def _bars(entry: float, path: Sequence[tuple[int, float, float, float]]) -> Iterable[Bar]:
    """Give the candles their opens: a path does not tell them, so each begins where one ended."""
    closes = [entry, *[close for _, _, _, close in path]]
    for (opened, close), (_, high, low, _) in zip(pairwise(closes), path, strict=True):
        # a gap between two candles lies outside of the second one's range: it opened at its edge
        yield Bar(min(max(opened, low), high), high, low, close)
