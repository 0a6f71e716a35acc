"""Every exception of this package, and what each one leads to.

MetaStrategyError
├── SettingsError    one line on the terminal, exit code 2
├── BadMessageError  the record goes to the dead letters; the next one is served
├── TransientError   the session ends and a new one joins the group; nothing is lost
├── FencedError      somebody else owns the partition now: as TransientError, and counted
└── RefusedError     the state of the servers forbids to go on: one line, exit code 1

Anything else is a bug and ends the process: its transaction is aborted, the next owner repeats it.
"""

from schemas import DeadLetterCode


class MetaStrategyError(Exception):
    """Base of what this package raises on purpose."""


class SettingsError(MetaStrategyError):
    """A setting is wrong; the message names the variable, the problem and what is allowed."""


class BadMessageError(MetaStrategyError):
    """An input record cannot be accepted.

    Args:
        code: What the dead letter says in `dlq.reason`.
        error: One line that names the field, the problem and what is allowed.
    """

    def __init__(self, code: DeadLetterCode, error: str) -> None:
        super().__init__(f"{code}: {error}")
        self.code = code
        self.error = error


class TransientError(MetaStrategyError):
    """A server did not answer, or not in time."""


class FencedError(MetaStrategyError):
    """Another owner took a partition over, or a transaction outlived its time limit."""


class RefusedError(MetaStrategyError):
    """What the servers hold does not fit: going on would do harm. The message names the way out."""


def describe(error: BaseException) -> str:
    """Say what an error says; its class, when that is nothing."""
    return str(error) or type(error).__name__
