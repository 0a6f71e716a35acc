"""Commands of the product without the second that each of them spends on imports.

A server process has loaded the product and forks for each command; between it and the test stands a
client process (`warm_client.py`), which lends its standard files, passes signals on and ends with the
command's exit code. The code that runs, and what ends it, are the same; demo, chaos and the stuck
workers start processes from nothing.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]
_CLIENT = Path(__file__).with_name("warm_client.py")
_LARGEST = 1 << 16


@cache
def _server() -> Path:
    """Start the server of this test process; it ends with it."""
    directory = Path(tempfile.mkdtemp(prefix="warm-"))
    place = directory / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.warm", str(place)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", "the server of warm commands did not start"

    def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        directory.rmdir()

    atexit.register(stop)
    return place


def warm_command(kind: str, arguments: Sequence[str], environment: dict[str, str]) -> list[str]:
    """Give the command line that runs `meta-strategy` with these arguments.

    Args:
        kind: `guarded` for a process that is signalled as `consumer.local.guard` is, through its
            standard input; `plain` for one with standard files of its own.
        arguments: Of `meta-strategy`.
        environment: All of its environment.
    """
    request = json.dumps({"arguments": list(arguments), "environment": environment})
    return [sys.executable, "-I", "-S", str(_CLIENT), str(_server()), kind, request]


# The server


class _Server:
    def __init__(self, place: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(place)
        self._listener.listen(64)
        self._place = place
        self._selector = selectors.DefaultSelector()
        self._ended, self._wake = socket.socketpair()
        self._ended.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._clients: dict[int, socket.socket] = {}
        """By the process id of what runs for them."""

    def serve(self) -> None:
        """Serve until standard input is closed."""
        for file in (self._listener, self._ended, sys.stdin):
            self._selector.register(file, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    self._close()
                    return
                if key.fileobj is self._listener:
                    self._start(self._listener.accept()[0])
                elif key.fileobj is self._ended:
                    self._reap()
                else:
                    self._gone(key.data)

    def _close(self) -> None:
        for pid in self._clients:
            _kill(pid)
        Path(self._place).unlink()

    def _start(self, client: socket.socket) -> None:
        message, files = _receive(client)
        pid = os.fork()
        if pid == 0:
            self._be_child(client, json.loads(message), files)
        for file in files:
            os.close(file)
        self._clients[pid] = client
        self._selector.register(client, selectors.EVENT_READ, pid)
        client.sendall(b"%d\n" % pid)

    def _be_child(self, client: socket.socket, request: dict[str, Any], files: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for other in (client, self._listener, self._ended, self._wake, *self._clients.values()):
            other.close()
        self._selector.close()
        os.chdir(request["directory"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(request["environment"])
        random.seed()
        os._exit(_run(request["arguments"]))

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ended.recv(_LARGEST)
        while self._clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = self._clients.pop(pid)
            with contextlib.suppress(KeyError):  # it went before its process did
                self._selector.unregister(client)
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                client.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
            client.close()

    def _gone(self, pid: int) -> None:
        """The client sends nothing: it has ended."""
        self._selector.unregister(self._clients[pid])
        _kill(pid)


def _receive(client: socket.socket) -> tuple[bytes, list[int]]:
    """Read a line of JSON, and three files that came with it."""
    files = array.array("i")
    message, ancillary, _, _ = client.recvmsg(_LARGEST, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, content in ancillary:
        files.frombytes(content)
    while not message.endswith(b"\n"):
        message += client.recv(_LARGEST)
    return message, list(files)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _run(arguments: list[str]) -> int:
    """Run the command line as the console script does; give the exit code."""
    sys.argv = ["meta-strategy", *arguments]
    code: Any = 0
    try:
        importlib.import_module("consumer.cli.main").main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def _load() -> None:
    from consumer.cli import main

    for module, _ in main._COMMANDS.values():
        importlib.import_module(module.partition(":")[0])
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _load()
    _Server(sys.argv[1]).serve()
