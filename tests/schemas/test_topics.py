"""Tideline's own topics: named in `schemas/topics.py`, and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import TopicNames, topics

ROOT = Path(__file__).parents[2]
NAMES = TopicNames("clicks", "orders", "app")
SUFFIXES = "|".join(name.removeprefix("app-") for name in NAMES.own)
# A hyphen and a suffix, as in f"{app_id}-journal" and "tideline-dead-letters".
WRITTEN_OUT = re.compile(rf"-({SUFFIXES})(?![\w-])")
PLACES = {ROOT / "schemas/topics.py", Path(__file__)}


def texts(source: str) -> Iterator[str]:
    """The texts in Python source that are values: no docstrings."""
    tree = ast.parse(source)
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_names_are_those_that_clusters_have() -> None:
    """Another name would be an empty topic beside the one with the data."""
    assert NAMES.own == (
        "app-journal", "app-checkpoints", "app-alerts", "app-dead-letters", "app-erasures",
        "app-examples", "app-learner", "app-audiences", "app-undelivered", "app-definitions",
    )  # fmt: skip
    assert NAMES.learner_group == "app-learner"


def test_every_name_is_a_topic_that_is_created() -> None:
    created = [topic.name for topic in topics(NAMES, 4)]
    assert created == ["clicks", "orders", *NAMES.own]


def test_the_longest_app_id_leaves_room_for_every_suffix() -> None:
    kafka_allows, app_id_allows = 249, 200
    names = TopicNames("clicks", "orders", "x" * app_id_allows)
    assert max(map(len, names.own)) <= kafka_allows


@pytest.mark.parametrize("source", ['f"{app}-journal"', '"tideline-dead-letters"', '["-alerts"]'])
def test_a_second_place_is_seen(source: str) -> None:
    assert any(map(WRITTEN_OUT.search, texts(f"topic = {source}")))


def test_no_code_names_a_topic_a_second_time() -> None:
    code = [f for d in ("schemas", "models", "streams", "tests") for f in (ROOT / d).rglob("*.py")]
    assert set(code) >= PLACES
    found = {
        f"{file.relative_to(ROOT)}: {text}"
        for file in set(code) - PLACES
        for text in texts(file.read_text())
        if WRITTEN_OUT.search(text)
    }
    assert not found


def test_no_configuration_names_a_topic() -> None:
    for place in ("docker-compose.yml", "Makefile", ".ci/run", "deploy/Dockerfile"):
        assert not WRITTEN_OUT.search((ROOT / place).read_text()), place


def test_pages_name_only_topics_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        suffix
        for page in pages
        for suffix in re.findall(r"<app_id>-([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert "checkpoints" in named
    assert named <= set(SUFFIXES.split("|"))
