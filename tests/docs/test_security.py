"""What SECURITY.md promises names tests and settings that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from streams.settings import Settings, describe, load
from tests.clickhouse.roles import deployed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_exists_and_can_run() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    there = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        there |= {
            node.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    assert len(named) > 30
    assert named <= there, named - there


def test_every_setting_that_is_named_exists(tmp_path: Path) -> None:
    known = {(row.table, row.name) for row in describe(Settings())}
    named = re.findall(r"`\[(\w+)\] (\w+)(?: = [^`]+)?`", TEXT)
    assert named
    assert set(named) <= known
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "tideline.toml"
    file.write_text(example)
    assert load({"TIDELINE_KAFKA_PASSWORD": "x"}, file).kafka.security == "sasl_ssl"


def test_the_users_are_those_that_are_made() -> None:
    users = {s.split()[5] for s in deployed("2_users.sql") if s.startswith("CREATE USER")}
    assert set(re.findall(r"^\| `(tideline_\w+)`", TEXT, re.MULTILINE)) == users - {
        "tideline_views"
    }


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"`((?:deploy|streams|tests)/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path
