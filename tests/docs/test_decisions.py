"""Decisions are short, dated and complete, and name files that exist."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "decisions.md").read_text()
ENTRIES = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
PARTS = ["Context", "Choice", "Rejected", "Revisit when"]
MAX_LINES = 12


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.split("\n", 1)[0])
def test_a_decision_has_its_parts(entry: str) -> None:
    _, _, day, *rest = entry.rstrip().split("\n")
    assert date.fromisoformat(day)
    assert re.findall(r"^- ([\w ]+):", "\n".join(rest), re.MULTILINE) == PARTS
    assert len(rest) <= MAX_LINES


def test_decisions_are_newest_first() -> None:
    days = re.findall(r"^\d{4}-\d\d-\d\d$", TEXT, re.MULTILINE)
    assert len(days) == len(ENTRIES)
    assert days == sorted(days, reverse=True)


def test_named_files_exist() -> None:
    for path in re.findall(r"`((?:schemas|models|streams|deploy)/[\w./-]*)`", TEXT):
        assert (ROOT / path).exists(), path
