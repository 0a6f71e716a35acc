"""Bars of a study: loaded, merged to a longer timeframe, and described so that they are found again."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from consumer.local.market_bars import (
    BarSeries,
    MarketBar,
    WrongUseError,
    load_bars,
    shipped_bars,
)

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SYMBOL = re.compile(r"[A-Za-z0-9._:/-]{1,32}")  # contract, section 1
_TIMEFRAME = re.compile(r"([1-9]\d{0,3})([smhdw])")

# A longer pause than a weekend with a holiday on both sides: bars are missing [ms].
_PAUSE_MS = 5 * 86_400_000


class DataDescription(NamedTuple):
    """What tells one set of bars from another."""

    symbol: str
    timeframe: str
    bars: int
    first_ms: int
    """Open of the first bar [Unix ms]."""
    last_ms: int
    """Close of the last bar [Unix ms]."""
    gaps: int
    """Places where a bar does not follow at once: nights, weekends and missing bars."""
    missing: int
    """Bars that would fill the gaps."""
    long_gaps: int
    """Gaps of more than 5 days: more than a weekend."""
    sha256: str
    """Of times, prices and volumes; the same whatever the file's format."""


def load(
    paths: Sequence[Path], *, symbol: str | None = None, timeframe: str | None = None
) -> list[BarSeries]:
    """Load bars; those that come with the package when no file is named.

    Args:
        paths: CSV or Parquet, one symbol each.
        symbol: Takes the place of the file's name; for one file alone.
        timeframe: Bars are merged to this length, such as `4h`; None leaves them.

    Raises:
        BarsError: A file holds no usable bars.
        WrongUseError: An argument does not fit them.
    """
    found = [load_bars(path) for path in paths] if paths else shipped_bars()
    if symbol is not None:
        if len(found) != 1:
            raise WrongUseError(f"a symbol names the bars of one file, there are {len(found)}")
        if not _SYMBOL.fullmatch(symbol):
            raise WrongUseError(
                f"symbol must be 1 to 32 letters, digits and . _ : / -, was {symbol!r}"
            )
        found = [replace(found[0], symbol=symbol)]
    names = [series.symbol for series in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise WrongUseError(f"{repeated[0]}: is there twice; one file a symbol")
    return found if timeframe is None else [merge(one, length_ms(timeframe)) for one in found]


def length_ms(timeframe: str) -> int:
    """Read a length such as `15m` [ms].

    Raises:
        WrongUseError: It is none.
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if match is None:
        raise WrongUseError(
            f"timeframe must be a number and one of s, m, h, d, w, was {timeframe!r}"
        )
    return int(match[1]) * _UNITS_MS[match[2]]


def merge(series: BarSeries, step_ms: int) -> BarSeries:
    """Merge bars to longer ones, which begin at multiples of their length since 1970, UTC.

    Raises:
        WrongUseError: The length is no multiple of the bars'.
    """
    if step_ms % series.step_ms:
        wanted = replace(series, step_ms=step_ms).timeframe
        raise WrongUseError(
            f"{series.symbol}: bars of {series.timeframe} cannot be merged to {wanted}"
        )
    bars = []
    for number, group in groupby(series.bars, key=lambda bar: bar.open_ms // step_ms):
        part = list(group)
        volumes = [bar.volume for bar in part if bar.volume is not None]
        bars.append(
            MarketBar(
                number * step_ms,
                part[0].open,
                max(bar.high for bar in part),
                min(bar.low for bar in part),
                part[-1].close,
                sum(volumes) if len(volumes) == len(part) else None,
            )
        )
    return BarSeries(series.symbol, bars, step_ms)


def describe(series: BarSeries) -> DataDescription:
    """Say what tells these bars from others."""
    step = series.step_ms
    distances = [later.open_ms - earlier.open_ms for earlier, later in pairwise(series.bars)]
    gaps = [distance for distance in distances if distance > step]
    digest = hashlib.sha256()
    for bar in series.bars:
        digest.update(repr(tuple(bar)).encode())
    return DataDescription(
        series.symbol,
        series.timeframe,
        len(series.bars),
        series.bars[0].open_ms,
        series.bars[-1].open_ms + step,
        len(gaps),
        sum(distance // step - 1 for distance in gaps),
        sum(distance > _PAUSE_MS for distance in gaps),
        digest.hexdigest(),
    )
