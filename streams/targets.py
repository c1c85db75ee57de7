"""Turns settings into what the parts below them take, so that those need not know settings."""

from __future__ import annotations

from pathlib import Path

from streams.clickhouse import ClickHouseTarget
from streams.settings import Settings

__all__ = ["artifact_directory", "clickhouse_target"]


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
    )


def artifact_directory(settings: Settings) -> Path:
    """The model artifact's directory: the one set, else the one shipped."""
    if settings.model.artifact:
        return Path(settings.model.artifact)
    from models.artifact import default_artifact_path  # noqa: PLC0415  (loads onnxruntime)

    return default_artifact_path()
