"""What a flood of requests costs Redis, through the whole of it: HTTP, what is kept, and the scans."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from consumer import tables
from consumer.domain.partition_state import PartitionState
from consumer.learn import learn
from consumer.local.stack import Stack
from consumer.settings import Settings, load
from consumer.store.table import Table, TableReader
from consumer.tables import WholeTable
from consumer.telemetry.health import Health
from consumer.telemetry.http import Server
from consumer.telemetry.metrics import Metrics
from consumer.view import make_view, rewrite
from schemas import TradeClosed
from tests.support.builders import START_MS, make_trade

SYMBOLS = [f"S{number}" for number in range(60)]


class CountingReader(TableReader):
    """The reader, and what it was asked."""

    def __init__(self, *place: Any) -> None:
        super().__init__(*place)
        self.asked: list[str | None] = []

    async def table(self, symbol: str | None = None) -> Table:
        self.asked.append(symbol)
        return await super().table(symbol)


class Api(NamedTuple):
    """Endpoints over a table in Redis."""

    url: str
    reader: CountingReader

    async def get(self, session: aiohttp.ClientSession, path: str) -> Any:
        async with session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()


async def fill(settings: Settings) -> None:
    """Write a table with one reward of each symbol."""
    state = PartitionState(settings.fold)
    for number, symbol in enumerate(SYMBOLS):
        trade = make_trade(symbol=symbol, strategy="scalp", regime="trend_up", realized_r=number)
        learn(state, TradeClosed.model_validate(trade), offset=number, timestamp_ms=START_MS)
    view = make_view(settings, 1)
    await rewrite(view, 0, state)
    await view.close()


@pytest.fixture
async def api(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(tables, "_KEEP_S", 60.0)  # however long the machine takes for the requests
    prefix = f"a{uuid.uuid4().hex[:10]}"
    settings = load(redis_url=stack.redis_url, meta_strategy_key_prefix=prefix)
    await fill(settings)
    whole = WholeTable(settings)
    whole.reader = reader = CountingReader(whole.client, prefix, 1)
    server = Server(
        "127.0.0.1",
        0,
        look=Health,
        metrics=Metrics(),
        tables=whole,
    )
    port = await server.start()
    yield Api(f"http://127.0.0.1:{port}", reader)
    await server.stop()
    await whole.client.delete(*[key async for key in whole.client.scan_iter(f"{prefix}:*")])
    await whole.close()


async def test_a_flood_of_requests_reads_the_table_once(api: Api) -> None:
    paths = ["/api/summary"] * 50 + ["/api/state"] * 50 + ["/api/active"] * 50
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*[api.get(session, path) for path in paths])

    assert api.reader.asked == [None]
    assert answers[0]["total_updates"] == len(SYMBOLS)
    assert answers[:50] == answers[:1] * 50
    assert answers[50]["total_reward_updates"] == len(SYMBOLS)


async def test_a_flood_of_symbols_is_answered_by_some_reads(api: Api) -> None:
    """Whoever asks for all there are, and for some that are not, gets them; Redis is asked a few times."""
    names = [*SYMBOLS, *(f"NOTHING-{number}" for number in range(100))] * 2
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*[api.get(session, f"/api/qtable/{n}") for n in names])

    for name, answer in zip(names, answers, strict=True):
        assert answer["symbol"] == name
        found = [(one["symbol"], one["total_r"]) for one in answer["contexts"]]
        assert found == ([(name, float(name[1:]))] if name in SYMBOLS else [])
    assert len(api.reader.asked) == tables._SYMBOLS + 1
