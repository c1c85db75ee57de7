"""Databases with Tideline's tables and no rows, which go from test to test.

To empty one takes a tenth of the processor time that all the migrations take, which make one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from clickhouse_driver import Client

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate

__all__ = ["Databases"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class _Made:
    """A database, and what it was when its migrations were through."""

    target: ClickHouseTarget
    stamps: list[tuple[str, str, int]]
    """Of each table and view: name, uuid, and the second since 1970 in which its definition was
    written."""
    definitions: object
    migrations: object


class Databases:
    """Those of one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._spare: list[_Made] = []
        """Those that no test uses now."""

    @contextmanager
    def lent(self) -> Iterator[ClickHouseTarget]:
        """One that is as new. It is dropped, in place of used again, if other tables, views or
        migrations are in it afterwards."""
        made = self._spare.pop() if self._spare else self._new()
        lent_s = time.time()
        yield made.target
        with connect(made.target) as client:
            if _is_as_made(client, made, lent_s):
                _empty(client)
                self._spare.append(made)
            else:
                client.execute(f"DROP DATABASE {made.target.database}")

    def _new(self) -> _Made:
        name = f"lent_{next(_numbers)}"
        target = ClickHouseTarget(self._host, self._port, name, send_receive_timeout_seconds=20)
        migrate(target)
        with connect(target) as client:
            return _Made(target, _stamps(client), _definitions(client), _migrations(client))


def _is_as_made(client: Client, made: _Made, lent_s: float) -> bool:
    """Whether it is what it was, but for the rows that tests write. What was changed since
    `lent_s`, by the clock of this machine, on which the server runs, has a later stamp than that.
    Definitions are read only where a stamp is as young as a change would be: it takes ten times as
    long as to read the stamps."""
    if _stamps(client) != made.stamps or _migrations(client) != made.migrations:
        return False
    youngest_s = max(stamp for _, _, stamp in made.stamps)
    return youngest_s + 1 < lent_s or _definitions(client) == made.definitions


def _stamps(client: Client) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = client.execute(
        "SELECT name, toString(uuid), toUnixTimestamp(metadata_modification_time) "
        "FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    return found


def _definitions(client: Client) -> object:
    return client.execute(
        "SELECT name, create_table_query FROM system.tables "
        "WHERE database = currentDatabase() ORDER BY name"
    )


def _migrations(client: Client) -> object:
    return client.execute("SELECT version, sha256 FROM schema_migrations FINAL ORDER BY version")


def _empty(client: Client) -> None:
    """As new: no rows, no tokens of earlier inserts (they go with the parts), merges allowed."""
    filled = client.execute(
        "SELECT name FROM system.tables WHERE database = currentDatabase() "
        "AND total_rows > 0 AND name != 'schema_migrations'"
    )
    for (name,) in filled:
        client.execute(f"TRUNCATE TABLE {name}")
    client.execute("SYSTEM START MERGES")
