"""Migrations on a cluster: each statement for all servers, each table replicated.

ClickHouse parses them here. chDB knows no cluster, so that it does not run them.
"""

from __future__ import annotations

import re

import pytest
from clickhouse_driver import Client

from schemas.errors import SinkRefused
from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.migrations import available, migrate, split_statements
from streams.clickhouse.replicated import on_cluster
from streams.settings import Settings, override

STATEMENTS = [
    migrations._RECORDS.strip(),
    *(statement for file in available() for statement in split_statements(file.sql)),
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: text.splitlines()[0][:60])
def test_every_definition_is_for_the_whole_cluster(statement: str) -> None:
    made = on_cluster(statement, "shop")
    if statement.startswith(("INSERT", "SELECT")):
        assert made == statement
        return
    assert made.count(" ON CLUSTER `shop`") == 1
    assert "ENGINE = ReplacingMergeTree" not in made
    tables = len(re.findall(r"^CREATE TABLE", statement))
    assert made.count("ENGINE = ReplicatedReplacingMergeTree(") == tables
    assert on_cluster(statement, "") == statement


@pytest.mark.clickhouse
def test_clickhouse_parses_every_one(client: Client) -> None:
    for statement in STATEMENTS:
        ((text,),) = client.execute("SELECT formatQuery(%(q)s)", {"q": on_cluster(statement, "s")})
        if not statement.startswith(("INSERT", "SELECT")):
            assert "ON CLUSTER s" in text, statement
        if statement.startswith("CREATE TABLE"):
            assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/" in text


def test_the_column_that_decides_which_row_stays_is_kept() -> None:
    (latest,) = (s for s in STATEMENTS if s.startswith("CREATE TABLE IF NOT EXISTS latest_scores"))
    assert "'{replica}', seq)" in on_cluster(latest, "shop")


@pytest.mark.parametrize(
    "statement",
    ["CREATE DICTIONARY x (a Int8)", "RENAME TABLE a TO b", "CREATE TABLE x (a Int8) ENGINE = Log"],
)
def test_what_is_not_known_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match="not known how to"):
        on_cluster(statement, "shop")


@pytest.mark.clickhouse
def test_a_database_is_replicated_as_a_whole_or_not_at_all(target: ClickHouseTarget) -> None:
    settings = override(Settings(), clickhouse_cluster="shop")
    assert clickhouse_target(settings).cluster == "shop"
    there = ClickHouseTarget(
        target.host, target.port, target.database, cluster="shop",
        connect_timeout_seconds=target.connect_timeout_seconds,
    )  # fmt: skip
    with pytest.raises(SinkRefused, match="creating database"):
        migrate(there)
    with connect(target) as client, pytest.raises(SinkRefused, match="tables that are not") as no:
        migrations._refuse_half_replicated(client, there)
    assert "unset TIDELINE_CLICKHOUSE_CLUSTER (shop)" in str(no.value)
