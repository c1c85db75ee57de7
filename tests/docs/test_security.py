"""SECURITY.md has a test for each promise, and the users and settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

from streams.settings import load
from tests.clickhouse.roles import deployed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_promises_name_their_tests() -> None:
    """That these tests exist is checked in `test_pages`, for every page."""
    assert len(set(re.findall(r"`(test_\w+)`", TEXT))) > 30


def test_the_example_asks_for_tls_and_a_login(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "tideline.toml"
    file.write_text(example)
    assert load({"TIDELINE_KAFKA_PASSWORD": "x"}, file).kafka.security == "sasl_ssl"


def test_the_users_are_those_that_are_made() -> None:
    users = {s.split()[5] for s in deployed("2_users.sql") if s.startswith("CREATE USER")}
    assert set(re.findall(r"^\| `(tideline_\w+)`", TEXT, re.MULTILINE)) == users - {
        "tideline_views"
    }
