"""Where Kafka is and how to get in: addresses, TLS and login, in each client library's terms.

`streams/kafka/clients.py` makes every client from a `KafkaAccess`, so that none is forgotten when
the cluster asks for TLS. The password is a `Secret` until it is handed to the library.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from schemas.errors import SettingsError
from streams.settings import Secret, Settings

__all__ = ["KafkaAccess", "kafka_access"]

_PROTOCOLS: Final = {
    "plaintext": "PLAINTEXT",
    "ssl": "SSL",
    "sasl_plaintext": "SASL_PLAINTEXT",
    "sasl_ssl": "SASL_SSL",
}


@dataclass(frozen=True)
class KafkaAccess:
    """Where the brokers are and how to get in. `KafkaAccess(("host:9092",))` is plaintext.

    security: plaintext, ssl, sasl_plaintext or sasl_ssl.
    ca_file: CA bundle (PEM) that signs the brokers' certificates; '': the system's.
    client_cert_file, client_key_file: PEM files that identify this client, or ''.
    """

    brokers: tuple[str, ...]
    security: str = "plaintext"
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    client_key_password: Secret = Secret("")  # noqa: RUF009 (immutable)
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: Secret = Secret("")  # noqa: RUF009 (immutable)

    @staticmethod
    def of(where: KafkaAccess | Iterable[str]) -> KafkaAccess:
        """`where` itself, or plain access to its `host:port` addresses."""
        return where if isinstance(where, KafkaAccess) else KafkaAccess(tuple(where))

    def __str__(self) -> str:
        return ", ".join(self.brokers)

    @property
    def tls(self) -> bool:
        return self.security in ("ssl", "sasl_ssl")

    @property
    def sasl(self) -> bool:
        return self.security in ("sasl_plaintext", "sasl_ssl")

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """Checks the broker's certificate and its name; None without TLS. Raises SettingsError."""
        if not self.tls:
            return None
        with _settings_of(self.ca_file or "the system", "TIDELINE_KAFKA_CA_FILE"):
            context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.client_cert_file:
            with _settings_of(self.client_cert_file, "TIDELINE_KAFKA_CLIENT_CERT_FILE"):
                context.load_cert_chain(
                    self.client_cert_file,
                    self.client_key_file or None,
                    # A function: without it OpenSSL would prompt for a password.
                    password=self.client_key_password.reveal,
                )
        return context

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that aiokafka's and kafka-python's clients share, without addresses."""
        options: dict[str, Any] = {"security_protocol": _PROTOCOLS[self.security]}
        if self.tls:
            options["ssl_context"] = self.ssl_context
        if self.sasl:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.reveal(),
            }
        return options

    def faust_options(self) -> dict[str, Any]:
        """Keyword arguments of `faust.App`: the broker's URL, and credentials where needed."""
        import faust  # noqa: PLC0415  (slow; only worker and learner need it)

        options: dict[str, Any] = {"broker": "tideline://" + ";".join(self.brokers)}
        if self.sasl:
            options["broker_credentials"] = faust.SASLCredentials(
                username=self.username,
                password=self.password.reveal(),
                mechanism=self.sasl_mechanism,
                ssl_context=self.ssl_context,
            )
        elif self.tls:
            options["broker_credentials"] = faust.SSLCredentials(self.ssl_context)
        return options


@contextlib.contextmanager
def _settings_of(file: str, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(f"{name}: can't use {file} for TLS: {error}. Name PEM files.") from None


def kafka_access(settings: Settings) -> KafkaAccess:
    """The settings' way to Kafka: what every client is made from."""
    kafka = settings.kafka
    return KafkaAccess(
        brokers=kafka.brokers,
        security=kafka.security,
        ca_file=kafka.ca_file,
        client_cert_file=kafka.client_cert_file,
        client_key_file=kafka.client_key_file,
        client_key_password=kafka.client_key_password,
        sasl_mechanism=kafka.sasl_mechanism,
        username=kafka.username,
        password=kafka.password,
    )
