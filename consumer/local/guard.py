"""Run one server as a child, and end it when the process that asked for it is gone.

Started by `consumer.local.process`, by file name and with the standard library alone (25 ms):

    python -I -S guard.py COMMAND [ARGUMENT ...]

The server's pid is written to standard output. Each byte read from standard input is a signal number
to pass on, and its end means SIGKILL. The guard ends with its server, with the server's exit code.

Why this way: only the starting process holds the other end of the pipe, so the kernel closes it at
every kind of end, SIGKILL included, on Linux and macOS alike. Linux's parent-death signal fires when
the starting *thread* ends, misses a parent that is gone before it is set, and macOS has none. And a
guard that is the parent of its server, not a sibling with a list of pids, can neither miss a server
started a moment ago nor hit a stranger that was given a dead server's pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> None:
    """Start `command`, obey standard input, and end with the command's exit code."""
    # A session of its own: Ctrl-C goes to the starting process alone, which then stops its servers in
    # order; and the signals below reach whatever the server forks (Redis forks to rewrite its log).
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
    with contextlib.suppress(BrokenPipeError):  # whoever asked for it is gone, or has enough of it
        os.write(1, b"%d\n" % server.pid)

    def pass_on(number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it just ended
            os.killpg(server.pid, number)

    def obey() -> None:
        while byte := os.read(0, 1):
            pass_on(byte[0])
        pass_on(signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: pass_on(signal.SIGKILL))
    threading.Thread(target=obey, daemon=True).start()
    code = server.wait()
    # the thread is still inside read(): a regular exit would have to wait for it
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])
