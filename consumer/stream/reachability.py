"""Why a client cannot connect: the clients only log it, and raise the same error for all causes."""

import ssl

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from consumer.connection import KafkaConnection
from consumer.errors import describe

_TIMEOUT_MS = 5_000


async def why_unreachable(connection: KafkaConnection) -> str:
    """Connect to the servers by hand; name the variable that is wrong, in one line without secrets.

    Returns:
        The first cause that is more than "away"; empty when one lets us in after all.
    """
    options = connection.options()
    servers = options.pop("bootstrap_servers")
    away = ""
    for host, port, _ in collect_hosts(servers, randomize=False):
        where = f"{host}:{port}"
        try:
            client = await create_conn(host, port, request_timeout_ms=_TIMEOUT_MS, **options)
            try:
                # a listener that wants a user hangs up at the first question only
                await client.send(MetadataRequest([]))
            finally:
                client.close()
        except (OSError, KafkaError) as error:  # a TimeoutError is an OSError
            if text := _misfit(where, connection, error):
                return text
            away = away or f"KAFKA_BOOTSTRAP_SERVERS: {where} does not answer: {_said(error)}"
        else:
            return ""
    return away


def _misfit(where: str, connection: KafkaConnection, error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"KAFKA_SSL_CAFILE: the certificate of {where} is not accepted: "
                f"{error.verify_message}"
            )
        case ssl.SSLError():
            return (
                f"KAFKA_SECURITY_PROTOCOL: is {connection.security_protocol}, and {where} does "
                f"not agree on TLS: {error.reason}"
            )
        case SaslAuthenticationFailed():
            return (
                f"KAFKA_SASL_PASSWORD: {where} refuses this password of "
                f"KAFKA_SASL_USERNAME={connection.sasl_username}, or knows no such user"
            )
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return (
                f"KAFKA_SASL_MECHANISM: {where} does not take {connection.sasl_mechanism} with "
                f"KAFKA_SECURITY_PROTOCOL={connection.security_protocol}"
            )
        case KafkaError():
            # it listens, and hangs up at the first request
            return (
                f"KAFKA_SECURITY_PROTOCOL: is {connection.security_protocol}, and {where} hangs "
                "up: does it want another one?"
            )
        case _:
            return ""


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return describe(error)
