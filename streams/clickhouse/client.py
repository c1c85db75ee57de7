"""Where ClickHouse is, and how a connection to it is made.

Every connection is made here, so that timeouts and names in the server's logs are the same
everywhere.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from clickhouse_driver import Client

from schemas.errors import SettingsError
from streams.settings import Settings

__all__ = ["ClickHouseTarget", "clickhouse_target", "connect"]


@dataclass(frozen=True)
class ClickHouseTarget:
    """Where the tables are, and how long to wait for them. `repr` hides the password."""

    host: str
    port: int = 9000
    """The native protocol's port: 9000, or 9440 with TLS (not the HTTP port 8123)."""
    database: str = "tideline"
    user: str = "default"
    password: str = field(default="", repr=False)
    secure: bool = False
    """TLS, with the server's certificate and its name checked; that can't be switched off."""
    ca_file: str = ""
    """CA bundle (PEM) that signs the server's certificate; '': the system's."""
    connect_timeout_seconds: float = 5.0
    send_receive_timeout_seconds: float = 60.0
    cluster: str = ""
    """On whose servers tables are made, replicated; '': on this server alone, not replicated."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


def connect(target: ClickHouseTarget, database: str | None = None) -> Client:
    """A client for one thread; it connects on its first query, and again after an error.

    `database` overrides the target's; '' is the server's default, which always exists. Raises
    SettingsError if the CA bundle can't be used.
    """
    if target.secure and target.ca_file:
        try:
            ssl.create_default_context(cafile=target.ca_file)
        except (OSError, ValueError) as error:  # the driver would report a network error
            raise SettingsError(
                f"TIDELINE_CLICKHOUSE_CA_FILE: can't use {target.ca_file}: {error}. "
                "Name a PEM file."
            ) from None
    return Client(
        target.host,
        port=target.port,
        database=target.database if database is None else database,
        user=target.user,
        password=target.password,
        secure=target.secure,
        verify=True,
        ca_certs=target.ca_file or None,
        client_name="tideline",
        connect_timeout=target.connect_timeout_seconds,
        send_receive_timeout=target.send_receive_timeout_seconds,
        sync_request_timeout=target.connect_timeout_seconds,
        # Off: it needs two more packages, and rows are packed columns already.
        compression=False,
    )


def clickhouse_target(settings: Settings) -> ClickHouseTarget:
    """The settings' ClickHouse. The password is unmasked here."""
    here = settings.clickhouse
    return ClickHouseTarget(
        host=here.host,
        port=here.port,
        database=here.database,
        user=here.user,
        password=here.password.reveal(),
        secure=here.secure,
        ca_file=here.ca_file,
        cluster=here.cluster,
    )
