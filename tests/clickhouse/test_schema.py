"""The SQL files say the same as the contracts in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from clickhouse_driver import Client

from schemas.segments import DIMENSIONS
from schemas.tables import TABLES
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import available, migrate, split_statements
from streams.clickhouse.sink import INSERT_ORDER
from streams.local.clickhouse import ChdbServer

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def client(server: ChdbServer) -> Iterator[Client]:
    """One database for all tests here: they only look."""
    target = ClickHouseTarget(server.host, server.port, database="schema_test")
    migrate(target)
    with connect(target) as connected:
        yield connected


VIEWS = {
    "alert_budget_days", "alert_episodes", "alert_history", "audience_arms", "audience_members",
    "campaign_results", "challengers", "churn_alerts_live", "consumer_lag_live", "drift_alerts",
    "fast_producers", "ledger", "model_quality", "past_lives", "quality_by_evidence",
    "recent_ledger", "rfm_cells", "scores_live", "segment_flow", "segment_members", "segment_sizes",
    "worker_clocks",
}  # fmt: skip
FEEDS = {"latest_scores_feed", "lives_feed"}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_exactly_the_columns_of_the_contract(client: Client, table: str) -> None:
    described = [(row[0], row[1]) for row in client.execute(f"DESCRIBE TABLE {table}")]
    inserted_at = ("inserted_at", "DateTime64(3, 'UTC')")
    assert described == [*TABLES[table].columns.items(), inserted_at]


def test_latest_scores_has_the_columns_of_score_history(client: Client) -> None:
    query = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = "
    history = client.execute(f"{query} 'score_history' ORDER BY position")
    assert client.execute(f"{query} 'latest_scores' ORDER BY position") == history


def test_there_are_no_other_tables(client: Client) -> None:
    names = {name for (name,) in client.execute("SHOW TABLES")}
    ours = {
        *TABLES, *VIEWS, *FEEDS, "ended_lives", "erasures", "latest_scores", "lives",
        "schema_migrations",
    }  # fmt: skip
    assert names == ours


def test_every_column_and_table_says_what_it_is(client: Client) -> None:
    here = "WHERE database = currentDatabase() AND comment = ''"
    silent = client.execute(f"SELECT table, name FROM system.columns {here}")
    assert [row for row in silent if row[0] not in FEEDS] == []
    silent = client.execute(f"SELECT name FROM system.tables {here}")
    assert {name for (name,) in silent} == FEEDS


@pytest.mark.parametrize("table", [*TABLES, "latest_scores", "lives"])
def test_a_table_replaces_rows_and_remembers_insert_tokens(client: Client, table: str) -> None:
    ((engine, created),) = client.execute(
        "SELECT engine, create_table_query FROM system.tables "
        f"WHERE database = currentDatabase() AND name = '{table}'"
    )
    assert engine == "ReplacingMergeTree"
    assert "non_replicated_deduplication_window = 1000" in created
    # A replay carries old event times: only the time of insertion may count.
    time_to_live = re.search(r"TTL (.*?) ", created)
    assert time_to_live is None or time_to_live[1] == "toDateTime(inserted_at)"


def test_every_statement_of_a_migration_can_run_twice() -> None:
    for migration in available():
        for statement in split_statements(migration.sql):
            twice = ("IF NOT EXISTS", "IF EXISTS", "CREATE OR REPLACE VIEW")
            assert any(words in statement for words in twice), statement


def test_migrations_are_numbered_without_gaps() -> None:
    assert [m.version for m in available()] == list(range(1, len(available()) + 1))


def test_segment_sizes_names_every_segment_of_the_contract(client: Client) -> None:
    rows = client.execute("SELECT dimension, segment FROM segment_sizes")
    assert sorted(rows) == sorted((d, s) for d, names in DIMENSIONS.items() for s in names)


def test_the_sink_writes_every_table_and_batches_last() -> None:
    assert sorted(INSERT_ORDER) == sorted(TABLES)
    assert INSERT_ORDER[-1] == "batches"
