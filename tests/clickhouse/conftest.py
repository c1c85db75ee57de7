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
