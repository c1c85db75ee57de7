"""`tideline audience`: files that hold what the view has, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from schemas.errors import FatalError
from streams.cli import tideline
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.ops.audience_files import Written, write_members
from streams.ops.audiences import COLUMNS
from tests.databases import Databases

AT = datetime(2026, 11, 30, 12, 0, 0, 5_000, tzinfo=UTC)


def member(user: str, **values: Any) -> tuple[Any, ...]:
    row = {"user_id": user, "segment": "leaving", "entered_at": AT, "number": 3, "p_churn": 0.5,
           "expected_spend": None, "value_tier": "high", "lifecycle": "active",
           "definitions": "v1", **values}  # fmt: skip
    return tuple(row.values())


def written(kind: str, rows: list[tuple[Any, ...]]) -> tuple[bytes, Written]:
    out, count = io.BytesIO(), Written()
    list(write_members(iter(rows), COLUMNS, kind, out, count))
    return out.getvalue(), count


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "\rx",
    'a"b',
    "a,b",
    "a\nb",
    "ünï",
    "=cmd|' /C calc'!A0",
]


def test_csv_has_no_formula_and_says_how_many_there_were() -> None:
    raw, count = written("csv", [member(user, expected_spend=-5.0) for user in HOSTILE])
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    users = [row["user_id"] for row in rows]
    assert users == [f"'{u}" if u[0] in "=+-@\t\r" else u for u in HOSTILE]
    assert (count.rows, count.quoted) == (len(HOSTILE), 7)
    assert {row["expected_spend"] for row in rows} == {"-5.0"}, "a number is none"
    assert rows[0]["entered_at"] == "2026-11-30T12:00:00.005Z"
    assert written("csv", [member("ann")])[0].endswith(b"ann,leaving,2026-11-30T12:00:00.005Z,3,"
                                                       b"0.5,,high,active,v1\r\n")  # fmt: skip


def test_json_and_parquet_have_texts_as_they_are(tmp_path: Path) -> None:
    raw, count = written("json", [member(user) for user in HOSTILE])
    lines = [json.loads(line) for line in raw.splitlines()]
    assert [line["user_id"] for line in lines] == HOSTILE
    assert lines[0]["expected_spend"] is None
    assert count.quoted == 0
    file = tmp_path / "m.parquet"
    file.write_bytes(written("parquet", [member(user) for user in HOSTILE])[0])
    table = pq.read_table(file)
    assert table.column("user_id").to_pylist() == HOSTILE
    assert table.column("entered_at")[0].as_py() == AT
    assert table.column("expected_spend")[0].as_py() is None
    assert str(table.schema.field("p_churn").type) == "float"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_rows_are_taken_as_they_come(kind: str) -> None:
    """No more than a part of them is in memory."""
    taken = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal taken
        for n in range(25_000):
            taken += 1
            yield member(f"u{n}")

    out = io.BytesIO()
    steps = write_members(rows(), COLUMNS, kind, out, Written())
    assert next(steps) == 10_000
    assert taken == 10_000
    assert list(steps) == [20_000, 25_000]


def test_without_pyarrow_parquet_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FatalError, match=r"pip install 'tideline\[local\]'"):
        written("parquet", [])


@pytest.fixture(scope="module")
def target(databases: Databases) -> Iterator[ClickHouseTarget]:
    with databases.lent() as found, connect(found) as client:
        rows = [("save_now", "ann", 0.5, 10.0, "treat", "entered"),
                ("save_now", "bob", 0.9, 10.0, "treat", "entered"),
                ("save_now", "=1+1", float("nan"), float("nan"), "treat", "entered"),
                ("save_now", "cid", 0.9, 99.0, "holdout", "entered"),
                ("left", "dan", 0.5, 1.0, "treat", "left")]  # fmt: skip
        client.execute(
            "INSERT INTO audience_changes (audience, user_id, p_churn, expected_spend, arm, "
            "change, number, changed_at) VALUES",
            [(*row, 1, AT) for row in rows],
        )
        yield found


def run(target: ClickHouseTarget, *args: str) -> Result:
    environ = {"TIDELINE_CLICKHOUSE_HOST": target.host,
               "TIDELINE_CLICKHOUSE_PORT": str(target.port),
               "TIDELINE_CLICKHOUSE_DATABASE": target.database}  # fmt: skip
    return CliRunner().invoke(tideline, ["audience", *args], env=environ)


@pytest.mark.clickhouse
def test_the_command_lists_and_writes_who_may_be_contacted(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    listed = json.loads(run(target, "--json").stdout)
    assert [(a["audience"], a["treat"], a["holdout"], a["global_holdout"]) for a in listed] == [
        ("left", 0, 0, 0), ("save_now", 3, 1, 0),
    ]  # fmt: skip
    assert "save_now" in run(target).stdout
    done = run(target, "save_now")
    assert done.exit_code == 0, done.output
    users = [row["user_id"] for row in csv.DictReader(io.StringIO(done.stdout, newline=""))]
    assert users == ["bob", "ann", "'=1+1"], "the most at stake first, and nobody held out"
    assert "3 members of save_now" in done.stderr
    assert "1 texts begin with" in done.stderr
    file = tmp_path / "m.parquet"
    done = run(target, "save_now", "--format", "parquet", "--output", str(file), "--limit", "1")
    assert done.exit_code == 0, done.output
    assert pq.read_table(file).column("user_id").to_pylist() == ["bob"]
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.clickhouse
def test_nobody_in_it_is_no_error_and_an_unknown_audience_is(
    target: ClickHouseTarget, tmp_path: Path
) -> None:
    done = run(target, "left")
    assert (done.exit_code, done.stdout.splitlines()) == (0, [",".join(COLUMNS)])
    assert "Nobody is in audience left now." in done.stderr
    done = run(target, "sav_now", "--output", str(tmp_path / "x.csv"))
    assert done.exit_code == 1
    assert "There are: left, save_now." in done.output
    assert not list(tmp_path.iterdir())
    for args in (["save_now", "--format", "parquet"], ["--limit", "3"], ["save_now", "--json"]):
        assert run(target, *args).exit_code == 2, args


@pytest.mark.clickhouse
def test_a_run_that_is_cut_off_leaves_no_file(
    target: ClickHouseTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[tuple[Any, ...]]:
        yield member("ann")
        raise KeyboardInterrupt

    monkeypatch.setattr("streams.ops.audiences.members", broken)
    file = tmp_path / "m.csv"
    file.write_text("of yesterday")
    assert run(target, "save_now", "--output", str(file)).exit_code == 1
    assert file.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [file]
