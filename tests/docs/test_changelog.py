"""The changelog is in its format, and knows the version that is here."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CHANGELOG.md").read_text()
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_it_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", h) for h in headings[1:]]
    assert all(released)
    days = [date.fromisoformat(match[2]) for match in released if match]
    assert days == sorted(days, reverse=True)


def test_changes_are_sorted_by_kind() -> None:
    assert set(re.findall(r"^### (.+)$", TEXT, re.MULTILINE)) <= KINDS


def test_a_released_version_is_not_newer_than_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    here = tuple(map(int, project["version"].split(".")))
    for version in re.findall(r"^## \[(\d+\.\d+\.\d+)\]", TEXT, re.MULTILINE):
        assert tuple(map(int, version.split("."))) <= here


def test_lines_are_for_users() -> None:
    """Neither hashes of commits nor numbers of issues."""
    assert not re.search(r"\b[0-9a-f]{7,40}\b|#\d+", TEXT)
