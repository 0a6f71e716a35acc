"""The process a worker runs in: collector and allocator, signals, and an end that nothing delays."""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
from types import FrameType

from consumer import decide

_GC_YOUNG = 100_000  # more than a batch makes
# of glibc's malloc.h; other systems have no such call, or take no notice
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 64 << 20
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 1 << 20


def tune() -> None:
    """Set collector and allocator for one long task that keeps much and makes much."""
    # what is imported stays for ever; and a batch makes some ten thousand objects that live for
    # milliseconds: looking through all that is kept for each thousand of them finds nothing
    gc.freeze()
    gc.set_threshold(_GC_YOUNG, 10, 50)
    # memory that a batch gave back is wanted again by the next one: handing it to the system in
    # between costs a page fault for every 4 KiB, and so does a mapping of its own for each answer
    # and each request of more than 128 KiB
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        allocator.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def is_compiled() -> bool:
    """Tell whether decisions are made by native code, or by the sources."""
    return not decide.__file__.endswith(".py")


def give_back() -> None:
    """Hand to the system what the process has freed; takes some milliseconds.

    The allocator gives back by itself what is free at the end of its heap. After a backlog, or after
    partitions that were given up, what is free lies between things that stay.
    """
    with contextlib.suppress(OSError, AttributeError):  # other systems have no such call
        ctypes.CDLL(None).malloc_trim(0)


def stop_event(grace_s: float) -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set; the process ends that long after it, whatever holds.

    Call it inside the running loop.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin(_: int, __: FrameType | None) -> None:
        if not stop.is_set():
            _end_after(grace_s)
        loop.call_soon_threadsafe(stop.set)

    # not the loop's own handlers: a loop that is stuck would not come to call them
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, begin)
    return stop


def _end_after(seconds: float) -> None:
    # from a thread, in case the loop is stuck
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def end(code: int) -> None:
    """End the process at once; what was printed is kept."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
