"""Brings ClickHouse's tables up to date: numbered SQL files, applied in order, once each.

1. Create the database and the `schema_migrations` table if they are missing.
2. Compare every file already applied with its recorded hash; refuse if one was edited since.
3. For each missing file, in order: run its statements, then record it.

ClickHouse has no transactions for these statements, so each must be able to run twice
(`IF NOT EXISTS`; a test checks). Then an interrupted run is finished by the next one, and two
runs at the same time do the same work and record the same rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from clickhouse_driver import Client
from clickhouse_driver.errors import ErrorCodes, ServerException

from schemas.errors import SinkRefused
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.replicated import on_cluster

__all__ = ["Migration", "available", "migrate", "pending", "split_statements"]

_RECORDS: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32 COMMENT 'Number of the migration file',
    name       String COMMENT 'Its name, without the number',
    sha256     String COMMENT 'Hash of its text when it was applied, in hex',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was applied, UTC'
)
ENGINE = ReplacingMergeTree
ORDER BY version
COMMENT 'Migrations that this database has had'
"""

_WITH_ENGINE: Final = (
    "SELECT name FROM system.tables WHERE database = %(database)s AND engine = %(engine)s "
    "ORDER BY name"
)

_FILE_NAME: Final = re.compile(r"(\d{3})_(\w+)\.sql")

_TOKEN: Final = re.compile(
    r"""
      --[^\n]*                      # a comment to the end of the line
    | /\*.*?(?:\*/|\Z)              # a comment in the middle
    | '(?:[^'\\]|\\.|'')*'          # a string; '' and \' are quotes inside it
    | "(?:[^"\\]|\\.|"")*"          # quoted names
    | `(?:[^`\\]|\\.|``)*`
    | ;
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hash of the text, in hex: an applied file must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.version:03d}_{self.name}"


def available() -> list[Migration]:
    """The migrations of this version of Tideline, in order."""
    found = []
    for file in resources.files("schemas").joinpath("clickhouse").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            sql = file.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), match[2], sql))
    return sorted(found, key=lambda migration: migration.version)


def split_statements(sql: str) -> Iterator[str]:
    """The statements of a file, without comments; semicolons in strings and comments don't split.

    >>> list(split_statements("SELECT ';' -- a; comment\\n; SELECT 2 /* ; */"))
    ["SELECT ';'", 'SELECT 2']
    """
    statement: list[str] = []
    at = 0
    for token in _TOKEN.finditer(sql):
        statement.append(sql[at : token.start()])
        at = token.end()
        text = token.group()
        if text == ";":
            yield from _finished(statement)
            statement = []
        elif text.startswith(("--", "/*")):
            statement.append(" ")  # a comment parts words, as ClickHouse has it
        else:
            statement.append(text)
    statement.append(sql[at:])
    yield from _finished(statement)


def _finished(pieces: Sequence[str]) -> Iterator[str]:
    statement = "".join(pieces).strip()
    if statement:
        yield statement


def migrate(
    target: ClickHouseTarget,
    progress: Callable[[Migration], None] | None = None,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """Apply what is missing, by the numbered steps above; returns what this run applied.

    Args:
        target: its database is created if need be.
        progress: called after each applied migration.
        migrations: in place of those of this version.

    Raises:
        SinkUnavailable: ClickHouse does not answer; run it again later.
        SinkRefused: an applied file was edited since, or ClickHouse refused a statement.
    """
    files = available() if migrations is None else list(migrations)
    doing = f"creating database {target.database}"
    try:
        with connect(target, database="") as client:
            create = f"CREATE DATABASE IF NOT EXISTS {_quoted(target.database)}"
            client.execute(on_cluster(create, target.cluster))
        with connect(target) as client:
            doing = "reading schema_migrations"
            _refuse_half_replicated(client, target)
            client.execute(on_cluster(_RECORDS.strip(), target.cluster))
            missing = _missing(files, _applied(client), target)
            for migration in missing:
                doing = f"applying migration {migration}"
                for statement in split_statements(migration.sql):
                    client.execute(on_cluster(statement, target.cluster))
                client.execute(
                    "INSERT INTO schema_migrations (version, name, sha256) VALUES",
                    [(migration.version, migration.name, migration.sha256)],
                )
                if progress is not None:
                    progress(migration)
    except SinkRefused:
        raise
    except Exception as exc:
        raise sink_error(exc, doing, target) from exc
    return missing


def pending(
    target: ClickHouseTarget, migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """The migrations that this database still needs; changes nothing.

    Raises: as `migrate`.
    """
    files = available() if migrations is None else list(migrations)
    try:
        with connect(target) as client:
            return _missing(files, _applied(client), target)
    except SinkRefused:
        raise
    except ServerException as exc:
        if exc.code in (ErrorCodes.UNKNOWN_DATABASE, ErrorCodes.UNKNOWN_TABLE):
            return files
        raise sink_error(exc, "reading schema_migrations", target) from exc
    except Exception as exc:
        raise sink_error(exc, "reading schema_migrations", target) from exc


def _refuse_half_replicated(client: Client, target: ClickHouseTarget) -> None:
    """All of a database's tables are replicated, or none is: the setting can't change that."""
    engine = "ReplacingMergeTree" if target.cluster else "ReplicatedReplacingMergeTree"
    others = client.execute(_WITH_ENGINE, {"database": target.database, "engine": engine})
    if not others:
        return
    what, fix = (
        ("not replicated", f"or unset TIDELINE_CLICKHOUSE_CLUSTER ({target.cluster})")
        if target.cluster
        else ("replicated", "or set TIDELINE_CLICKHOUSE_CLUSTER to their cluster")
    )
    raise SinkRefused(
        f"{target} has tables that are {what}, {others[0][0]} for one. Choose another "
        f"TIDELINE_CLICKHOUSE_DATABASE, {fix}."
    )


def _applied(client: Client) -> dict[int, str]:
    rows = client.execute("SELECT version, sha256 FROM schema_migrations FINAL")
    return {int(version): str(sha256) for version, sha256 in rows}


def _missing(
    files: Sequence[Migration], applied: dict[int, str], target: ClickHouseTarget
) -> list[Migration]:
    """Files that were not applied. Versions above ours stay: they are a newer Tideline's."""
    edited = [f for f in files if f.version in applied and applied[f.version] != f.sha256]
    if edited:
        raise SinkRefused(
            f"{target} was migrated with another text of {', '.join(map(str, edited))}. Restore "
            "the file as it was released, and put the change into a new migration with the next "
            "number."
        )
    return [f for f in files if f.version not in applied]


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
