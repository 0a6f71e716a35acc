"""A worker that gets stuck at SIGUSR1, in the way its argument names; its watchdog is impatient."""

import asyncio
import signal
import sys
import time
from functools import partial
from types import FrameType

import uvloop

from consumer import app, settings
from consumer.stream.session import Session
from consumer.watchdog import Watchdog

LIMIT_S = 4.0


STUCK = "stuck from now on"


def _freeze_loop(_: int, __: FrameType | None) -> None:
    print(STUCK, flush=True)
    time.sleep(3_600)


def _stop_reading() -> None:
    """Let the session hand out no record any more, as a client that is stuck does."""
    read, is_stuck = Session._read, asyncio.Event()

    async def reading(session: Session) -> None:
        task = asyncio.ensure_future(read(session))
        await asyncio.wait(
            {task, asyncio.ensure_future(is_stuck.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            task.result()
        task.cancel()
        await asyncio.Event().wait()

    def get_stuck(_: int, __: FrameType | None) -> None:
        print(STUCK, flush=True)
        is_stuck.set()

    Session._read = reading  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, get_stuck)


if __name__ == "__main__":
    if sys.argv[1] != "patient loop":
        app.Watchdog = partial(Watchdog, limit_s=LIMIT_S)  # type: ignore[misc,assignment]
    if "loop" in sys.argv[1]:
        signal.signal(signal.SIGUSR1, _freeze_loop)
    else:
        _stop_reading()
    app.run_worker(settings.load(), uvloop.run)
