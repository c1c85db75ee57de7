"""What the tests of reading share: a file from text, and what was read of it in short."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from streams.history.fields import parse_map
from streams.history.read import read
from streams.history.source import EventHistory, OrderHistory
from streams.history.table import ReadOptions
from tests.replay.conftest import Schemas

NOW_MS = 1_767_225_600_000  # 2026-01-01
History = OrderHistory | EventHistory
Reader = Callable[..., History]


def events(history: History) -> list[dict[str, Any]]:
    """The records' values, in order."""
    return [json.loads(record.value) for record in chain.from_iterable(history)]


def short(history: History) -> list[tuple[str, str, str, float]]:
    """(type, user, order, amount) of every event."""
    return [(e["type"], e["user_id"], e["order_id"], e["amount"]) for e in events(history)]


def reasons(history: History) -> dict[str, int]:
    """Reason -> rows left out."""
    return {found.reason: found.rows for found in history.report.left_out}


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas()


@pytest.fixture
def reading(tmp_path: Path) -> Reader:
    """Reads a text (or bytes) as a file: `reading(text, "user=who", name=..., **ReadOptions)`."""

    def run(
        text: str | bytes, mapping: str = "", *, name: str = "orders.csv", **options: Any
    ) -> History:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read(path, ReadOptions(given=parse_map(mapping), **options), NOW_MS)

    return run
