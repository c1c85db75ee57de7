"""Finds out whether Kafka accepts our connection and login, and explains why not.

aiokafka and kafka-python both hide the reason behind "unable to bootstrap".
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from schemas.errors import BrokerUnavailable, SettingsError, TidelineError
from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["explain", "probe", "probe_now", "require_reachable", "speaks_tls"]

_GOODBYE_SECONDS: Final = 1.0

# By name: aiokafka and kafka-python both have these, and are imported with their first client only.
_REFUSED: Final = frozenset(
    {
        "AuthenticationFailedError",
        "SaslAuthenticationFailed",
        "SaslAuthenticationFailedError",
        "UnsupportedSaslMechanismError",
        "IllegalSaslStateError",
    }
)


async def probe(access: KafkaAccess, timeout_seconds: float = 10.0) -> None:
    """Connect to any broker, shake hands and log in, once; then hang up.

    Raises SettingsError, which names the setting, if the broker refuses our login or its
    certificate is not trusted, and BrokerUnavailable if no broker answers.
    """
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    failures: list[TidelineError] = []
    for broker in access.brokers:
        host, _, port = broker.rpartition(":")
        connection = clients.connection(
            access,
            host.strip("[]"),
            int(port),
            client_id="tideline-probe",
            request_timeout_ms=int(timeout_seconds * 1000),
        )
        try:
            await connection.connect()
        except OSError as error:  # no listener, or no TLS; TimeoutError is one too
            failures.append(explain(access, error, broker))
        except KafkaError as error:
            await _hang_up(connection)
            failures.append(explain(access, error, broker))
        else:
            await _hang_up(connection)
            return
    # A refusal says more than a broker that is down.
    failures.sort(key=lambda failure: not isinstance(failure, SettingsError))
    raise failures[0]


async def _hang_up(connection: Any) -> None:
    """Close, and wait until the socket is closed: our event loop may end right after."""
    await asyncio.wait({connection.close()}, timeout=_GOODBYE_SECONDS)


def probe_now(access: KafkaAccess, timeout_seconds: float = 10.0) -> None:
    """`probe`, for callers without an event loop."""
    asyncio.run(probe(access, timeout_seconds))


def require_reachable(where: KafkaAccess | Sequence[str], timeout_seconds: float = 10.0) -> None:
    """Return if any broker accepts us. Raises what `probe` does.

    Call it before any blocking client is made: one that can't bootstrap raises, but never
    closes its IO thread and four file descriptors, and a monitor tries every few seconds.
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


def speaks_tls(access: KafkaAccess, timeout_seconds: float = 5.0) -> bool | None:
    """Whether a listener speaks TLS, even with an untrusted certificate; None if none listens."""
    listens = False
    for broker in access.brokers:
        host, _, port = broker.rpartition(":")
        host = host.strip("[]")
        try:
            with socket.create_connection((host, int(port)), timeout_seconds) as plain:
                listens = True
                ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError:
            return True  # it has a certificate, which is all that is asked here
        except OSError:
            continue
        return True
    return False if listens else None


def explain(access: KafkaAccess, error: BaseException, broker: str = "") -> TidelineError:
    """The reason of a failed connection, as an error of ours that names the setting to check."""
    at = broker or str(access)
    if isinstance(error, ssl.SSLCertVerificationError):
        bundle = access.ca_file or "the system's"
        return SettingsError(
            f"The certificate of Kafka at {at} is not trusted: {error.verify_message}. Set "
            f"TIDELINE_KAFKA_CA_FILE to the brokers' CA bundle (now: {bundle}), and "
            "TIDELINE_KAFKA_BROKER_URL to hosts that the certificates name."
        )
    if isinstance(error, ssl.SSLError):
        return SettingsError(
            f"The TLS handshake with Kafka at {at} failed: {error.reason or error}. Check that "
            "TIDELINE_KAFKA_BROKER_URL names a TLS listener, that TIDELINE_KAFKA_SECURITY "
            f"({access.security}) is the listener's, and TIDELINE_KAFKA_CLIENT_CERT_FILE if it "
            "needs a client certificate."
        )
    if type(error).__name__ in _REFUSED:
        reason = str(error) or type(error).__name__
        return SettingsError(
            f"Kafka at {at} refuses the login of user {access.username}: {reason}. Check "
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
