"""deploy/clickhouse/ gives each role what the product's statements need, and nothing else.

Statements run on chDB under ClickHouse's own access checks, see `tests.clickhouse.roles`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import PERSONAL, TABLES
from streams.clickhouse import migrations
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.examples import HORIZONS_QUERY, Examples
from streams.clickhouse.label_counts import QUERIES as COUNTS
from streams.clickhouse.sink import INSERT_ORDER
from streams.ops import alert_story, reset
from streams.privacy.erase_clickhouse import KEY_IDS_QUERY
from tests.clickhouse.roles import (
    ADMIN,
    STORED_NOWHERE,
    all_migrations,
    as_role,
    deployed,
    grants,
    migrated,
    profile_of,
    up_to_storing,
)
from tests.clickhouse.test_schema import ENDED

pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
READERS = ("tideline_marketing_ro", "tideline_campaign_ro", "tideline_sre_ro")
ROLES = (
    "tideline_migrator", "tideline_writer", *READERS, "tideline_eraser", "tideline_trainer",
    "tideline_explainer", "tideline_console", "tideline_views",
)  # fmt: skip
DDL = "".join(file.read_text() for file in (ROOT / "schemas" / "clickhouse").glob("*.sql"))
VIEWS = set(re.findall(r"CREATE VIEW IF NOT EXISTS (\w+)", DDL))
FEEDS = set(re.findall(r"CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+)", DDL))
FEEDS -= {f"{table}_feed" for table in ENDED}
OWN = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", DDL)) | {"schema_migrations"}
GRANTS = list(grants())
QUERIES = [
    statement
    for code in re.findall(r"```sql\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for statement in migrations.split_statements(code)
]


def refused(answer: Any) -> bool:
    return isinstance(answer, str) and "Code: 497" in answer


def row(table: str) -> str:
    """The sink's INSERT, with one row of zeros."""
    kinds = TABLES[table].columns
    values = ("[]" if k.startswith("Array") else "''" if "String" in k else "0"
              for k in kinds.values())  # fmt: skip
    names = ", ".join(f"`{name}`" for name in kinds)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(values)})"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated by the migrator, with views as 3_views.sql leaves them."""
    return migrated(tmp_path_factory.mktemp("roles") / "database")


def ask(role: str, database: Path, *statements: str) -> list[Any]:
    return as_role(role, database, ["USE tideline", *statements])[1:]


# -- what the files say


def test_every_statement_runs_up_to_where_its_result_would_be_stored(tmp_path: Path) -> None:
    """CREATE ROLE, CREATE USER and GRANT: ClickHouse finds every role, profile, setting and hash
    that they name. The users' hashes come as query parameters, as clickhouse-client passes them."""
    statements = [*deployed("1_roles.sql"), *deployed("2_users.sql")]
    names = set(re.findall(r"\{(\w+):String\}", "".join(statements)))
    assert len(names) == len(ROLES) - 1  # all but tideline_views
    hashes = [f"SET param_{name} = '{'0' * 64}'" for name in sorted(names)]
    answers = up_to_storing(tmp_path / "db", [*hashes, *statements])
    assert len(statements) > 40
    for statement, answer in zip(statements, answers[len(hashes) :], strict=True):
        assert isinstance(answer, str), statement
        assert answer.startswith(STORED_NOWHERE), f"{statement}\n{answer}"


@pytest.mark.parametrize(
    ("statement", "spoiled", "by"),
    [
        ("CREATE USER IF NOT EXISTS tideline_writer", "DEFAULT ROLE tideline_writer",
         "DEFAULT ROLE nobody"),
        ("CREATE USER IF NOT EXISTS tideline_sre_ro", "'tideline_reader'", "'nothing'"),
        ("CREATE USER IF NOT EXISTS tideline_eraser", "{eraser:String}", "'too short'"),
        ("CREATE SETTINGS PROFILE OR REPLACE tideline_reader", "max_result_rows", "max_resultrows"),
        ("GRANT tideline_eraser TO", "TO tideline_eraser", "TO nobody"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_statement_is_found_before_that(
    tmp_path: Path, statement: str, spoiled: str, by: str
) -> None:
    (good,) = (s for f in ("1_roles.sql", "2_users.sql") for s in deployed(f)
               if s.startswith(statement))  # fmt: skip
    assert spoiled in good
    (answer,) = up_to_storing(tmp_path / "db", [good.replace(spoiled, by)])
    assert isinstance(answer, str)
    assert not answer.startswith(STORED_NOWHERE)


def test_every_role_has_one_user_that_has_no_other_role_and_no_password_in_the_file() -> None:
    users = deployed("2_users.sql")
    roles = {s.rsplit(" ", 1)[1] for s in deployed("1_roles.sql") if s.startswith("CREATE ROLE")}
    assert roles == set(ROLES) == {grant.role for grant in GRANTS}
    for role in ROLES:
        (user,) = (s for s in users if s.startswith(f"CREATE USER IF NOT EXISTS {role} "))
        assert f"DEFAULT ROLE {role}" in user
        assert [s for s in users if s.endswith(f" TO {role}")] == [f"GRANT {role} TO {role}"]
        secret = "sha256_hash BY {" in user
        assert secret != ("NOT IDENTIFIED HOST NONE" in user), user
        assert secret or role == "tideline_views"


def test_what_is_granted_on_exists() -> None:
    """Names and columns, so that a renamed table does not leave a grant for its successor."""
    columns = {name: set(table.columns) | {"inserted_at"} for name, table in TABLES.items()}
    columns["latest_scores"] = columns["users_now"] = columns["score_history"]
    columns["user_alerts"] = columns["alerts"]
    columns["user_points"] = {"user_id", "shard", "scored_at"}
    columns["segment_entries"] = columns["audience_entries"] = {"user_id", "shard", "since"}
    for grant in GRANTS:
        assert grant.name in OWN | VIEWS | {"*"}, grant
        if grant.columns and grant.name not in ("schema_migrations", "erasures"):
            assert set(grant.columns) <= columns[grant.name], grant


def test_every_view_is_read_with_the_views_own_rights_and_by_somebody() -> None:
    secured = {re.fullmatch(
        r"ALTER TABLE (\w+) MODIFY SQL SECURITY DEFINER DEFINER = tideline_views", s
    )[1] for s in deployed("3_views.sql")}  # type: ignore[index]  # fmt: skip
    assert secured == VIEWS | FEEDS
    people = (*READERS, "tideline_console")
    assert {g.name for g in GRANTS if g.role in people and g.name in VIEWS} == VIEWS


def test_rights_are_as_few_as_the_roles_duties() -> None:
    rights: dict[str, set[str]] = defaultdict(set)
    for grant in GRANTS:
        rights[grant.role].add(grant.right)
    assert rights["tideline_writer"] == {"INSERT", "SELECT"}
    assert rights["tideline_eraser"] == {"SELECT", "ALTER DELETE", "INSERT"}
    audited = {g.name for g in GRANTS if g.role == "tideline_eraser" and g.right == "INSERT"}
    assert audited == {"erasures"}
    assert all(rights[role] == {"SELECT"} for role in READERS)
    wide = {grant.role for grant in GRANTS if grant.name == "*"}
    assert wide == {"tideline_migrator", "tideline_views"}
    inserted = {g.name for g in GRANTS if g.role == "tideline_writer" and g.right == "INSERT"}
    by_the_trainer = {
        g.name for g in GRANTS if g.role == "tideline_trainer" and g.right == "INSERT"
    }
    assert by_the_trainer == {"trainer_log"}
    by_the_console = {
        g.name for g in GRANTS if g.role == "tideline_console" and g.right == "INSERT"
    }
    assert by_the_console == {"console_actions"}
    assert rights["tideline_console"] == {"SELECT", "INSERT"}
    assert inserted == set(INSERT_ORDER) - by_the_trainer - by_the_console
    assert set(INSERT_ORDER) == set(TABLES)


def test_who_has_a_user_id_can_be_erased() -> None:
    """Every table with personal columns can be cleaned by the eraser."""
    personal = {name for name, table in TABLES.items() if "user_id" in table.columns}
    personal |= {"latest_scores", "dead_letters", *PERSONAL}
    assert personal == set(PERSONAL)
    assert {g.name for g in GRANTS if g.right == "ALTER DELETE"} == personal


# -- what ClickHouse says


def test_the_migrator_can_migrate_twice(database: Path) -> None:
    for answer in as_role("tideline_migrator", database, all_migrations()):
        assert not isinstance(answer, str), answer
    # A view that a migration recreates has lost its definer: hence 3_views.sql after each upgrade.
    for answer in as_role(ADMIN, database, ["USE tideline", *deployed("3_views.sql")]):
        assert not isinstance(answer, str), answer


def test_the_migrator_can_start_the_state_over(database: Path) -> None:
    counts = (f"SELECT {count} FROM {view}" for _, view, count in reset._SHOWN)
    for answer in ask("tideline_migrator", database, *counts, reset._END_LIVES):
        assert not isinstance(answer, str), answer


def test_the_writer_inserts_all_and_reads_nothing_that_names_a_user(database: Path) -> None:
    results = [name for name in INSERT_ORDER if name not in ("trainer_log", "console_actions")]
    without_users = {"ledger", "recent_ledger", "fast_producers", "worker_clocks", "canaries"}
    allowed = [
        *map(row, results), *(f"SELECT * FROM {name}" for name in without_users),
        "SELECT version, sha256 FROM schema_migrations FINAL",
    ]  # fmt: skip
    forbidden = [f"SELECT * FROM {name}" for name in sorted((OWN | VIEWS) - without_users)]
    forbidden += ["ALTER TABLE alerts DELETE WHERE 1", "DROP TABLE alerts", "TRUNCATE TABLE alerts",
                  "CREATE TABLE x (a Int8) ENGINE = Memory", "INSERT INTO users_now (seq) "
                  "VALUES (1)", reset._END_LIVES]  # fmt: skip
    answers = ask("tideline_writer", database, *allowed, *forbidden)
    for answer in answers[: len(allowed)]:
        assert not isinstance(answer, str), answer
    assert len(answers[len(allowed) - 1]) == len(migrations.available())
    for statement, answer in zip(forbidden, answers[len(allowed) :], strict=True):
        assert refused(answer), f"{statement}\n{answer}"


def test_the_explainer_reads_what_explains_an_alert_and_nothing_else(database: Path) -> None:
    queries = [
        re.sub(r"%\((raised)\)s", "'2026-01-01 00:00:00.000'", q) for q in alert_story.QUERIES
    ]
    queries = [re.sub(r"%\((id|user)\)s", "'x'", q) for q in queries]
    queries = [re.sub(r"%\(\w+\)s", "1", q) for q in queries]
    named = {g.name for g in GRANTS if g.role == "tideline_explainer"}
    assert {
        name for name in named if not any(re.search(rf"\b{name}\b", q) for q in queries)
    } == set()
    others = sorted((OWN | VIEWS) - named)
    answers = ask(
        "tideline_explainer", database, *queries, *(f"SELECT * FROM {name}" for name in others)
    )
    for query, answer in zip(queries, answers[: len(queries)], strict=True):
        assert not isinstance(answer, str), f"{query}\n{answer}"
    for name, answer in zip(others, answers[len(queries) :], strict=True):
        assert refused(answer), f"{name}\n{answer}"


def test_the_console_reads_views_and_writes_its_log_and_nothing_else(database: Path) -> None:
    readable = {g.name for g in GRANTS if g.role == "tideline_console" and g.right == "SELECT"}
    assert readable <= VIEWS
    names = sorted(OWN | VIEWS)
    answers = ask("tideline_console", database, *(f"SELECT * FROM {name}" for name in names))
    for name, answer in zip(names, answers, strict=True):
        assert refused(answer) == (name not in readable), f"{name}: {answer}"
    written, *others = ask(
        "tideline_console", database, row("console_actions"),
        *(row(name) for name in INSERT_ORDER if name != "console_actions"),
        "ALTER TABLE console_actions DELETE WHERE 1", "DROP VIEW customers",
        "TRUNCATE TABLE console_actions", "CREATE TABLE x (a Int8) ENGINE = Memory",
    )  # fmt: skip
    assert not isinstance(written, str), written
    assert all(refused(answer) for answer in others), others
    (again,) = ask("tideline_console", database, "SELECT count() FROM console_log")
    assert again == [[1]]


@pytest.mark.parametrize("role", READERS)
def test_a_reader_reads_its_own_and_nothing_else(role: str, database: Path) -> None:
    whole = {g.name for g in GRANTS if g.role == role and not g.columns}
    names = sorted(OWN | VIEWS)
    changes = [*map(row, INSERT_ORDER), "ALTER TABLE alerts DELETE WHERE 1", "DROP VIEW ledger",
               "CREATE TABLE x (a Int8) ENGINE = Memory", reset._END_LIVES]  # fmt: skip
    answers = ask(role, database, *(f"SELECT * FROM {name}" for name in names), *changes)
    for name, answer in zip(names, answers[: len(names)], strict=True):
        assert refused(answer) == (name not in whole), f"{role} {name}: {answer}"
    for statement, answer in zip(changes, answers[len(names) :], strict=True):
        assert isinstance(answer, str), statement
        assert re.search(r"Code: (497|164)\.", answer), f"{statement}\n{answer}"


def test_operations_see_no_user_and_no_payload(database: Path) -> None:
    columns = TABLES["dead_letters"].columns
    allowed = next(g.columns for g in GRANTS if g.role == "tideline_sre_ro" and g.columns)
    answers = ask(
        "tideline_sre_ro", database, *(f"SELECT `{c}` FROM dead_letters" for c in columns)
    )
    for name, answer in zip(columns, answers, strict=True):
        assert refused(answer) == (name not in allowed), f"{name}: {answer}"
    assert not {"record_key", "payload", "detail"} & set(allowed)
    names = [g.name for g in GRANTS if g.role == "tideline_sre_ro"]
    described = as_role(ADMIN, database, [f"DESCRIBE tideline.{name}" for name in names])
    for name, its_columns in zip(names, described, strict=True):
        found = {column[0] for column in its_columns}
        assert not found & {"user_id", "alert_id", "change_id"}, name


def test_readers_are_bounded_and_can_t_undo_it(database: Path) -> None:
    bounded = [name for name, (_, limit) in profile_of(READERS[0]).items() if "MAX" in limit]
    assert {"max_execution_time", "max_memory_usage", "max_result_rows"} <= set(bounded)
    tries = [f"SET {name} = {value}" for name in bounded for value in (0, 10**12)]
    for role in READERS:
        answers = ask(role, database, *tries, "SET readonly = 0", "SET max_execution_time = 30",
                      "SELECT number FROM numbers(10) SETTINGS max_result_rows = 5")  # fmt: skip
        assert all("Code: 452" in answer for answer in answers[: len(tries)]), answers
        assert "Code: 164" in answers[-3]
        assert not isinstance(answers[-2], str)
        assert "TOO_MANY_ROWS" in answers[-1]


def test_every_query_of_the_readme_has_a_reader(database: Path) -> None:
    assert QUERIES
    answered = [False] * len(QUERIES)
    for role in READERS:
        for i, answer in enumerate(ask(role, database, *QUERIES)):
            assert refused(answer) or not isinstance(answer, str), answer
            answered[i] |= not refused(answer)
    assert all(answered), dict(zip(QUERIES, answered, strict=True))


def test_the_trainer_reads_labels_and_drift_and_writes_its_log(database: Path) -> None:
    which, bounds = Examples(ClickHouseTarget(""), 28, until_ms=1), {(1, 0): 2}
    queries = [
        HORIZONS_QUERY, which.keys_query(), which.matured_query(bounds),
        which.answers_query(bounds),
        *(query % {"horizon_days": 28, "min_orders": 2} for query in COUNTS),
        row("trainer_log"),
    ]  # fmt: skip
    forbidden = [
        f"SELECT * FROM {name}" for name in sorted((OWN | VIEWS) - {"examples", "model_drift"})
    ]
    forbidden += [
        row("examples"),
        row("model_drift"),
        "ALTER TABLE examples DELETE WHERE 1",
        "DROP TABLE examples",
    ]
    answers = ask("tideline_trainer", database, *queries, *forbidden)
    for answer in answers[: len(queries)]:
        assert not isinstance(answer, str), answer
    for statement, answer in zip(forbidden, answers[len(queries) :], strict=True):
        assert refused(answer), f"{statement}\n{answer}"


def test_the_eraser_deletes_by_person_and_time_and_can_do_nothing_else(database: Path) -> None:
    deletable = [g for g in GRANTS if g.role == "tideline_eraser" and g.right == "SELECT"]
    statements = []
    for grant in deletable:
        condition = " AND ".join(f"isNotNull({column})" for column in grant.columns)
        statements += [
            f"SELECT count() FROM {grant.name} WHERE {condition}",
            f"ALTER TABLE {grant.name} DELETE WHERE {condition} SETTINGS mutations_sync = 2",
            f"SELECT * FROM {grant.name}", f"DROP TABLE {grant.name}",
            f"ALTER TABLE {grant.name} UPDATE shard = 1 WHERE 1",
        ]  # fmt: skip
    asked, ended, *answers = ask(
        "tideline_eraser", database, KEY_IDS_QUERY, reset._END_LIVES, *statements
    )
    assert not isinstance(asked, str), asked
    assert refused(ended), ended
    is_refused = [isinstance(answer, str) for answer in answers]
    assert is_refused == ([False] * 2 + [True] * 3) * len(deletable), answers
