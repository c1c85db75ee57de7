"""Migrations are applied in order, once, however many processes run them, and however often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from clickhouse_driver.errors import ServerException

from schemas.errors import SinkRefused, SinkUnavailable
from schemas.lives import first_of
from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import (
    Migration,
    _quoted,
    available,
    migrate,
    pending,
    split_statements,
)
from streams.local.process import free_port

pytestmark = pytest.mark.clickhouse

TARGET = ClickHouseTarget("db")
FIRST = Migration(1, "first", "CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = Memory;")
SECOND = Migration(2, "second", "CREATE TABLE IF NOT EXISTS b (x UInt8) ENGINE = Memory;")


def test_migrating_applies_everything_in_order_and_then_nothing(
    empty_target: ClickHouseTarget,
) -> None:
    seen: list[Migration] = []
    assert pending(empty_target) == available()
    assert migrate(empty_target, progress=seen.append) == seen == available()
    assert migrate(empty_target) == pending(empty_target) == []


def test_a_new_file_is_applied_alone(empty_target: ClickHouseTarget) -> None:
    migrate(empty_target, migrations=[FIRST])
    assert pending(empty_target, [FIRST, SECOND]) == [SECOND]
    assert migrate(empty_target, migrations=[FIRST, SECOND]) == [SECOND]


def test_an_edited_file_is_refused_by_name(empty_target: ClickHouseTarget) -> None:
    migrate(empty_target, migrations=[FIRST])
    edited = replace(FIRST, sql=FIRST.sql.replace("UInt8", "UInt16"))
    for act in (migrate, pending):
        with pytest.raises(SinkRefused, match=r"001_first.*new migration"):
            act(empty_target, migrations=[edited, SECOND])
    with connect(empty_target) as client:
        assert ("b",) not in client.execute("SHOW TABLES")


def test_a_run_that_broke_off_is_finished_by_the_next(empty_target: ClickHouseTarget) -> None:
    broken = replace(SECOND, sql=SECOND.sql + "CREATE TABLE IF NOT EXISTS c (x Nonsense);")
    with pytest.raises(SinkRefused, match="applying migration 002_second"):
        migrate(empty_target, migrations=[FIRST, broken])
    mended = replace(SECOND, sql=broken.sql.replace("Nonsense)", "UInt8) ENGINE = Memory"))
    assert migrate(empty_target, migrations=[FIRST, mended]) == [mended]


def test_two_runs_at_once_both_end_well(empty_target: ClickHouseTarget) -> None:
    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(migrate, empty_target) for _ in range(2)]:
            run.result(timeout=100)
    assert pending(empty_target) == []
    with connect(empty_target) as client:
        versions = client.execute("SELECT version FROM schema_migrations FINAL ORDER BY version")
    assert versions == [(m.version,) for m in available()]


def test_a_database_name_is_only_a_name(empty_target: ClickHouseTarget) -> None:
    odd = replace(empty_target, database=f"{empty_target.database} odd-name")
    assert migrate(odd, migrations=[FIRST]) == [FIRST]
    assert pending(odd, [FIRST]) == []


def test_a_server_that_is_down_can_be_tried_again_later() -> None:
    nowhere = ClickHouseTarget("127.0.0.1", free_port())
    for act in (migrate, pending):
        with pytest.raises(SinkUnavailable, match="check that ClickHouse is up"):
            act(nowhere)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ;; -- nothing; at all\n", []),
        ("A; B", ["A", "B"]),
        ("A ';' B; C", ["A ';' B", "C"]),
        (r"A 'it\';s'; B", [r"A 'it\';s'", "B"]),
        ("A 'it'';s'; B", ["A 'it'';s'", "B"]),
        ('A `x;y` ";"; B', ['A `x;y` ";"', "B"]),
        ("A -- it's; a comment\nB; C", ["A  \nB", "C"]),
        ("A /* ; ' */ B; C", ["A   B", "C"]),
        ("A '-- no comment;'; B", ["A '-- no comment;'", "B"]),
        ("A '/*'; B '*/'", ["A '/*'", "B '*/'"]),
        ("A /* open; end", ["A"]),
    ],
)
def test_statements_split_at_semicolons_outside_strings_and_comments(
    sql: str, statements: list[str]
) -> None:
    assert list(split_statements(sql)) == statements


def test_a_database_from_before_lives_goes_on_as_life_0(empty_target: ClickHouseTarget) -> None:
    """Its rows stay as they are shown, until a shard is started over; then they are past."""
    before = [m for m in available() if m.version <= 10]
    migrate(empty_target, migrations=before)
    zero = {"p_churn": 0.5, "scored_at": 1_700_000_000, "lifetime_orders": 1}
    with connect(empty_target) as client:
        for shard, user in ((0, "ann"), (1, "bob")):
            row = {"shard": shard, "seq": 500_000, "user_id": user, **zero}
            client.execute(f"INSERT INTO score_history ({', '.join(row)}) VALUES", [row])
            client.execute("INSERT INTO alerts (alert_id, user_id, shard, state, version) VALUES",
                           [(user, user, shard, "open", 1)])  # fmt: skip
            for seq in (1, 2):
                client.execute("INSERT INTO batches (shard, seq) VALUES", [(shard, seq)])
        shown = (
            "SELECT arraySort(groupArray((user_id, lifetime_orders))), (SELECT count() FROM "
            "churn_alerts_live), (SELECT groupArray(balanced) FROM ledger) FROM scores_live"
        )
        as_before = client.execute(shown)
        assert as_before == [([("ann", 1), ("bob", 1)], 2, [True, True])]
        assert migrate(empty_target) == [m for m in available() if m.version > 10]
        assert client.execute(shown) == as_before
        client.execute("INSERT INTO batches (shard, seq) VALUES", [(1, 3)])
        client.execute("INSERT INTO batches (shard, seq) VALUES", [(0, first_of(1_790_000_000))])
        assert client.execute(shown) == [([("bob", 1)], 1, [True, True])]
        row = {"shard": 0, "seq": first_of(1_790_000_000), "user_id": "ann", **zero,
               "lifetime_orders": 2}  # fmt: skip
        client.execute(f"INSERT INTO score_history ({', '.join(row)}) VALUES", [row])
        assert client.execute(shown) == [([("ann", 2), ("bob", 1)], 1, [True, True])]


class Answering:
    """A client whose server answers every statement with an error, or with these rows."""

    def __init__(self, answer: Exception | list[tuple[object, ...]]) -> None:
        self._answer = answer

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, *_: object) -> list[tuple[object, ...]]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (60, [FIRST]), (81, [FIRST]),  # no such table or database: nothing was applied
        (516, SinkRefused), (241, SinkUnavailable),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_not_a_database_without_migrations(
    code: int, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Answering(ServerException("no", code))
    monkeypatch.setattr(migrations, "connect", lambda *_, **__: client)
    if isinstance(expected, list):
        assert pending(TARGET, [FIRST]) == expected
    else:
        with pytest.raises(expected, match="reading schema_migrations at db"):  # type: ignore[call-overload]
            pending(TARGET, [FIRST])
        with pytest.raises(expected, match="creating database tideline at db"):  # type: ignore[call-overload]
            migrate(TARGET, migrations=[FIRST])


def test_migrations_of_a_newer_release_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answering([(1, FIRST.sha256), (99, "of a newer release")])
    monkeypatch.setattr(migrations, "connect", lambda *_, **__: client)
    assert pending(TARGET, [FIRST, SECOND]) == [SECOND]


def test_a_name_is_quoted_whatever_is_in_it() -> None:
    assert _quoted("shop") == "`shop`"
    assert _quoted("a`b\\c") == "`a\\`b\\\\c`"


def test_available_migrations_are_numbered_from_1_without_a_gap() -> None:
    found = available()
    assert [m.version for m in found] == list(range(1, len(found) + 1))
    assert str(found[0]).startswith("001_")
