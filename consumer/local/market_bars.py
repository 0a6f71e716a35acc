"""Market bars for the demo: the ones that ship with the package, or a file of the user's."""

from __future__ import annotations

import csv
import gzip
import importlib.resources
import io
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice, pairwise
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, TextIO

from consumer.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_SHIPPED = ("eurusd_1h.csv.gz", "googl_1d.csv.gz")  # origin and licence: bars/NOTICE.md

_TIME_COLUMNS = ("time", "timestamp", "date")
_PRICE_COLUMNS = ("open", "high", "low", "close")
_SYMBOL = re.compile(r"[A-Za-z0-9._:/-]{1,32}")
_FRAME_SUFFIX = re.compile(r"[-_. ]\d{1,3}(s|m|min|h|d|w)$", re.IGNORECASE)
_LEAST_PRICE, _MOST_PRICE = 1e-12, 1e15  # contract, section 1
# Bars in one file; a signal of the demo needs tens of them, and a million takes 0.4 GB.
_MOST_BARS = 1_000_000
# Below it a number is a time in seconds, above in milliseconds: the year 5138 and March 1973.
_FIRST_MS = 10**11

# Small on purpose: a name that is not here is taken for a stock, which costs it one assumption on fees.
_CURRENCIES = re.compile(
    "(AUD|BRL|CAD|CHF|CN[HY]|CZK|DKK|EUR|GBP|HKD|HUF|ILS|INR|JPY|KRW|MXN|NOK|NZD|PLN|SEK|SGD|"
    "THB|TRY|TWD|USD|ZAR|XA[GU]|XP[DT]){2}"
)
_COINS = re.compile(
    "(ADA|AVAX|BCH|BNB|BTC|DOGE|DOT|ETH|LINK|LTC|SOL|TRX|UNI|XBT|XLM|XRP)(USD|EUR|BTC)"
    "|.+(USD[TC]|F?DUSD|[BT]USD|DAI)"
)

# Fees of a round trip [fraction of the price]: spread and commission of a cheap account.
_FX_FEE, _STOCK_FEE, _CRYPTO_FEE = 0.00008, 0.0001, 0.0004


class BarsError(Exception):
    """A file holds no usable bars; one line that names file, column and row."""


class WrongUseError(BarsError):
    """What was asked for does not fit the bars, whatever they hold: exit code 2."""


class MarketBar(NamedTuple):
    """One closed bar; prices in [quote], low <= open, close <= high."""

    open_ms: int
    """When it opened [Unix ms]."""
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    """Traded volume [base]; None when the file has none."""


@dataclass(frozen=True, slots=True)
class BarSeries:
    """The bars of one symbol in the order of their times."""

    symbol: str
    bars: Sequence[MarketBar]
    step_ms: int
    """Length of a bar [ms]: the most frequent distance of two."""

    @property
    def timeframe(self) -> str:
        """The length as a signal tells it, such as `15m`."""
        for size_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")):
            if self.step_ms % size_ms == 0:
                return f"{self.step_ms // size_ms}{unit}"
        return f"{self.step_ms}ms"

    @property
    def is_fx(self) -> bool:
        """Whether it is a pair of currencies: its volume counts ticks of one dealer, not money."""
        return bool(_CURRENCIES.fullmatch(self._letters))

    @property
    def fee(self) -> float:
        """Fees of a round trip [fraction of the price]."""
        if self.is_fx:
            return _FX_FEE
        return _CRYPTO_FEE if _COINS.fullmatch(self._letters) else _STOCK_FEE

    @property
    def _letters(self) -> str:
        return re.sub(r"[^A-Z]", "", self.symbol.upper())

    def volume_24h(self, index: int) -> float | None:
        """Give the money traded in the 24 h up to the end of a bar [quote].

        None for currencies, without volumes, and while the bars do not reach back so far. A bar
        longer than a day counts whole.
        """
        if self.is_fx:
            return None
        last = self.bars[index]
        since_ms = min(last.open_ms, last.open_ms + self.step_ms - 86_400_000)
        if self.bars[0].open_ms > since_ms:
            return None
        total = 0.0
        for bar in self.bars[index::-1]:
            if bar.open_ms < since_ms:
                break
            if bar.volume is None:
                return None
            total += bar.volume * bar.close
        return total


def shipped_bars() -> list[BarSeries]:
    """Load the bars that come with the package: EURUSD hourly, GOOGL daily."""
    folder = importlib.resources.files("consumer.local") / "bars"
    return [
        _from_csv(name, gzip.decompress((folder / name).read_bytes()), _symbol_of(name))
        for name in _SHIPPED
    ]


def load_bars(path: Path) -> BarSeries:
    """Load a file of the user's: CSV (also compressed by gzip) or Parquet.

    Columns, in any order and case: `time`, `timestamp` or `date` (ISO 8601, UTC where no offset is
    given; or Unix seconds or milliseconds), `open`, `high`, `low`, `close` and, if known, `volume`.
    The symbol is the file's name without its endings and its timeframe: `BTCUSDT_15m.csv`.

    Raises:
        BarsError: It cannot be read, or does not hold bars; with column and row (the header of a
            CSV file is row 1, the first bar of a Parquet file too).
    """
    symbol = _symbol_of(path.name)
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return _from_parquet(path, symbol)
        data = path.read_bytes()
        return _from_csv(
            str(path), gzip.decompress(data) if path.suffix.lower() == ".gz" else data, symbol
        )
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BarsError(f"{path}: cannot be read: {reason}") from error


def _symbol_of(name: str) -> str:
    stem = re.sub(r"(\.csv|\.txt|\.parquet|\.pq|\.gz)+$", "", name, flags=re.IGNORECASE)
    symbol = _FRAME_SUFFIX.sub("", stem).upper()
    if not _SYMBOL.fullmatch(symbol):
        raise BarsError(
            f"{name}: the file's name must begin with the symbol, such as BTCUSDT_15m.csv"
        )
    return symbol


def _from_csv(name: str, data: bytes, symbol: str) -> BarSeries:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BarsError(f"{name}: is not UTF-8 text") from error
    stream = io.StringIO(text, newline="")
    rows = csv.reader(stream, delimiter=_delimiter(stream))
    try:
        columns = _columns(name, next(rows, []))
        cells = (
            (rows.line_num, [row[at] if at < len(row) else "" for at in columns])
            for row in rows
            if any(cell.strip() for cell in row)
        )
        return _series(name, symbol, cells)
    except csv.Error as error:
        raise BarsError(f"{name}: row {rows.line_num}: {error}") from error


def _delimiter(stream: TextIO) -> str:
    header = stream.readline()
    stream.seek(0)
    return max(",;\t", key=header.count)


def _from_parquet(path: Path, symbol: str) -> BarSeries:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise BarsError(
            f"{path}: Parquet needs pyarrow: pip install pyarrow, or give a CSV file"
        ) from error
    name = str(path)
    try:
        names = pq.read_schema(path).names
        columns = [names[at] for at in _columns(name, names)]
        table = pq.read_table(path, columns=columns)
    except pa.ArrowException as error:
        raise BarsError(f"{path}: is no Parquet file: {str(error).splitlines()[0]}") from error
    lists = [table.column(column).to_pylist() for column in columns]
    return _series(name, symbol, enumerate(map(list, zip(*lists, strict=True)), 1))


def _columns(name: str, header: Sequence[str]) -> list[int]:
    """Find the columns: time, open, high, low, close and, where there is one, volume."""
    names = [cell.strip().lower() for cell in header]
    times = [column for column in _TIME_COLUMNS if column in names]
    if not times:
        raise BarsError(f"{name}: column time (or timestamp, or date) is missing")
    for column in _PRICE_COLUMNS:
        if column not in names:
            raise BarsError(f"{name}: column {column} is missing")
    wanted = [times[0], *_PRICE_COLUMNS, *(["volume"] if "volume" in names else [])]
    return [names.index(column) for column in wanted]


def _series(name: str, symbol: str, rows: Iterable[tuple[int, Sequence[object]]]) -> BarSeries:
    bars = list(islice(_bars(name, rows), _MOST_BARS + 1))
    if len(bars) < 2:
        raise BarsError(
            f"{name}: holds {len(bars)} {plural(len(bars), 'bar')}; at least 2 are needed"
        )
    if len(bars) > _MOST_BARS:
        raise BarsError(f"{name}: holds more than {_MOST_BARS:,} bars")
    steps = Counter(later.open_ms - earlier.open_ms for earlier, later in pairwise(bars))
    return BarSeries(symbol, bars, steps.most_common(1)[0][0])


def _bars(name: str, rows: Iterable[tuple[int, Sequence[object]]]) -> Iterator[MarketBar]:
    last_ms = None
    for number, cells in rows:
        place = f"{name}: row {number}"
        open_ms = time_ms(place, cells[0])
        if last_ms is not None and open_ms <= last_ms:
            raise BarsError(f"{place}: column time: does not come after the row before")
        last_ms = open_ms
        first, high, low, close = (
            _number(place, column, cell, _LEAST_PRICE)
            for column, cell in zip(_PRICE_COLUMNS, cells[1:5], strict=True)
        )
        if high < max(first, close):
            raise BarsError(f"{place}: column high: {high} is below the open or the close")
        if low > min(first, close):
            raise BarsError(f"{place}: column low: {low} is above the open or the close")
        volume = cells[5] if len(cells) > 5 else None
        known = volume is not None and str(volume).strip() != ""
        yield MarketBar(
            open_ms,
            first,
            high,
            low,
            close,
            _number(place, "volume", volume, 0.0) if known else None,
        )


def _number(place: str, column: str, cell: object, least: float) -> float:
    try:
        number = float(str(cell))
    except ValueError:
        raise BarsError(f"{place}: column {column}: {cell!r} is no number") from None
    if not isfinite(number) or not least <= number <= _MOST_PRICE:
        raise BarsError(
            f"{place}: column {column}: must lie within {least:g} .. {_MOST_PRICE:g}, was {number}"
        )
    return number


def time_ms(place: str, cell: object) -> int:
    """Read a time as a file gives it [Unix ms]; `place` stands before what is wrong with it.

    Raises:
        BarsError: It is no time, or lies before 1970.
    """
    moment: datetime | None = None
    if isinstance(cell, datetime):
        moment = cell
    elif isinstance(cell, date):
        moment = datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    else:
        text = str(cell).strip()
        if re.fullmatch(r"\d{9,14}(\.\d+)?", text):
            number = float(text)
            return round(number if number >= _FIRST_MS else number * 1000)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BarsError(
                f"{place}: column time: {text!r} is no ISO 8601 time and no Unix time"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    unix_ms = round(moment.timestamp() * 1000)
    if unix_ms < 0:
        raise BarsError(f"{place}: column time: {cell} lies before 1970")
    return unix_ms
