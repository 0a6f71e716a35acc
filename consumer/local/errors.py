"""What the local stack says when it cannot do what it was asked."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot run: a jar, a binary, a port or a server is missing; shown as it is, exit 1.

    The first line says what is wrong; the last lines of a server's log may follow.
    """


class PortInUseError(StackError):
    """A server found its port taken between being chosen and being bound: take another one."""
