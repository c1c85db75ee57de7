"""A real ClickHouse (chDB behind the local front), and a migrated, empty database per test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client

from schemas.tables import TABLES
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import migrate
from streams.local.clickhouse import ChdbServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(clickhouse: ChdbServer) -> ChdbServer:
    return clickhouse


@pytest.fixture
def empty_target(server: ChdbServer) -> Iterator[ClickHouseTarget]:
    """A database that does not exist yet; dropped behind the test, since each keeps files open."""
    name = f"test_{next(_numbers)}"
    yield ClickHouseTarget(server.host, server.port, database=name, send_receive_timeout_seconds=20)
    with connect(ClickHouseTarget(server.host, server.port, database="default")) as connected:
        connected.execute(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture(scope="session")
def spare_targets() -> list[tuple[ClickHouseTarget, object]]:
    """Migrated databases that no test uses now, without rows, and what they were made as."""
    return []


@pytest.fixture
def target(
    server: ChdbServer, spare_targets: list[tuple[ClickHouseTarget, object]]
) -> Iterator[ClickHouseTarget]:
    """A migrated database without rows.

    It goes from test to test, since emptying one takes a tenth of the processor time that making
    one does; but not if the test left other tables, views or migrations in it.
    """
    if spare_targets:
        target, made = spare_targets.pop()
    else:
        name = f"test_{next(_numbers)}"
        target = ClickHouseTarget(server.host, server.port, name, send_receive_timeout_seconds=20)
        migrate(target)
        with connect(target) as connected:
            made = _made(connected)
    yield target
    with connect(target) as connected:
        if _made(connected) == made:
            _empty(connected)
            spare_targets.append((target, made))
        else:
            connected.execute(f"DROP DATABASE {target.database}")


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


@pytest.fixture
def client(target: ClickHouseTarget) -> Iterator[Client]:
    with connect(target) as connected:
        yield connected


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[ChdbServer]:
    """A server of the test's own, to kill."""
    with ChdbServer(tmp_path / "data") as running:
        yield running


def _zero(kind: str) -> Any:
    if kind.startswith("Array"):
        return []
    return "" if "String" in kind else 0


@pytest.fixture
def columns() -> Callable[..., dict[str, list[Any]]]:
    """columns(table, n, name=[...] or value): all columns of `n` rows, zero unless given."""

    def build(table: str, n: int, **given: Any) -> dict[str, list[Any]]:
        kinds = TABLES[table].columns
        assert given.keys() <= kinds.keys()
        filled = {name: given.get(name, _zero(kind)) for name, kind in kinds.items()}
        return {
            name: value if isinstance(value, list) and not (value == [] and n) else [value] * n
            for name, value in filled.items()
        }

    return build


@pytest.fixture
def put(client: Client) -> Callable[..., None]:
    """put(table, {column: value}, ...): insert each row twice, in separate blocks, unmerged."""

    def insert(table: str, *rows: dict[str, Any]) -> None:
        kinds = TABLES[table].columns
        names = ", ".join(kinds)
        values = [[row.get(name, _zero(kind)) for name, kind in kinds.items()] for row in rows]
        client.execute(f"SYSTEM STOP MERGES {table}")
        for _ in range(2):
            # A new token, or the second block would be taken for a retry and dropped.
            token = {"insert_deduplication_token": str(next(_numbers))}
            client.execute(f"INSERT INTO {table} ({names}) VALUES", list(values), settings=token)

    return insert
