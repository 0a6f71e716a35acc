"""What the endpoints show is read once for all who ask at about the same time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from consumer import tables
from consumer.domain.context import ContextKey
from consumer.domain.open_decision import OpenDecision
from consumer.domain.qtable import ArmStats
from consumer.domain.summary import summarize
from consumer.errors import TransientError
from consumer.settings import load
from consumer.store.table import Table, TableReader
from consumer.tables import WholeTable
from schemas import MarketRegime
from tests.support.kafka_io import eventually


class HeldReader(TableReader):
    """Redis, as far as reads go: each ends when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.may_end = asyncio.Event()
        self.error: TransientError | None = None

    async def table(self, symbol: str | None = None) -> Table:
        await self._ask(symbol)
        symbols = ["BTCUSDT", "ETHUSDT"] if symbol is None else [symbol]
        rows = {
            ContextKey("default", name, MarketRegime.TREND_UP): {"scalp": ArmStats(count=1)}
            for name in symbols
        }
        return Table(rows, [], len(self.asked), 0)

    async def open_decisions(self, limit: int) -> list[OpenDecision]:
        await self._ask(limit)
        return []

    async def _ask(self, what: Any) -> None:
        self.asked.append(what)
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def reader() -> HeldReader:
    return HeldReader()


@pytest.fixture
async def whole(reader: HeldReader, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WholeTable]:
    monkeypatch.setattr(tables, "_KEEP_S", 60.0)  # however slow the machine is
    made = WholeTable(load())
    made.reader = reader
    yield made
    await made.close()


async def test_all_who_ask_at_once_share_one_read(
    whole: WholeTable, reader: HeldReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of requests must become neither a flood of reads nor one of going over all rows."""
    summaries = []
    monkeypatch.setattr(
        tables, "summarize", lambda *table: summaries.append(table) or summarize(*table)
    )
    asking = [asyncio.create_task(whole.summary()) for _ in range(50)]
    asking += [asyncio.create_task(whole.state()) for _ in range(50)]
    await eventually(lambda: reader.asked, what="a read")

    reader.may_end.set()
    await asyncio.gather(*asking)

    assert reader.asked == [None]
    assert len(summaries) == 1


async def test_a_symbol_is_read_once_for_all_who_ask(whole: WholeTable, reader: HeldReader) -> None:
    reader.may_end.set()

    found = [await whole.qtable("BTCUSDT") for _ in range(5)]
    found += await asyncio.gather(*[whole.qtable("ETHUSDT") for _ in range(5)])

    assert reader.asked == ["BTCUSDT", "ETHUSDT"]
    assert [one["symbol"] for one in found] == ["BTCUSDT"] * 5 + ["ETHUSDT"] * 5
    assert all(entry["symbol"] == one["symbol"] for one in found for entry in one["contexts"])


async def test_a_symbol_may_have_any_name(whole: WholeTable, reader: HeldReader) -> None:
    """It must not be taken for another thing that is kept."""
    reader.may_end.set()
    await whole.active()

    for name in ("table", "active", "None", str(reader.asked[-1])):
        assert (await whole.qtable(name))["contexts"][0]["symbol"] == name


async def test_of_many_symbols_the_whole_table_is_read(
    whole: WholeTable, reader: HeldReader
) -> None:
    """Anybody may ask for any symbol: neither what is read nor what is kept may grow with that."""
    asking = [asyncio.create_task(whole.qtable(f"S{n}")) for n in range(1000)]
    asking.append(asyncio.create_task(whole.qtable("BTCUSDT")))
    await eventually(lambda: None in reader.asked, what="a read of all")

    reader.may_end.set()
    found = await asyncio.gather(*asking)

    assert reader.asked == [*(f"S{n}" for n in range(tables._SYMBOLS)), None]
    assert [entry["symbol"] for entry in found[-1]["contexts"]] == ["BTCUSDT"]
    assert [entry["symbol"] for entry in found[0]["contexts"]] == ["S0"]
    assert found[999]["contexts"] == []


async def test_an_answer_is_kept_for_a_moment_only(
    whole: WholeTable, reader: HeldReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_KEEP_S", 0.0)
    reader.may_end.set()

    async def is_read_anew() -> bool:
        await whole.qtable("BTCUSDT")
        return reader.asked == ["BTCUSDT", "BTCUSDT"]

    await eventually(is_read_anew, what="another read")


async def test_an_error_is_told_to_all_who_wait_and_not_kept(
    whole: WholeTable, reader: HeldReader
) -> None:
    """Redis is back: the next one who asks must see it."""
    reader.error = TransientError("Redis does not answer")
    asking = [asyncio.create_task(whole.summary()) for _ in range(3)]
    await eventually(lambda: reader.asked, what="a read")

    reader.may_end.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    reader.error = None

    assert [type(one) for one in found] == 3 * [TransientError]
    assert (await whole.summary())["total_entries"] == 2
    assert reader.asked == [None, None]


async def test_one_who_goes_away_leaves_the_others_their_answer(
    whole: WholeTable, reader: HeldReader
) -> None:
    first = asyncio.create_task(whole.summary())
    await eventually(lambda: reader.asked, what="a read")
    second = asyncio.create_task(whole.summary())

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    reader.may_end.set()

    assert (await second)["total_entries"] == 2
    assert reader.asked == [None]


async def test_a_read_that_nobody_waits_for_ends_with_the_worker(reader: HeldReader) -> None:
    whole = WholeTable(load())
    whole.reader = reader
    asking = asyncio.create_task(whole.summary())
    await eventually(lambda: reader.asked, what="a read")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    before = asyncio.all_tasks()

    await whole.close()

    assert asyncio.all_tasks() < before


async def test_nothing_is_kept_before_the_topics_are_known(reader: HeldReader) -> None:
    whole = WholeTable(load())
    with pytest.raises(TransientError, match="the topics are not known yet"):
        await whole.summary()

    whole.reader = reader
    reader.may_end.set()

    assert (await whole.summary())["total_entries"] == 2
    await whole.close()
