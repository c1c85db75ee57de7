"""Segments tried on a history: the books balance, and a recount by hand gives the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli import tideline

DAY = 86_400


def orders(path: Path) -> Path:
    """Ann orders every day, Bob on the first two days only, Cid once on the tenth."""
    rows = ["user,timestamp,amount"]
    for day in range(40):
        who = {"ann"} | ({"bob"} if day < 2 else set()) | ({"cid"} if day == 10 else set())
        rows += [f"{user},{1_600_000_000 + day * DAY},{10 + day}" for user in sorted(who)]
    path.write_text("\n".join(rows) + "\n")
    return path


FILE = """
version: 1
segments:
  buyers: {when: orders > 0, expect: {size: 1..2, per_day: 0..5}}
  quiet: {when: days_since_order > 20d}
  again: {when: segment.buyers and orders >= 2}
"""


@pytest.fixture
def tried(tmp_path: Path) -> tuple[str, str]:
    """What the command says, as a table and as JSON."""
    file = tmp_path / "segments.yaml"
    file.write_text(FILE)
    arguments = ["segments", "try", str(file), "--orders", str(orders(tmp_path / "orders.csv"))]
    said = [CliRunner().invoke(tideline, [*arguments, *more]) for more in ((), ("--json",))]
    for each in said:
        assert each.exit_code == 0, each.output
    return said[0].stdout, said[1].stdout


def test_days_and_sizes_are_those_of_a_recount(tried: tuple[str, str]) -> None:
    table, document = tried
    found = json.loads(document)
    assert found["customers"] == 3
    segments = found["segments"]
    assert {name: of["size"] for name, of in segments.items()} == {
        "buyers": 3, "quiet": 2, "again": 2,
    }  # fmt: skip
    for of in segments.values():
        size = 0
        for day in of["days"].values():
            size += day["entered"] - day["left"]
            assert size == day["size"]
    entered = [day for day, of in segments["quiet"]["days"].items() if of["entered"]]
    assert len(entered) == 2  # Bob 20 days after his second order, Cid 20 days after the tenth day
    assert segments["again"]["overlap"] == {"buyers": 2, "quiet": 1}
    assert "1..2 OUTSIDE" in table
    assert "█" in table


def test_one_history_must_be_named(tmp_path: Path) -> None:
    file = tmp_path / "segments.yaml"
    file.write_text(FILE)
    said = CliRunner().invoke(tideline, ["segments", "try", str(file)])
    assert said.exit_code == 2
    assert "Name either --orders FILE or --dataset completejourney." in said.output
