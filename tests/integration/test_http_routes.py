"""The HTTP server only shows: no route changes anything, and nobody outside the machine is served unasked."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
from yarl import URL

from consumer.settings import Settings
from consumer.telemetry.health import Health
from consumer.telemetry.http import Server
from consumer.telemetry.metrics import Metrics


class NoTables:
    async def summary(self) -> dict[str, Any]:
        return {}

    async def state(self) -> dict[str, Any]:
        return {}

    async def active(self) -> dict[str, Any]:
        return {}

    async def qtable(self, symbol: str) -> dict[str, Any]:
        return {"symbol": symbol}


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server(
        Settings.model_fields["http_host"].default,
        0,
        look=Health,
        metrics=Metrics(),
        tables=NoTables(),
    )
    port = await made.start()
    yield made, f"http://127.0.0.1:{port}"
    await made.stop()


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert ip_address(Settings.model_fields["http_host"].default).is_loopback


async def test_every_route_takes_get_and_head_alone(server: tuple[Server, str]) -> None:
    made, url = server
    assert all(route.methods == {"GET", "HEAD"} for route in made.routes)
    paths = {route.path.replace("{symbol:path}", "X") for route in made.routes}
    assert len(paths) >= 8
    async with aiohttp.ClientSession() as session:
        for path in sorted(paths):
            for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
                async with session.request(method, url + path, data=b"x" * 10) as response:
                    assert response.status == 405, (method, path)


async def test_no_body_is_read(server: tuple[Server, str]) -> None:
    """A large body is refused or left alone; the server goes on."""
    _, url = server
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/healthz", data=b"x" * 1_000_000) as response:
            assert response.status == 200
            assert await response.json() == {"status": "alive"}
        async with session.get(f"{url}/readyz") as response:
            assert response.status == 503


async def test_what_is_asked_for_is_never_given_back_as_a_page(server: tuple[Server, str]) -> None:
    """A name in the path must not become a script in a browser."""
    _, url = server
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/api/qtable/%3Cscript%3E") as response,
    ):
        assert response.content_type == "application/json"


async def test_a_head_is_a_get_without_its_body(server: tuple[Server, str]) -> None:
    _, url = server
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/healthz", "/metrics", "/api/qtable/EURUSD"):
            async with session.get(url + path) as got, session.head(url + path) as head:
                assert (head.status, await head.read()) == (200, b"")
                assert head.content_type == got.content_type
                if path != "/metrics":  # they move between the two
                    assert head.headers["Content-Length"] == str(len(await got.read()))


async def test_a_symbol_may_hold_a_slash_and_more(server: tuple[Server, str]) -> None:
    _, url = server
    async with aiohttp.ClientSession() as session:
        for asked in ("BINANCE:XRP/USDT", "BINANCE:XRP%2FUSDT"):
            async with session.get(URL(f"{url}/api/qtable/{asked}", encoded=True)) as response:
                assert await response.json() == {"symbol": "BINANCE:XRP/USDT"}
        for nothing in ("/api/qtable/", "/api/qtable", "/healthz/", "//", "/api"):
            async with session.get(URL(url + nothing, encoded=True)) as response:
                assert response.status == 404, nothing


async def test_an_address_that_is_taken_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = Server("127.0.0.1", port, look=Health, metrics=Metrics(), tables=NoTables())

        with pytest.raises(OSError, match="in use"):
            await made.start()

        await made.stop()


async def test_a_name_is_served_at_all_of_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Server("localhost", port, look=Health, metrics=Metrics(), tables=NoTables())
    assert await made.start() == port
    found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    async with aiohttp.ClientSession() as session:
        for host in {str(address[0]) for *_, address in found}:
            name = f"[{host}]" if ":" in host else host
            async with session.get(f"http://{name}:{port}/healthz") as response:
                assert response.status == 200
    await made.stop()


async def test_connections_that_rest_or_were_left_half_asked_do_not_hold_up_a_stop() -> None:
    made = Server("127.0.0.1", 0, look=Health, metrics=Metrics(), tables=NoTables())
    port = await made.start()
    with (
        socket.create_connection(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)) as half,
    ):
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                assert response.status == 200
            async with asyncio.timeout(5):
                await made.stop()


async def test_what_is_no_request_is_refused_and_others_are_served(
    server: tuple[Server, str],
) -> None:
    _, url = server
    port = URL(url).port
    for nonsense in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nA" * 9_000,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(nonsense + b"\r\n\r\n")
            answer = await reader.read()
            assert not answer or b" 400 " in answer.splitlines()[0]
        writer.close()
    async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
        assert response.status == 200
