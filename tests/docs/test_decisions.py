"""Decisions are short, dated, complete and numbered in their order."""

from __future__ import annotations

import re
from datetime import date

import pytest

from tests.docs.generated import ROOT, decisions

TEXT = (ROOT / "docs" / "decisions.md").read_text()
ENTRIES = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
PARTS = ["Context", "Choice", "Rejected", "Revisit when"]
MAX_LINES = 12


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.split(":", 1)[0])
def test_decision_has_its_parts(entry: str) -> None:
    _, _, day, *rest = entry.rstrip().split("\n")
    assert date.fromisoformat(day)
    assert re.findall(r"^- ([\w ]+):", "\n".join(rest), re.MULTILINE) == PARTS
    assert len(rest) <= MAX_LINES


def test_ids_count_up_without_gaps() -> None:
    ids = [number for number, _, _ in decisions(TEXT)]
    assert ids == [f"D-{i:03d}" for i in range(1, len(ENTRIES) + 1)]


def test_decisions_are_oldest_first() -> None:
    days = [day for _, _, day in decisions(TEXT)]
    assert days == sorted(days)
