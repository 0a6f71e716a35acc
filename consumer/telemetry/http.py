"""Endpoints (contract, section 6): read-only, GET only, on the loop of the worker."""

import json
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Protocol

from aiohttp import web

from consumer.errors import TransientError
from consumer.telemetry.health import Health
from consumer.telemetry.metrics import Metrics

_MAX_REQUEST_BYTES = 1_024  # nothing is ever read from a body


class Tables(Protocol):
    """What the endpoints show of the whole table; all raise TransientError when Redis does not answer."""

    async def summary(self) -> dict[str, Any]:
        """Give the table in short."""

    async def state(self) -> dict[str, Any]:
        """Give counters and settings."""

    async def active(self) -> dict[str, Any]:
        """Give the newest open decisions."""

    async def qtable(self, symbol: str) -> dict[str, Any]:
        """Give the contexts of a symbol."""


def _json(content: Any, status: int = 200) -> web.Response:
    return web.json_response(content, status=status, dumps=lambda c: json.dumps(c, allow_nan=False))


class Server:
    """The HTTP server.

    Args:
        host: Address to bind.
        port: Port; 0 takes a free one.
        look: Gives the worker's health as it is now.
        metrics: What `/metrics` shows.
        tables: What the API shows.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        look: Callable[[], Health],
        metrics: Metrics,
        tables: Tables,
    ) -> None:
        self._host = host
        self._port = port
        self._look = look
        self._metrics = metrics
        self._tables = tables
        self._page = resources.files("consumer.telemetry").joinpath("page.html").read_text("utf-8")
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; give the port.

        Raises:
            OSError: The address cannot be bound.
        """
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        app.router.add_get("/api/summary", self._from(lambda _: self._tables.summary()))
        app.router.add_get("/api/state", self._from(lambda _: self._tables.state()))
        app.router.add_get("/api/active", self._from(lambda _: self._tables.active()))
        # a symbol may hold a slash
        app.router.add_get(
            "/api/qtable/{symbol:.+}",
            self._from(lambda request: self._tables.qtable(request.match_info["symbol"])),
        )
        app.router.add_get("/", self._index)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._look()
        if reasons := health.reasons():
            return _json({"status": "not ready", "reasons": reasons}, 503)
        return _json({"status": "ready", "partitions": sorted(health.opened)})

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._page,
            content_type="text/html",
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
                "script-src 'unsafe-inline'; connect-src 'self'",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _from(
        self, read: Callable[[web.Request], Awaitable[dict[str, Any]]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                return _json(await read(request))
            except TransientError as error:
                return _json({"error": str(error)}, 503)

        return handle
