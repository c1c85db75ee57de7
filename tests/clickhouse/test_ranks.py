"""Lists of the highest are exact, though they are found among rows that are not merged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clickhouse_driver import Client

from streams.clickhouse.client import ClickHouseTarget
from streams.console.ranked import ranked, ranking
from streams.console.reads import ClickHouseReader, Parameter, Rows
from streams.ops.reset import end_lives
from tests.clickhouse.test_views import AGAIN, BEGAN, numbered, scored

pytestmark = pytest.mark.clickhouse

Put = Callable[..., None]
QUERY = ranking("user_id, value_tier", "ifNull(expected_spend, -1)", "has(segments, %(segment)s)")


class Counted:
    """A reader that keeps how many candidates each query took."""

    def __init__(self, reader: ClickHouseReader) -> None:
        self.reader = reader
        self.taken: list[Any] = []

    async def rows(self, query: str, **given: Parameter) -> Rows:
        self.taken.append(given["candidates"])
        return await self.reader.rows(query, **given)


@pytest.fixture
def reader(target: ClickHouseTarget, client: Client) -> Iterator[Counted]:
    client.execute("SYSTEM STOP MERGES users_now")
    found = ClickHouseReader(target)
    yield Counted(found)
    found.close()


def first(
    reader: Counted, limit: int, after: tuple[float, str] | None = None
) -> list[tuple[str, float]]:
    found = asyncio.run(ranked(reader, QUERY, limit, after, segment="vip"))
    return [(row["user_id"], row["rank"]) for row in found]


def worth(user: str, seq: int, spend: float, segments: str = "new,vip") -> dict[str, Any]:
    return scored(user, seq, expected_spend=spend, segments=segments)


def test_the_highest_come_first_and_pages_go_on_without_gap_or_repeat(
    reader: Counted, put: Put
) -> None:
    put("score_history", *(worth(f"u{n:02}", 1, float(n // 3)) for n in range(40)),
        worth("other", 1, 99.0, "new"), worth("none", 1, 98.0, ""),
        worth("nan", 1, float("nan")))  # fmt: skip
    whole = sorted(((f"u{n:02}", float(n // 3)) for n in range(40)), key=lambda p: (-p[1], p[0]))
    whole.append(("nan", -1.0))
    seen: list[tuple[str, float]] = []
    place = None
    while page := first(reader, 7, place):
        seen += page
        place = (page[-1][1], page[-1][0])
    assert seen == whole


def test_older_rows_of_users_who_fell_are_no_longer_high_and_push_nobody_out(
    reader: Counted, put: Put
) -> None:
    """More of them than candidates: all who rank lower are still found."""
    put("score_history", *(worth(f"fell{n:03}", 1, 1000.0 + n) for n in range(60)))
    put("score_history", *(worth(f"stays{n}", 1, 10.0 + n) for n in range(5)),
        *(worth(f"fell{n:03}", 2, 1.0) for n in range(60)))  # fmt: skip
    assert first(reader, 5) == [(f"stays{n}", 10.0 + n) for n in (4, 3, 2, 1, 0)]
    assert reader.taken == [20, 10**9], "too few of 20 candidates were confirmed"


def test_who_left_the_segment_or_rose_is_where_the_newest_row_says(
    reader: Counted, put: Put
) -> None:
    put("score_history", worth("gone", 1, 50.0), worth("rose", 1, 1.0), worth("same", 1, 40.0))
    put("score_history", worth("gone", 2, 60.0, "new"), worth("rose", 2, 45.0))
    assert first(reader, 2) == [("rose", 45.0), ("same", 40.0)]
    assert reader.taken == [8]


def test_fewer_than_wanted_are_all_found_at_once(reader: Counted, put: Put) -> None:
    put("score_history", worth("ann", 1, 5.0))
    assert first(reader, 50) == [("ann", 5.0)]
    assert reader.taken == [200]


def test_past_lives_do_not_count(reader: Counted, put: Put, target: ClickHouseTarget) -> None:
    put("score_history", worth("ann", numbered(BEGAN, 1), 5.0))
    end_lives(target)
    put("score_history", worth("bob", numbered(AGAIN, 1), 4.0))
    assert [name for name, _ in first(reader, 50)] == ["bob"]
