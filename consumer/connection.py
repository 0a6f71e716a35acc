"""How to reach Kafka, and by which names: what every client of this package is given."""

import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Addresses and credentials; the password stays out of every repr."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def options(self) -> dict[str, Any]:
        """Give the keyword arguments that all clients share.

        Raises:
            OSError, ssl.SSLError: A certificate file cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if "SSL" in self.security_protocol:
            options["ssl_context"] = ssl_context(
                self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile
            )
        if "SASL" in self.security_protocol:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options


def ssl_context(cafile: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    """Make a context that checks certificates and host names.

    Args:
        cafile: Authorities to trust; the system's when None.
        certfile: The client's own certificate, if it has one.
        keyfile: Its key; in `certfile` when None.

    Raises:
        OSError, ssl.SSLError: A file cannot be read, or is none.
    """
    context = ssl.create_default_context(cafile=cafile)
    if certfile is not None:
        # a key that wants a password is refused; without one given it would be asked for on the terminal
        context.load_cert_chain(certfile, keyfile, password="")
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The topics by their part; `candles` and `pool` may be empty."""

    signals: str
    trades: str
    decisions: str
    dead_letters: str
    candles: str = ""
    pool: str = ""

    @property
    def inputs(self) -> list[str]:
        """Topics whose records the worker works off, or refuses."""
        return [self.signals, self.trades, *filter(None, [self.candles])]

    @property
    def co_partitioned(self) -> list[str]:
        """Topics in which one partition number owns a symbol."""
        return [self.signals, *self.memory]

    @property
    def memory(self) -> list[str]:
        """Topics from which the table can be folded anew."""
        candles = [self.candles] if self.candles else []
        return [self.trades, self.decisions, *candles]

    @property
    def lone(self) -> list[str]:
        """Topics whose partitions own no symbols."""
        return [self.dead_letters, *filter(None, [self.pool])]

    @property
    def kept(self) -> list[str]:
        """Topics that are never compacted or deleted: what decisions name must stay."""
        return [*self.memory, *filter(None, [self.pool])]
