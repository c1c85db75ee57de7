"""A database that is full when a release comes: nothing is lost, and each release can still write.

Every migration is a level that some release may have stood at. From each, a filled database is
brought to the newest one; and then a release of that level writes into it, as it does while
workers are replaced one by one, or after going back.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_driver import Client

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import available, migrate, pending
from tests.clickhouse.test_schema import ENDED, FED

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600)]

LEVELS = [migration.version for migration in available()]
SAMPLED = {*LEVELS[::10], LEVELS[-2]}
"""`make faults` has the others. What the newest migration does to the rows of each table shows at
the level before it, and what all of them did together, at those further back."""
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # tables drop what is old
ROWS = 4
ONE_LIFE = {"life": 0, "state": "open", "version": 1, "change": "entered", "arm": "treat", "fed": 1}
"""The first life of each shard, alerts that are open, and people who are in audiences."""
_tokens = itertools.count(1)
Columns = dict[str, dict[str, str]]


def tables(client: Client, *, views: bool = False) -> list[str]:
    """The tables that are written to, or the views that are read."""
    fed = "SELECT name FROM system.tables WHERE database = currentDatabase()"
    engine = "engine = 'View'" if views else "engine LIKE '%MergeTree' AND name NOT IN"
    others = "" if views else f" ('schema_migrations', {', '.join(map(repr, sorted(FED | ENDED)))})"
    return [name for (name,) in client.execute(f"{fed} AND {engine}{others} ORDER BY name")]


def columns(client: Client) -> Columns:
    """The columns of each of `tables`, with their types."""
    return {
        table: dict(
            client.execute(
                "SELECT name, type FROM system.columns WHERE database = currentDatabase() "
                f"AND table = '{table}' AND default_kind IN ('', 'DEFAULT') ORDER BY position"
            )
        )
        for table in tables(client)
    }


def value(kind: str, name: str, i: int) -> Any:
    """A value of this type that differs between rows."""
    if kind.startswith("Array"):
        return [value(kind.removeprefix("Array(")[:-1], name, i)]
    if kind.startswith("DateTime"):
        return HOUR.replace(minute=i)
    if name == "shard" or kind == "Bool":
        return i % 2
    if name in ONE_LIFE and isinstance(ONE_LIFE[name], str) == ("String" in kind):
        return ONE_LIFE[name]
    if kind.startswith("Float"):
        return i + 0.5
    return f"{name}-{i}" if "String" in kind else i + 1


def fill(client: Client, by: Columns) -> None:
    """`ROWS` rows into each table, with these columns."""
    for table, kinds in by.items():
        # lives that were ended are others than the one that goes on
        names = {name: "ended" if table == "ended_lives" else name for name in kinds}
        rows = [[value(k, names[name], i) for name, k in kinds.items()] for i in range(ROWS)]
        token = {"insert_deduplication_token": f"filled {next(_tokens)}"}
        client.execute(f"INSERT INTO {table} ({', '.join(kinds)}) VALUES", rows, settings=token)


def contents(client: Client, by: Columns) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(client.execute(f"SELECT {', '.join(kinds)} FROM {table} FINAL"), key=str)
        for table, kinds in by.items()
    }


@pytest.mark.parametrize(
    "level",
    [n if n in SAMPLED else pytest.param(n, marks=pytest.mark.full) for n in LEVELS],
)
def test_filled_database_of_any_level_loses_nothing_and_still_takes_its_rows(
    empty_target: ClickHouseTarget, level: int
) -> None:
    its_own = [m for m in available() if m.version <= level]
    migrate(empty_target, migrations=its_own)
    with connect(empty_target) as client:
        by = columns(client)
        fill(client, by)
        before = contents(client, by)
        assert all(len(rows) == ROWS for rows in before.values())
        assert [m.version for m in migrate(empty_target)] == LEVELS[level:]
        assert contents(client, by) == before
        check_views(client, by)
        if level < 23:  # from then on shards count
            (users,) = client.execute(
                "SELECT sum(users) FROM segment_sizes_now WHERE dimension = 'value_tier'"
            )
            assert users == (ROWS,)
        # The release of that level is still there, or again. It finds nothing to migrate, and the
        # columns that it does not know have a default.
        assert pending(empty_target, its_own) == migrate(empty_target, migrations=its_own) == []
        for table in (*tables(client), *FED):
            client.execute(f"TRUNCATE TABLE {table}")
        fill(client, by)
        assert contents(client, by) == before
        check_views(client, by)


def check_views(client: Client, by: Columns) -> None:
    """Every view can be read, and shows the rows of `fill`."""
    shown = {view: client.execute(f"SELECT * FROM {view}") for view in tables(client, views=True)}
    users = {f"user_id-{i}" for i in range(ROWS)}
    assert {row[0] for row in shown["scores_live"]} == users
    if "alerts" in by:
        assert len(shown["churn_alerts_live"]) == len(shown["alert_history"]) == ROWS
    if "batches" in by:
        assert {row[0] for row in shown["ledger"]} == {0, 1}
    if "segment_changes" in by:
        assert shown["segment_members"]
    if "audience_changes" in by:
        assert len(shown["audience_members"]) == len(shown["audience_people"]) == ROWS
    # What was there before the console's tables is in them, too.
    assert {row[0] for row in shown["customers"]} == users
    assert {row[0] for row in shown["customer_points"]} == users
    if "alerts" in by:
        assert len(shown["open_alerts"]) == ROWS
    if "segment_changes" in by:
        assert len(shown["customer_segments"]) == ROWS
    if "matured_predictions" in by:
        assert sum(row[2] for row in shown["quality_days"]) == ROWS
