"""A TCP proxy between a worker and a server: slow, cut, mute in one direction, or losing replies."""

import asyncio
import contextlib
from typing import Literal, Self

from consumer.local.server import HOST

Direction = Literal["up", "down"]
_CHUNK = 1 << 16


class Proxy:
    """Passes the bytes of any number of connections on, until it is made to hurt them.

    What is held back is delivered when the hurt is over, as TCP would; a cut breaks connections.

    Args:
        target_port: Where the server listens.
        port: Where clients are to connect.
    """

    def __init__(self, target_port: int, port: int) -> None:
        self.port = port
        self.delay_s = 0.0
        """Held back on the way to the server, and again on the way back [s]."""
        self._target_port = target_port
        self._is_cut = False
        self._replies_to_lose = 0
        self._open: dict[Direction, asyncio.Event] = {
            "up": asyncio.Event(),
            "down": asyncio.Event(),
        }
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._break_all()

    # What it can be made to do

    def cut(self) -> None:
        """Break all connections and take no new ones."""
        self._is_cut = True
        self._break_all()

    def mute(self, *directions: Direction) -> None:
        """Hold everything back that goes this way."""
        for direction in directions:
            self._open[direction].clear()

    def lose_replies(self, count: int) -> None:
        """Break the connection instead of passing the server's answer on, so many times."""
        self._replies_to_lose = count

    def heal(self) -> None:
        """Pass everything on at once again."""
        self._is_cut = False
        self.delay_s = 0.0
        self._replies_to_lose = 0
        for is_open in self._open.values():
            is_open.set()

    # The work

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:  # the server is away: so is the way to it
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        pumps = {
            asyncio.create_task(self._pump(reader, far_writer, "up")),
            asyncio.create_task(self._pump(far_reader, writer, "down")),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        is_open = self._open[direction]
        with contextlib.suppress(OSError):  # either side may go away at any time
            while chunk := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not is_open.is_set():
                    await is_open.wait()
                if direction == "down" and self._replies_to_lose:
                    self._replies_to_lose -= 1
                    return
                writer.write(chunk)
                await writer.drain()
