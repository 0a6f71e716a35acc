"""The HTTP server only shows: no route changes anything, and nobody outside the machine is served unasked."""

from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest

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
    assert made._runner is not None
    routes = list(made._runner.app.router.routes())
    assert {route.method for route in routes} == {"GET", "HEAD"}

    paths = {
        route.resource.canonical.replace("{symbol}", "X") for route in routes if route.resource
    }
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
