"""Turns settings into what the parts below them take, so that those need not know settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.clickhouse import ClickHouseTarget
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.pseudonyms import Pseudonyms

__all__ = [
    "clickhouse_target",
    "pseudonyms",
]


def clickhouse_target(settings: Settings) -> ClickHouseTarget:
    """Where ClickHouse is. The password leaves its mask here."""
    here = settings.clickhouse
    return ClickHouseTarget(
        host=here.clickhouse_host,
        port=here.clickhouse_port,
        database=here.clickhouse_database,
        user=here.clickhouse_user,
        password=here.clickhouse_password.reveal(),
        secure=here.clickhouse_secure,
        ca_file=here.clickhouse_ca_file,
    )


def pseudonyms(settings: Settings) -> Pseudonyms | None:
    """What replaces user ids in results; None where no key is set."""
    key = settings.privacy.pseudonym_key
    if not key.reveal():
        return None
    from streams.pseudonyms import Pseudonyms  # noqa: PLC0415  (loads the core)

    return Pseudonyms(key)
