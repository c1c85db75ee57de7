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
    "alert_budget_days", "alert_episodes", "alert_history", "alert_outcomes", "audience_arms",
    "audience_members", "audience_people", "batch_minutes", "campaign_results", "canary_trips",
    "challengers", "churn_alerts_live", "console_log", "consumer_lag_live", "customer_alerts",
    "customer_contacts", "customer_events", "customer_features", "customer_points",
    "customer_scores", "customer_segments", "customer_versions", "customers",
    "dead_letter_reasons", "dead_letters_newest", "definitions_history", "drift_alerts",
    "event_groups",
    "fast_producers", "lag_minutes", "ledger", "model_quality", "open_alerts", "past_lives",
    "quality_by_evidence", "quality_days", "recent_ledger", "rfm_cells", "scores_live",
    "segment_flow", "segment_flow_hours", "segment_members", "segment_size_hours",
    "segment_sizes", "segment_sizes_now", "worker_clocks",
}  # fmt: skip
FED = {
    "audience_entries", "judged_predictions", "lag_now", "lives", "segment_entries",
    "segment_hours", "user_alerts", "user_points", "users_now",
}  # fmt: skip
"""Tables that a materialized view writes."""
ENDED = {"latest_scores"}
"""Tables that nothing writes or reads any more."""
FEEDS = {f"{table}_feed" for table in FED}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_exactly_the_columns_of_the_contract(client: Client, table: str) -> None:
    described = [(row[0], row[1]) for row in client.execute(f"DESCRIBE TABLE {table}")]
    inserted_at = ("inserted_at", "DateTime64(3, 'UTC')")
    assert described == [*TABLES[table].columns.items(), inserted_at]


def test_users_now_has_the_columns_of_score_history(client: Client) -> None:
    query = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = "
    history = client.execute(f"{query} 'score_history' ORDER BY position")
    now = client.execute(f"{query} 'users_now' ORDER BY position")
    assert sorted(now) == sorted(history)
    # as it was when its feed ended
    older = client.execute(f"{query} 'latest_scores' ORDER BY position")
    later = ("segments", "value_365d")
    assert older == [column for column in history if not column[0].startswith(later)]


def test_there_are_no_other_tables(client: Client) -> None:
    names = {name for (name,) in client.execute("SHOW TABLES")}
    ours = {
        *TABLES, *VIEWS, *FEEDS, *FED, *ENDED, "ended_lives", "erasures", "schema_migrations",
    }  # fmt: skip
    assert names == ours


def test_every_column_and_table_says_what_it_is(client: Client) -> None:
    here = "WHERE database = currentDatabase() AND comment = ''"
    silent = client.execute(f"SELECT table, name FROM system.columns {here}")
    assert [row for row in silent if row[0] not in FEEDS] == []
    silent = client.execute(f"SELECT name FROM system.tables {here}")
    assert {name for (name,) in silent} == FEEDS


@pytest.mark.parametrize("table", [*TABLES, *sorted(FED)])
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
            twice = ("IF NOT EXISTS", "IF EXISTS", "CREATE OR REPLACE VIEW", "MODIFY TTL")
            # What is inserted twice is there once: each table replaces by a deterministic key.
            again = re.match(r"INSERT INTO (\w+)", statement)
            fed = again is not None and again[1] in FED | {"segment_totals"}
            assert fed or any(words in statement for words in twice), statement


def test_migrations_are_numbered_without_gaps() -> None:
    assert [m.version for m in available()] == list(range(1, len(available()) + 1))


def test_segment_sizes_names_every_segment_of_the_contract(client: Client) -> None:
    rows = client.execute("SELECT dimension, segment FROM segment_sizes")
    assert sorted(rows) == sorted((d, s) for d, names in DIMENSIONS.items() for s in names)


def test_the_sink_writes_every_table_and_batches_last() -> None:
    assert sorted(INSERT_ORDER) == sorted(TABLES)
    assert INSERT_ORDER[-1] == "batches"
