"""ClickHouse's errors: which are worth another try, and what the operator should do about each."""

from __future__ import annotations

import ssl
from typing import Any, Final

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import NetworkError

from schemas.errors import SinkRefused, SinkUnavailable
from streams.clickhouse.client import ClickHouseTarget

__all__ = ["RETRYABLE_CODES", "classify", "sink_error"]

RETRYABLE_CODES: Final = frozenset(
    {
        # The connection broke on either side, or a packet was cut short.
        3,  # UNEXPECTED_END_OF_FILE
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        95,  # CANNOT_READ_FROM_SOCKET
        96,  # CANNOT_WRITE_TO_SOCKET
        99,  # UNKNOWN_PACKET_FROM_CLIENT
        100,  # UNKNOWN_PACKET_FROM_SERVER
        101,  # UNEXPECTED_PACKET_FROM_CLIENT
        102,  # UNEXPECTED_PACKET_FROM_SERVER
        198,  # DNS_ERROR
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        1000,  # POCO_EXCEPTION: the server's own network library
        # The server is too busy, or short of something that comes back.
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR: its disk is full
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        173,  # CANNOT_ALLOCATE_MEMORY
        201,  # QUOTA_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        241,  # MEMORY_LIMIT_EXCEEDED
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        364,  # RECEIVED_ERROR_TOO_MANY_REQUESTS
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        692,  # TOO_MANY_MUTATIONS
        745,  # SERVER_OVERLOADED
        749,  # TCP_CONNECTION_LIMIT_REACHED
        # The server stops or starts, or someone stopped the query.
        236,  # ABORTED
        372,  # SESSION_NOT_FOUND
        373,  # SESSION_IS_LOCKED
        394,  # QUERY_WAS_CANCELLED
        473,  # DEADLOCK_AVOIDED
        677,  # THREAD_WAS_CANCELED
        722,  # ASYNC_LOAD_WAIT_FAILED
        733,  # TABLE_IS_BEING_RESTARTED
        735,  # QUERY_WAS_CANCELLED_BY_CLIENT
        # Replicas, their keeper and their object storage.
        225,  # NO_ZOOKEEPER
        242,  # TABLE_IS_READ_ONLY: a replica that lost its keeper
        244,  # UNEXPECTED_ZOOKEEPER_ERROR
        254,  # NO_ACTIVE_REPLICAS
        265,  # NO_AVAILABLE_REPLICA
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        289,  # REPLICA_IS_NOT_IN_QUORUM
        319,  # UNKNOWN_STATUS_OF_INSERT
        369,  # ALL_REPLICAS_ARE_STALE
        416,  # REPLICA_STATUS_CHANGED
        499,  # S3_ERROR
        999,  # KEEPER_EXCEPTION
    }
)
"""ClickHouse error codes after which the very same insert may succeed."""


def classify(exc: BaseException) -> type[SinkUnavailable] | type[SinkRefused]:
    """Whether `exc`, raised while using ClickHouse, is worth another try.

    Unknown codes are refused. A worker that stops with the server's message is noticed, started
    again by its supervisor (which is a retry), and loses nothing, since offsets are committed
    after the sink's acknowledgement. A worker that retries what can never succeed makes no
    progress, unnoticed.
    """
    if isinstance(exc, SinkUnavailable):
        return SinkUnavailable
    if _tls_refused(exc):
        return SinkRefused  # a wrong certificate stays wrong
    if isinstance(exc, DriverError):
        return SinkUnavailable if exc.code in RETRYABLE_CODES else SinkRefused
    # EOFError: the server closed the connection; whether the insert counts is unknown.
    if isinstance(exc, EOFError | OSError):
        return SinkUnavailable
    return SinkRefused


def _tls_refused(exc: BaseException) -> bool:
    """Whether the server's certificate is not trusted, or it has no TLS. The driver keeps only the
    text of OpenSSL's error."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return True
    has_reason = isinstance(exc, ssl.SSLError | NetworkError)
    return has_reason and any(reason in str(exc) for reason in _TLS_REASONS)


_TLS_REASONS: Final = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
_TLS_REMEDY: Final = (
    "set TIDELINE_CLICKHOUSE_CA_FILE to the CA bundle of the server's certificate, "
    "TIDELINE_CLICKHOUSE_HOST to a host that the certificate names, and TIDELINE_CLICKHOUSE_PORT "
    "to a TLS port, usually 9440"
)
_LOGIN: Final = "check TIDELINE_CLICKHOUSE_USER and TIDELINE_CLICKHOUSE_PASSWORD"
_REMEDIES: Final[dict[int, str]] = {
    16: "run `tideline migrate`",  # NO_SUCH_COLUMN_IN_TABLE
    47: "run `tideline migrate`",  # UNKNOWN_IDENTIFIER
    53: "run `tideline migrate`",  # TYPE_MISMATCH
    60: "run `tideline migrate`",  # UNKNOWN_TABLE
    81: "run `tideline migrate`",  # UNKNOWN_DATABASE
    164: "give the user a profile that is not readonly",  # READONLY
    192: _LOGIN,  # UNKNOWN_USER
    193: _LOGIN,  # WRONG_PASSWORD
    194: _LOGIN,  # REQUIRED_PASSWORD
    497: "grant the user what the message names, as deploy/clickhouse/ does",  # ACCESS_DENIED
    516: _LOGIN,  # AUTHENTICATION_FAILED
}


def sink_error(
    exc: BaseException, doing: str, target: ClickHouseTarget
) -> SinkUnavailable | SinkRefused:
    """`exc` as an error of ours: what was being done, where, and what to do about it.

    Args:
        exc: what the driver raised; raise the result `from` it.
        doing: for example "inserting 512 rows into alerts".
        target: named in the message, without its password.
    """
    kind = classify(exc)
    # Pages of stack trace follow the server's message.
    lines = str(exc).replace("DB::Exception: ", "").split("Stack trace:")[0].split()
    reason = " ".join(lines)[:500] or type(exc).__name__
    code: Any = getattr(exc, "code", None)
    if _tls_refused(exc):
        remedy = _TLS_REMEDY
    elif kind is SinkUnavailable:
        remedy = "waiting and trying again; check that ClickHouse is up and reachable"
    else:
        remedy = _REMEDIES.get(code, "fix the cause and start again; nothing is lost meanwhile")
    return kind(f"{doing} at {target}: {type(exc).__name__}: {reason} ({remedy})")
