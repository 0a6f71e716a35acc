"""A price path -> what a ladder of stop and targets would have earned on it.

The rules are those of a careful paper trade:

- A bar that touches stop and target counts as the stop: which came first is not known.
- What opens beyond a level fills at the open: nobody trades inside a gap.
- Otherwise a level fills at its own price; spread and fees are the caller's.
- The stop stays where it is; what is still open after the last bar is marked at its close.

R here is profit / ATR at entry, before fees (contract, section 1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, Protocol, Self

from consumer.domain.strategies import STRATEGY_PROFILES
from schemas import CloseReason, Side, StrategyProfile, Tpsl
from schemas.sums import total


class PriceBar(Protocol):
    """Prices of one period [quote]: low <= open, close <= high."""

    @property
    def open(self) -> float:
        """First price."""

    @property
    def high(self) -> float:
        """Highest price."""

    @property
    def low(self) -> float:
        """Lowest price."""

    @property
    def close(self) -> float:
        """Last price."""


class Bar(NamedTuple):
    """The smallest price bar there is [quote]."""

    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where a position closes: one stop for all of it, three targets for a part each.

    Args:
        stop: Distance of the stop [ATR], above 0.
        targets: Distances of the targets [ATR], above 0 and rising.
        fractions: Part of the position closed at each target [1]; they sum to 1.
    """

    stop: float
    targets: tuple[float, float, float]
    fractions: tuple[float, float, float]

    def __post_init__(self) -> None:
        first, second, third = self.targets
        if not (self.stop > 0.0 and isfinite(self.stop)):
            raise ValueError(f"stop must be above 0, was {self.stop}")
        if not (0.0 < first < second < third and isfinite(third)):
            raise ValueError(f"targets must be above 0 and rise, were {self.targets}")
        if min(self.fractions) < 0.0 or abs(total(self.fractions) - 1.0) > 1e-6:
            raise ValueError(f"fractions must be at least 0 and sum to 1, were {self.fractions}")

    @classmethod
    def of_profile(cls, profile: StrategyProfile) -> Self:
        """Take the ladder of a strategy."""
        return cls(
            profile.r_sl,
            (profile.r_tp1, profile.r_tp2, profile.r_tp3),
            (profile.partial_close_tp1, profile.partial_close_tp2, profile.partial_close_tp3),
        )

    @classmethod
    def of_tpsl(cls, tpsl: Tpsl) -> Self:
        """Take the ladder of a decision."""
        return cls(
            tpsl.atr_mult_sl,
            (tpsl.atr_mult_tp1, tpsl.atr_mult_tp2, tpsl.atr_mult_tp3),
            (tpsl.partial_close_tp1, tpsl.partial_close_tp2, tpsl.partial_close_tp3),
        )


def ladders_of(profiles: Mapping[str, StrategyProfile]) -> dict[str, Ladder]:
    """Take the ladders of strategies, by id."""
    return {str(name): Ladder.of_profile(profile) for name, profile in profiles.items()}


def built_in_ladders() -> dict[str, Ladder]:
    """Give the ladders of the seven strategies, by id."""
    return ladders_of(STRATEGY_PROFILES)


class Fill(NamedTuple):
    """One partial close."""

    price: float
    """[quote]"""
    fraction: float
    """Part of the position [1], above 0."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a position ended."""

    fills: tuple[Fill, ...]
    """Partial closes in the order they happened; their fractions sum to 1."""
    gross_r: float
    """Profit before fees [R: one ATR]."""
    close_reason: CloseReason
    """`take_profit`, `stop_loss` or `timeout`: what closed the last part."""
    mfe_r: float
    """Furthest move for the position while it was open [R], at least 0."""
    mae_r: float
    """Furthest move against the position while it was open [R], at least 0."""
    bars: int
    """Bars it was open, the one that closed it included; at least 1."""


def walk(ladder: Ladder, side: Side, entry: float, atr: float, path: Iterable[PriceBar]) -> Outcome:
    """Hold a position along a price path until its ladder has closed it.

    In the bar of the stop only its open and the fill count for the furthest moves, in the bar of
    the last target nothing beyond the fill: what came after is not the position's.

    Args:
        ladder: Stop and targets around the entry.
        side: Direction of the position.
        entry: Price it was opened at [quote].
        atr: Average true range at entry [quote], above 0.
        path: Bars from the entry on, in the order of their times, at least one; read no further
            than the position lives. Its length is the time limit.

    Returns:
        The same for a mirrored path and side: R, reason and bars.

    Raises:
        ValueError: The path is empty, or `entry` or `atr` is not above 0.
    """
    if not (entry > 0.0 and isfinite(entry)):
        raise ValueError(f"entry must be above 0, was {entry}")
    if not (atr > 0.0 and isfinite(atr)):
        raise ValueError(f"atr must be above 0, was {atr}")
    position = _Position(ladder, side.sign, entry, atr)
    for bar in path:
        if position.live_through(bar):
            return position.outcome()
    return position.outcome()


class _Position:
    """A position while it is walked. Prices are turned so that more is better on both sides."""

    __slots__ = (
        "_atr",
        "_bars",
        "_best",
        "_close",
        "_entry",
        "_fills",
        "_left",
        "_reason",
        "_rungs",
        "_sign",
        "_stop",
        "_worst",
    )

    def __init__(self, ladder: Ladder, sign: int, entry: float, atr: float) -> None:
        self._sign = sign
        self._atr = atr
        self._entry = entry * sign
        self._stop = self._entry - ladder.stop * atr
        self._rungs = [
            (self._entry + distance * atr, fraction)
            for distance, fraction in zip(ladder.targets, ladder.fractions, strict=True)
            if fraction > 0.0
        ]
        self._fills: list[Fill] = []
        self._left = 1.0
        self._best = self._worst = self._close = self._entry
        self._bars = 0
        self._reason: CloseReason | None = None

    def live_through(self, bar: PriceBar) -> bool:
        """Live through one bar and tell whether the position is closed after it."""
        sign = self._sign
        opened = bar.open * sign
        best, worst = (bar.high, bar.low) if sign > 0 else (-bar.low, -bar.high)
        self._close = bar.close * sign
        self._bars += 1
        if worst <= self._stop:
            price = min(opened, self._stop)
            self._reach(max(opened, price), price)
            self._fill(price, self._left)
            self._reason = CloseReason.STOP_LOSS
            return True
        while self._rungs and best >= self._rungs[0][0]:
            target, fraction = self._rungs.pop(0)
            price = max(opened, target)
            if not self._rungs:
                # what is left, not the fraction: rounding must not leave a speck open
                self._reach(price, worst)
                self._fill(price, self._left)
                self._reason = CloseReason.TAKE_PROFIT
                return True
            self._fill(price, fraction)
        self._reach(best, worst)
        return False

    def outcome(self) -> Outcome:
        """Mark what is still open at the last close, and sum up."""
        if not self._bars:
            raise ValueError("path must have at least one bar")
        if self._reason is None:
            self._fill(self._close, self._left)
        gross = total(
            [(fill.price * self._sign - self._entry) * fill.fraction for fill in self._fills]
        )
        return Outcome(
            tuple(self._fills),
            gross / self._atr,
            self._reason or CloseReason.TIMEOUT,
            (self._best - self._entry) / self._atr,
            (self._entry - self._worst) / self._atr,
            self._bars,
        )

    def _reach(self, best: float, worst: float) -> None:
        self._best = max(self._best, best)
        self._worst = min(self._worst, worst)

    def _fill(self, price: float, fraction: float) -> None:
        self._fills.append(Fill(price * self._sign, fraction))
        self._left -= fraction
