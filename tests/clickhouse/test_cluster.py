"""`tideline migrate` on a cluster: two real servers have every table, and the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import Error

from schemas.errors import SinkRefused
from schemas.tables import TABLES
from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import Migration, available, migrate, split_statements
from streams.local.process import wait_until
from tests.clickhouse.cluster import CLUSTER, ReplicatedClickHouse, missing
from tests.faults.old_clickhouse import known, lowered

pytestmark = [
    pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]  # fmt: skip

WAIT_SECONDS = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ReplicatedClickHouse]:
    with ReplicatedClickHouse(tmp_path / "cluster") as running:
        yield running


def tables_only() -> list[Migration]:
    """Every statement about a table, in these servers' words. Their views are of another time."""
    return [
        replace(
            migration,
            sql=";\n".join(
                lowered(statement)
                for statement in split_statements(migration.sql)
                if statement.startswith(("CREATE TABLE", "ALTER TABLE")) and known(statement)
            ),
        )
        for migration in available()
    ]


def rows(client: Client, table: str) -> int:
    ((count,),) = client.execute(f"SELECT count() FROM {table}")
    return int(count)


def engines(client: Client) -> dict[str, str]:
    found = client.execute("SELECT name, engine FROM system.tables WHERE database = 'tideline'")
    return dict(found)


def test_both_servers_have_all_tables_and_rows_and_one_may_be_away(
    cluster: ReplicatedClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_RECORDS", lowered(migrations._RECORDS))
    one, two = (
        ClickHouseTarget(server.host, server.port, cluster=CLUSTER) for server in cluster.servers
    )
    migrate(one, migrations=tables_only())
    with connect(one) as first, connect(two) as second:
        here, there = engines(first), engines(second)
        assert here == there
        assert set(TABLES) <= set(here)
        assert set(here.values()) == {"ReplicatedReplacingMergeTree"}
        done = migrations._applied(first)
        assert wait_until(lambda: migrations._applied(second) == done, WAIT_SECONDS)
        assert migrate(two, migrations=tables_only()) == [], "the other server knows what was done"

        insert = "INSERT INTO segment_changes (user_id, shard) VALUES"
        first.execute(insert, [("ann", 1)])
        assert wait_until(lambda: rows(second, "segment_changes") == 1, WAIT_SECONDS)

        cluster.servers[0].kill()
        second.execute(insert, [("bob", 1)])
        cluster.servers[0].start()

        def has_caught_up() -> bool:
            try:
                return rows(first, "segment_changes") == 2
            except (Error, EOFError):
                first.disconnect()
                return False

        assert wait_until(has_caught_up, WAIT_SECONDS)
    with pytest.raises(SinkRefused, match="tables that are replicated"):
        migrate(replace(one, cluster=""), migrations=tables_only())
