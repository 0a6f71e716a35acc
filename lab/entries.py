"""Signals of a study: by one of the demo's rules, or from a file of the user's."""

import csv
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from consumer.local.market_bars import BarSeries, BarsError, WrongUseError, time_ms
from consumer.local.paper_signals import Entry, EntryRule, entries_of
from lab.progress import Track
from schemas import Side


def by_rule(
    series: Iterable[BarSeries], rule: EntryRule, seed: int, *, track: Track
) -> list[Entry]:
    """Find all moments at which a rule gives a signal, in the order of market time.

    Args:
        series: One per symbol.
        rule: Which signals to take.
        seed: Of the coins: of sides, and of moments that two rules claim.
        track: Shows how many bars are done.
    """
    found: list[Entry] = []
    for one in series:
        coins = Random(f"{seed}:{one.symbol}")
        moments = track(entries_of(one, 0, coins), f"signals {one.symbol}", len(one.bars))
        found += [entry for entry in moments if entry.rule is rule]
    return _in_order(found)


def from_file(series: Iterable[BarSeries], path: Path, *, track: Track) -> tuple[list[Entry], int]:
    """Take signals from a CSV file with the columns `time`, `symbol`, `side`, maybe `confidence`.

    A signal counts at the close of the bar that it falls into: what is known then, it knows; it is
    entered at the open of the next bar.

    Returns:
        The signals in the order of market time, and how many had to be left out: before the
        indicators are there, or after the last bar but one.

    Raises:
        BarsError: The file holds something else; with row and column.
        WrongUseError: It cannot be read, or there is none.
    """
    asked = _read(path)
    found: list[Entry] = []
    known = 0
    for one in series:
        moments = track(entries_of(one, 0, Random(0)), f"signals {one.symbol}", len(one.bars))
        by_bar = {entry.index: entry for entry in moments}
        closes = [bar.open_ms + one.step_ms for bar in one.bars]
        for moment_ms, side, confidence in asked.pop(one.symbol.upper(), ()):
            known += 1
            if entry := by_bar.get(bisect_left(closes, moment_ms)):
                found.append(replace(entry, side=side, confidence=confidence))
    if asked:
        raise BarsError(f"{path}: column symbol: there are no bars of {', '.join(sorted(asked))}")
    return _in_order(found), known - len(found)


def _read(path: Path) -> dict[str, list[tuple[int, Side, float]]]:
    asked: dict[str, list[tuple[int, Side, float]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            header = {name.strip().lower() for name in rows.fieldnames or ()}
            for column in ("time", "symbol", "side"):
                if column not in header:
                    raise BarsError(f"{path}: column {column} is missing")
            for row in rows:
                cells = {str(k).strip().lower(): str(v or "").strip() for k, v in row.items()}
                place = f"{path}: row {rows.line_num}"
                asked.setdefault(cells["symbol"].upper(), []).append(_signal(place, cells))
    except FileNotFoundError:
        rules = ", ".join(EntryRule)
        raise WrongUseError(f"{path}: is no rule ({rules}), and there is no such file") from None
    except OSError as error:
        raise WrongUseError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BarsError(f"{path}: cannot be read: {error}") from error
    return asked


def _signal(place: str, cells: dict[str, str]) -> tuple[int, Side, float]:
    try:
        side = Side(cells["side"].upper())
    except ValueError:
        raise BarsError(
            f"{place}: column side: must be LONG or SHORT, was {cells['side']!r}"
        ) from None
    try:
        confidence = float(cells.get("confidence") or 1.0)
    except ValueError:
        confidence = -1.0
    if not 0.0 <= confidence <= 1.0:
        raise BarsError(
            f"{place}: column confidence: must lie within 0 .. 1, was {cells['confidence']!r}"
        )
    return time_ms(place, cells["time"]), side, confidence


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.close_ms, entry.series.symbol))
