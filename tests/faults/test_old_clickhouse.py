"""The old server takes our DDL, lowered, and our inserts; what it can't do is what we say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_driver.errors import ServerException

from schemas.lives import first_of
from schemas.tables import TABLES
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import available, split_statements
from tests.faults.old_clickhouse import NOT_THERE, OldClickHouse, lowered, missing, prepare

pytestmark = pytest.mark.clickhouse


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ClickHouseTarget]:
    why = missing()
    if why is not None:
        pytest.skip(why)
    with OldClickHouse(tmp_path / "server") as server:
        found = ClickHouseTarget(server.host, server.port, database="lowered")
        prepare(found)
        yield found


def test_every_table_and_nearly_every_view_is_there_and_answers(target: ClickHouseTarget) -> None:
    ddl = "".join(migration.sql for migration in available())
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", ddl))
    views = set(re.findall(r"CREATE VIEW IF NOT EXISTS (\w+)", ddl))
    assert tables >= set(TABLES)
    with connect(target) as client:
        for name in tables | views - set(NOT_THERE):
            client.execute(f"SELECT * FROM {name}")


def test_lives_are_fed_and_followed_there_too(target: ClickHouseTarget) -> None:
    began, again = 1_790_000_000, 1_790_600_000
    with connect(target) as client:
        for shard, life in ((0, 0), (0, again), (1, began), (1, again), (2, 0)):
            row = [(shard, first_of(life))]
            client.execute("INSERT INTO batches (shard, seq) VALUES", row)
        past = client.execute("SELECT shard, life FROM past_lives ORDER BY shard, life")
    assert past == [(0, 0), (1, 0), (1, began)]


@pytest.mark.parametrize("view", NOT_THERE)
def test_a_view_that_is_left_out_can_not_be_made(target: ClickHouseTarget, view: str) -> None:
    *_, statement = (
        statement
        for migration in available()
        for statement in split_statements(migration.sql)
        if f"CREATE VIEW IF NOT EXISTS {view}\n" in statement
    )
    with connect(target) as client, pytest.raises(ServerException):
        client.execute(lowered(statement))


def test_a_server_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "apt-get install clickhouse-server" in (missing() or "")
