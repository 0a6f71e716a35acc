"""Stands for a command that runs elsewhere: `python -I -S warm_client.py SOCKET KIND REQUEST`.

With the standard library's smallest parts alone: it is started hundreds of times.
"""

import array
import json
import os
import signal
import socket
import sys
import threading


def main(place: str, kind: str, request: str) -> None:
    """Have the command run; end with its exit code."""
    is_guard = kind == "guarded"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(place)
    # as the guard does it: nothing to read, and all output into the log
    files = [os.open(os.devnull, os.O_RDONLY), 2, 2] if is_guard else [0, 1, 2]
    message = json.dumps({**json.loads(request), "directory": os.getcwd()}) + "\n"  # noqa: PTH109 - no pathlib
    encoded = message.encode()
    sent = server.sendmsg(
        [encoded], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    )
    server.sendall(encoded[sent:])
    answers = server.makefile("rb")
    pid = int(answers.readline() or b"0")

    def pass_on(number: int) -> None:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            return  # it just ended

    def obey() -> None:
        while byte := os.read(0, 1):
            pass_on(byte[0])
        pass_on(signal.SIGKILL)

    if is_guard:
        os.write(1, b"%d\n" % pid)
        threading.Thread(target=obey, daemon=True).start()
    code = answers.readline()
    # without an answer the server is gone, and what it ran with it
    os._exit(int(code) if code else 137)


if __name__ == "__main__":
    main(*sys.argv[1:])
