"""Bars for the demo: a file of the user's is told exactly what is wrong with it."""

import gzip
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.local.market_bars import BarSeries, BarsError, MarketBar, load_bars, shipped_bars

GOOD = """time,open,high,low,close,volume
2024-01-01T00:00:00Z,10,12,9,11,100
2024-01-01T00:15:00Z,11,13,10,12,200
2024-01-01T00:30:00Z,12,14,11,13,300
"""
FIRST_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z


def write(folder: Path, text: str, name: str = "BTCUSDT_15m.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def make_series(symbol: str, *, volume: float | None = 2.0, step_ms: int = 3_600_000) -> BarSeries:
    bars = [MarketBar(FIRST_MS + n * step_ms, 10.0, 10.0, 10.0, 10.0, volume) for n in range(50)]
    return BarSeries(symbol, bars, step_ms)


def test_shipped_bars_are_whole() -> None:
    euro, google = shipped_bars()

    assert (euro.symbol, euro.timeframe, len(euro.bars)) == ("EURUSD", "1h", 6225)
    assert (google.symbol, google.timeframe, len(google.bars)) == ("GOOGL", "1d", 2335)
    assert google.bars[-1] == MarketBar(
        1_535_500_800_000, 1255.0, 1267.170044, 1252.800049, 1264.650024, 1_846_300.0
    )


def test_a_csv_file_is_loaded(tmp_path: Path) -> None:
    series = load_bars(write(tmp_path, GOOD))

    assert (series.symbol, series.timeframe) == ("BTCUSDT", "15m")
    assert series.bars[0] == MarketBar(FIRST_MS, 10.0, 12.0, 9.0, 11.0, 100.0)
    assert len(series.bars) == 3


def test_a_compressed_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "ethusd-15m.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))

    assert load_bars(path).symbol == "ETHUSD"


@pytest.mark.parametrize(
    "times",
    [
        (FIRST_MS, FIRST_MS + 900_000),
        (FIRST_MS // 1000, FIRST_MS // 1000 + 900),
        ("2024-01-01", "2024-01-01 00:15"),
        ("2024-01-01T01:00:00+01:00", "2024-01-01T00:15:00.000Z"),
    ],
)
@pytest.mark.parametrize("column", ["Time", "TIMESTAMP", "date"])
def test_times_are_read_in_all_their_forms(
    tmp_path: Path, times: tuple[object, object], column: str
) -> None:
    rows = "".join(f"x;13;{time};9;11;10\n" for time in times)

    series = load_bars(write(tmp_path, f"extra;High;{column};Low;Close;Open\n{rows}"))

    assert [bar.open_ms for bar in series.bars] == [FIRST_MS, FIRST_MS + 900_000]
    assert series.bars[0] == MarketBar(FIRST_MS, 10.0, 13.0, 9.0, 11.0, None)


def test_a_parquet_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "AAPL_1h.parquet"
    table = {
        "Open": [10.0, 11.0],
        "High": [12.0, 13.0],
        "Low": [9.0, 10.0],
        "Close": [11, 12],
        "timestamp": [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (0, 1)],
        "volume": [5, None],
    }
    pq.write_table(pa.table(table), path)

    series = load_bars(path)

    assert (series.symbol, series.timeframe) == ("AAPL", "1h")
    assert series.bars == [
        MarketBar(FIRST_MS, 10.0, 12.0, 9.0, 11.0, 5.0),
        MarketBar(FIRST_MS + 3_600_000, 11.0, 13.0, 10.0, 12.0, None),
    ]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(BarsError, match="Parquet needs pyarrow: pip install pyarrow"):
        load_bars(tmp_path / "AAPL.parquet")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("time,", "when,", r"column time \(or timestamp, or date\) is missing"),
        ("close,", "last,", "column close is missing"),
        ("13,10", "x,10", "row 3: column high: 'x' is no number"),
        ("13,10", "nan,10", "row 3: column high: must lie within 1e-12 .. 1e+15, was nan"),
        ("13,10", "13,-1", "row 3: column low: must lie within 1e-12 .. 1e+15, was -1.0"),
        ("13,10", "13,", "row 3: column low: '' is no number"),
        ("13,10", "11.5,10", "row 3: column high: 11.5 is below the open or the close"),
        ("13,10", "13,11.5", "row 3: column low: 11.5 is above the open or the close"),
        (",200", ",-200", "row 3: column volume: must lie within 0 .. 1e+15, was -200.0"),
        ("T00:30", "T00:15", "row 4: column time: does not come after the row before"),
        ("2024-01-01T00:30:00Z", "noon", "row 4: column time: 'noon' is no ISO 8601 time"),
        (GOOD[GOOD.index("2024-01-01T00:15") :], "", "holds 1 bar; at least 2 are needed"),
        (GOOD, "", "column time .* is missing"),
    ],
)
def test_a_wrong_file_is_told_column_and_row(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new))

    with pytest.raises(BarsError, match=message.replace("+", r"\+")) as caught:
        load_bars(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(GOOD.encode())[:40])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")

    for path, message in (
        (tmp_path / "absent.csv", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read"),
        (broken, "is no Parquet file"),
        (torn, "cannot be read"),
        (binary, "is not UTF-8 text"),
    ):
        with pytest.raises(BarsError, match=message) as caught:
            load_bars(path)
        assert "\n" not in str(caught.value)


def test_a_file_name_without_a_symbol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="name must begin with the symbol"):
        load_bars(write(tmp_path, GOOD, "my bars!.csv"))


@pytest.mark.parametrize(
    ("symbol", "is_fx", "fee"),
    [
        ("EURUSD", True, 0.00008),
        ("EUR/JPY", True, 0.00008),
        ("XAUUSD", True, 0.00008),
        ("BTCUSDT", False, 0.0004),
        ("ETHUSD", False, 0.0004),
        ("GOOGL", False, 0.0001),
    ],
)
def test_fees_go_by_the_kind_of_market(symbol: str, is_fx: bool, fee: float) -> None:
    series = make_series(symbol)

    assert (series.is_fx, series.fee) == (is_fx, fee)


def test_volume_of_a_day_is_money_of_its_bars() -> None:
    assert make_series("GOOGL").volume_24h(30) == 24 * 2.0 * 10.0
    assert make_series("GOOGL", step_ms=86_400_000).volume_24h(5) == 20.0
    assert make_series("GOOGL", step_ms=7 * 86_400_000).volume_24h(5) == 20.0


def test_volume_that_is_no_money_is_left_out() -> None:
    """Ticks taken for money would make every currency pair illiquid, or none."""
    assert make_series("EURUSD").volume_24h(30) is None
    assert make_series("GOOGL", volume=None).volume_24h(30) is None
    assert make_series("GOOGL").volume_24h(22) is None  # half a day would look illiquid
