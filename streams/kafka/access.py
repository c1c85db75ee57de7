"""How to reach Kafka: addresses, TLS and login, as each client library wants to be told.

Every Kafka client of Tideline is made with what a `KafkaAccess` gives, so that none is forgotten
when the cluster asks for TLS (a test reads the source for that). The password is a `Secret` until
it is handed to the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from schemas.errors import BrokerUnavailable, SettingsError, TidelineError
from streams.settings import Secret, Settings

__all__ = ["KafkaAccess", "explain", "kafka_access", "probe", "probe_now", "require_reachable"]

_PROTOCOLS: Final = {
    "plaintext": "PLAINTEXT",
    "ssl": "SSL",
    "sasl_plaintext": "SASL_PLAINTEXT",
    "sasl_ssl": "SASL_SSL",
}
_GOODBYE_SECONDS: Final = 1.0
_REFUSED: Final = (
    AuthenticationFailedError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
)


@dataclass(frozen=True)
class KafkaAccess:
    """Where the brokers are and how to get in. `KafkaAccess(("host:9092",))` is plaintext.

    security: plaintext, ssl, sasl_plaintext or sasl_ssl.
    ca_file: PEM file of the authorities that may sign brokers' certificates; '': the system's.
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
                    # A function: without one OpenSSL would ask for a password on the terminal.
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


async def probe(access: KafkaAccess, timeout_seconds: float = 10.0) -> None:
    """Connect to any broker, shake hands and log in, once; then hang up.

    aiokafka and kafka-python both hide why they can't get in behind "unable to bootstrap". Raises
    SettingsError, which names the setting, if the broker or its certificate refuses us, and
    BrokerUnavailable if none answers.
    """
    failures: list[TidelineError] = []
    for broker in access.brokers:
        host, _, port = broker.rpartition(":")
        connection = AIOKafkaConnection(
            host.strip("[]"),
            int(port),
            client_id="tideline-probe",
            request_timeout_ms=int(timeout_seconds * 1000),
            **access.client_options(),
        )
        try:
            await connection.connect()
        except OSError as error:  # nobody there, or no TLS with us; TimeoutError is one too
            failures.append(explain(access, error, broker))
        except KafkaError as error:
            await _hang_up(connection)
            failures.append(explain(access, error, broker))
        else:
            await _hang_up(connection)
            return
    # Who was refused learns more from it than from a broker that happens to be down.
    failures.sort(key=lambda failure: not isinstance(failure, SettingsError))
    raise failures[0]


async def _hang_up(connection: Any) -> None:
    """Close, and wait until the socket is closed: our event loop may end right after."""
    await asyncio.wait({connection.close()}, timeout=_GOODBYE_SECONDS)


def probe_now(access: KafkaAccess, timeout_seconds: float = 10.0) -> None:
    """`probe`, for callers without an event loop."""
    asyncio.run(probe(access, timeout_seconds))


def kafka_access(settings: Settings) -> KafkaAccess:
    """Where Kafka is and how to get in: what every Kafka client is made with."""
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


def require_reachable(where: KafkaAccess | Sequence[str], timeout_seconds: float = 10.0) -> None:
    """Return if any broker lets us in; raise BrokerUnavailable if none answers, or SettingsError if
    they refuse us.

    To be called before any kafka-python client is made: one that can't bootstrap raises, but leaves
    its IO thread and four file descriptors behind for good, and a monitor tries every few seconds.
    """
    access = KafkaAccess.of(where)
    if access.security != "plaintext":
        probe_now(access, timeout_seconds / len(access.brokers))
        return
    error: OSError | None = None
    for broker in access.brokers:
        host, _, port = broker.rpartition(":")
        try:
            address = (host.strip("[]"), int(port))
            socket.create_connection(address, timeout_seconds / len(access.brokers)).close()
        except OSError as refused:
            error = refused
        else:
            return
    if error is not None:
        raise explain(access, error) from error


def explain(access: KafkaAccess, error: BaseException, broker: str = "") -> TidelineError:
    """What kept us out, as an error of ours that names the setting to look at."""
    at = broker or str(access)
    if isinstance(error, ssl.SSLCertVerificationError):
        signed = f"{access.ca_file} signs" if access.ca_file else "the system's authorities sign"
        return SettingsError(
            f"Kafka at {at} shows a certificate that is not trusted: {error.verify_message}. "
            f"TIDELINE_KAFKA_CA_FILE must name the authority that signs the brokers' certificates "
            f"(now: what {signed}), and TIDELINE_KAFKA_BROKER_URL the hosts as the certificates "
            "have them."
        )
    if isinstance(error, ssl.SSLError):
        return SettingsError(
            f"Kafka at {at} does not speak TLS as asked for: {error.reason or error}. Check that "
            "TIDELINE_KAFKA_BROKER_URL names a TLS listener, that TIDELINE_KAFKA_SECURITY "
            f"({access.security}) is the listener's, and TIDELINE_KAFKA_CLIENT_CERT_FILE if it "
            "wants a certificate of ours."
        )
    if isinstance(error, _REFUSED):
        told = str(error) or type(error).__name__
        return SettingsError(
            f"Kafka at {at} refuses the login of user {access.username}: {told}. Check "
            "TIDELINE_KAFKA_USERNAME, TIDELINE_KAFKA_PASSWORD (or …_FILE) and "
            f"TIDELINE_KAFKA_SASL_MECHANISM ({access.sasl_mechanism})."
        )
    hint = (
        "that it is the TLS listener, if the broker has one (TIDELINE_KAFKA_SECURITY is plaintext)"
        if access.security == "plaintext"
        else f"that its listener speaks {access.security} (TIDELINE_KAFKA_SECURITY)"
    )
    return BrokerUnavailable(
        f"Kafka at {at} does not answer: {type(error).__name__}: {error}. Check that it runs, "
        f"that TIDELINE_KAFKA_BROKER_URL names it, and {hint}."
    )
