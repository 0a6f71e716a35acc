"""What a ladder earns on a path, written a second time, apart from the product.

It goes price by price instead of bar by bar: each candle becomes the prices that it is sure to have
seen, in the order that is worst for the position.
"""

from collections.abc import Iterator, Sequence

PARTS = (0.4, 0.3, 0.3)
"""Of the position, closed at each target."""


def paper_r(
    levels: Sequence[float],
    *,
    is_long: bool,
    entry: float,
    atr: float,
    path: Sequence[Sequence[float]],
    exit_price: float,
) -> float:
    """Give the profit before fees [R: one ATR].

    Args:
        levels: Distances of stop and targets [ATR].
        is_long: Direction.
        entry: Price of the entry [quote].
        atr: Average true range [quote].
        path: Candles: time, high, low, close.
        exit_price: What is open at the end is worth this [quote].
    """
    sign = 1.0 if is_long else -1.0
    stop = -levels[0]
    targets = list(zip(levels[1:], PARTS, strict=True))
    earned, left = 0.0, 1.0

    def moved(price: float) -> float:
        return sign * (price - entry) / atr

    for opened, best, worst in _candles(sign, entry, path):
        first = moved(opened)
        if moved(worst) <= stop:  # whatever else it touched
            return earned + left * min(first, stop)
        while targets and moved(best) >= targets[0][0]:
            distance, part = targets.pop(0)
            earned += part * max(first, distance)
            left -= part
        if not targets:
            return earned
    return earned + left * moved(exit_price)


def _candles(
    sign: float, entry: float, path: Sequence[Sequence[float]]
) -> Iterator[tuple[float, float, float]]:
    """Give open, best and worst price of each candle; it opens where the last one ended."""
    before = entry
    for _, high, low, close in path:
        opened = sorted((low, before, high))[1]
        yield (opened, high, low) if sign > 0 else (opened, low, high)
        before = close
