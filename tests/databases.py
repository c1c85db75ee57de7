"""Databases with Tideline's tables and no rows, which go from test to test.

To empty one takes a tenth of the processor time that all the migrations take, which make one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_driver import Client

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate

__all__ = ["Databases"]

_numbers = itertools.count(1)


class Databases:
    """Those of one server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._spare: list[tuple[ClickHouseTarget, object]] = []
        """Those that no test uses now, and what they were made as."""

    @contextmanager
    def lent(self) -> Iterator[ClickHouseTarget]:
        """One that is as new. It is dropped, in place of used again, if other tables, views or
        migrations are in it afterwards."""
        target, made = self._spare.pop() if self._spare else self._new()
        yield target
        with connect(target) as client:
            if _made(client) == made:
                _empty(client)
                self._spare.append((target, made))
            else:
                client.execute(f"DROP DATABASE {target.database}")

    def _new(self) -> tuple[ClickHouseTarget, object]:
        name = f"lent_{next(_numbers)}"
        target = ClickHouseTarget(self._host, self._port, name, send_receive_timeout_seconds=20)
        migrate(target)
        with connect(target) as client:
            return target, _made(client)


def _made(client: Client) -> object:
    """All that a database is but for the rows that tests write."""
    return (
        client.execute(
            "SELECT name, create_table_query FROM system.tables "
            "WHERE database = currentDatabase() ORDER BY name"
        ),
        client.execute("SELECT version, sha256 FROM schema_migrations FINAL ORDER BY version"),
    )


def _empty(client: Client) -> None:
    """As new: no rows, no tokens of earlier inserts (they go with the parts), merges allowed."""
    filled = client.execute(
        "SELECT name FROM system.tables WHERE database = currentDatabase() "
        "AND total_rows > 0 AND name != 'schema_migrations'"
    )
    for (name,) in filled:
        client.execute(f"TRUNCATE TABLE {name}")
    client.execute("SYSTEM START MERGES")
