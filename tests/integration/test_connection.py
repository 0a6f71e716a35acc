"""What a connection needs is looked at when the settings are read, not when it is first used."""

import ssl
import subprocess
from pathlib import Path

import pytest

from consumer import settings
from consumer.errors import SettingsError

SECRET = "canary-7d1f"  # noqa: S105  it is none


@pytest.fixture
def junk(tmp_path: Path) -> str:
    file = tmp_path / "junk.pem"
    file.write_text("no certificate\n")
    return str(file)


def test_authorities_that_are_none_are_refused(junk: str) -> None:
    with pytest.raises(SettingsError, match=r"^KAFKA_SSL_CAFILE: .*junk\.pem holds no certificate"):
        settings.load(kafka_security_protocol="SSL", kafka_ssl_cafile=junk)


def test_a_client_certificate_that_is_none_is_refused(junk: str) -> None:
    with pytest.raises(SettingsError, match=r"^KAFKA_SSL_CERTFILE: .*junk\.pem"):
        settings.load(
            kafka_security_protocol="SSL", kafka_ssl_certfile=junk, kafka_ssl_keyfile=junk
        )


def test_a_key_that_wants_a_password_is_refused_instead_of_asking(tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and a worker would wait there for ever."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-passout", f"pass:{SECRET}", "-keyout", key, "-out", certificate),
            *("-subj", "/CN=x"),
        ],
        check=True,
        capture_output=True,
    )

    with pytest.raises(SettingsError, match="KAFKA_SSL_KEYFILE"):
        settings.load(
            kafka_security_protocol="SSL",
            kafka_ssl_certfile=str(certificate),
            kafka_ssl_keyfile=str(key),
        )


def test_certificates_and_host_names_are_checked() -> None:
    connection = settings.load(kafka_security_protocol="SSL").connection

    context = connection.options()["ssl_context"]

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("foo=bar", "foo"),
        ("socket_timeout=abc", "socket_timeout"),
        (f"socket_timeout={SECRET}", "socket_timeout"),
        ("db=x", "db"),
        (f"ssl_cert_reqs={SECRET}", ""),
    ],
)
def test_parameters_of_the_url_that_the_client_does_not_take(query: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^REDIS_URL: .*{name}") as refused:
        settings.load(redis_url=f"rediss://worker:{SECRET}@host:6379/0?{query}")

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("query", ["", "?ssl_ca_certs=/etc/ssl/ca.crt", "?socket_timeout=2"])
def test_parameters_that_it_takes(query: str) -> None:
    url = f"rediss://worker:{SECRET}@host:6379/0{query}"

    assert settings.load(redis_url=url).redis_url.get_secret_value() == url
