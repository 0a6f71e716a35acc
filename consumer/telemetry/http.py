"""Endpoints (contract, section 6): read-only, GET only, on the loop of the worker."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from typing import Any, Protocol

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from consumer.errors import TransientError
from consumer.telemetry.health import Health
from consumer.telemetry.metrics import Metrics

_KEEP_ALIVE_S = 75
"""Longest rest of a connection: scrapes come once or several times a minute."""
_BACKLOG = 128
_STARTED_LOOK_S = 0.001


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


async def _nothing(_: Request) -> Response:
    return PlainTextResponse("Not Found", 404)


class _Uvicorn(uvicorn.Server):
    """One that leaves signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
        self.routes = [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics_text),
            Route("/api/summary", self._from(lambda _: self._tables.summary())),
            Route("/api/state", self._from(lambda _: self._tables.state())),
            Route("/api/active", self._from(lambda _: self._tables.active())),
            Route("/api/qtable/", _nothing),  # no symbol
            # a symbol may hold a slash
            Route(
                "/api/qtable/{symbol:path}",
                self._from(lambda request: self._tables.qtable(request.path_params["symbol"])),
            ),
            Route("/", self._index),
        ]
        """All take GET and HEAD."""
        self._server = _Uvicorn(
            uvicorn.Config(
                Router(self.routes, redirect_slashes=False),
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; give the port.

        Raises:
            OSError: The address cannot be bound.
        """
        listeners = await _listeners(self._host, self._port)
        port: int = listeners[0].getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(listeners), name="http")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(_STARTED_LOOK_S)
        return port

    async def stop(self) -> None:
        """Close all connections."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _readyz(self, _: Request) -> Response:
        health = self._look()
        if reasons := health.reasons():
            return JSONResponse({"status": "not ready", "reasons": reasons}, 503)
        return JSONResponse({"status": "ready", "partitions": sorted(health.opened)})

    async def _metrics_text(self, _: Request) -> Response:
        return Response(
            self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _index(self, _: Request) -> Response:
        return Response(
            self._page,
            media_type="text/html",
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
                "script-src 'unsafe-inline'; connect-src 'self'",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _from(
        self, read: Callable[[Request], Awaitable[dict[str, Any]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                return JSONResponse(await read(request))
            except TransientError as error:
                return JSONResponse({"error": str(error)}, 503)

        return handle


async def _listeners(host: str, port: int) -> list[socket.socket]:
    """Bind all addresses of a host, as a name may have one of each kind; at least one.

    Port 0 binds the first one alone: the others would have other ports.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    with contextlib.ExitStack() as unless_all:
        made: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in addresses[:1] if port == 0 else addresses:
            try:
                one = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                absent = error  # such as the name of this machine where it has no IPv6
            else:
                made.append(unless_all.enter_context(one))
        if absent is not None and not made:
            raise absent
        unless_all.pop_all()
    return made
