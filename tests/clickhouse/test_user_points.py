"""Point reads say of a user what the view `customers` says, however the row came to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client
from msgspec.structs import replace

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.migrations import available, migrate
from streams.console.api.answers import Scores, User, time_text
from streams.console.api.points import Points
from streams.console.reads import ClickHouseReader
from streams.ops.reset import end_lives
from tests.console.hostile import TEXTS

pytestmark = pytest.mark.clickhouse

Put = Callable[..., None]
NOON = 1_700_000_000_123
SMALLEST, LARGEST = (float(each) for each in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
MEASURES = (
    "p_churn", "expected_spend", "spend_low", "spend_high", "p_buy_7d", "p_buy_30d", "value_365d",
    "value_365d_low", "value_365d_high",
)  # fmt: skip
NUMBERS = (float("nan"), 0.0, 0.1, 1 / 3, 1e-9, 123_456.79, 1e10, 16_777_217.0, SMALLEST, LARGEST)
DEEP_IN_A_LIFE = (2**32 - 2 << 32) + 2**32 - 1
"""The highest seq there is: no double has it."""


def varied(at: int) -> dict[str, Any]:
    """Rows that differ in every value, and have every kind of evidence."""
    kind = {name: NUMBERS[(at + i) % len(NUMBERS)] for i, name in enumerate(MEASURES)}
    return {
        **kind, "user_id": f"u{at}", "seq": DEEP_IN_A_LIFE - at, "shard": at % 3,
        "scored_at": NOON + at, "horizon_days": 28 + at, "next_order_at": at % 2 * (NOON + 7 * at),
        "last_order_at": at % 3 * (NOON - 7 * at), "lifetime_orders": (0, 1, 2, 5, 6, 2**32 - 1)[
            at % 6
        ],
        "value_tier": ("none", "low", "medium", "high")[at % 4], "lifecycle": "at_risk",
        "at_risk": at % 2, "segments": ("", "vip", "quiet,save_now,vip")[at % 3],
        "champion_version": TEXTS[at % len(TEXTS)], "learner_version": at * 1_000_003,
    }  # fmt: skip


ROWS = [varied(at) for at in range(max(30, len(TEXTS)))]


@pytest.fixture
def reader(target: ClickHouseTarget) -> Iterator[ClickHouseReader]:
    made = ClickHouseReader(target)
    yield made
    made.close()


def answers(reader: ClickHouseReader, *users: str) -> dict[str, User]:
    async def run() -> dict[str, User]:
        points = Points(reader)
        found = await asyncio.gather(*(points.of(user) for user in users))
        return {u: point.answer(u) for u, point in zip(users, found, strict=True) if point}

    return asyncio.run(run())


def expected(client: Client) -> dict[str, User]:
    """What `customers` says, as the API has it."""
    rows, columns = client.execute("SELECT * FROM customers", with_column_types=True)

    def text(value: datetime | None) -> str | None:
        return None if value is None else time_text(round(value.timestamp() * 1000))

    def answer(row: dict[str, Any]) -> User:
        return User(
            row["user_id"], Scores(*(row[name] for name in Scores.__struct_fields__)),
            row["value_tier"], row["lifecycle"], row["segments"], text(row["next_order_at"]),
            bool(row["at_risk"]), row["lifetime_orders"], text(row["last_order_at"]),
            text(row["scored_at"]) or "", text(row["inserted_at"]) or "", row["champion_version"],
            row["learner_version"],
        )  # fmt: skip

    named = [dict(zip((name for name, _ in columns), row, strict=True)) for row in rows]
    return {row["user_id"]: answer(row) for row in named}


def arrived(found: dict[str, User], as_in: dict[str, User]) -> dict[str, User]:
    """The same with the times of arrival of `as_in`, which is another table's by a moment."""
    return {u: replace(each, written_at=as_in[u].written_at) for u, each in found.items()}


def insert(client: Client, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    times = ("scored_at", "next_order_at", "last_order_at")
    given = [
        [datetime.fromtimestamp(v / 1000, UTC) if k in times else v for k, v in row.items()]
        for row in rows
    ]
    client.execute(
        f"INSERT INTO score_history ({', '.join(rows[0])}) VALUES", given, settings=settings
    )


PROFILES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "numbers are quoted": {
        "output_format_json_quote_64bit_integers": 1, "output_format_json_quote_64bit_floats": 0,
        "output_format_json_quote_denormals": 1, "output_format_json_quote_decimals": 1,
    },
    "tuples have names": {"enable_named_columns_in_function_tuple": 1},
    "slashes are escaped": {"output_format_json_escape_forward_slashes": 1},
}  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_a_point_is_what_customers_says(
    client: Client, reader: ClickHouseReader, profile: str
) -> None:
    insert(client, ROWS, PROFILES[profile])
    wanted = expected(client)
    assert len(wanted) == len(ROWS)
    found = answers(reader, *wanted, "nobody")
    assert arrived(found, wanted) == wanted
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    assert all((time_text(now_ms - 600_000) or "") < each.written_at for each in found.values())


def test_the_newest_score_counts_though_parts_are_not_merged(
    client: Client, put: Put, reader: ClickHouseReader
) -> None:
    client.execute("SYSTEM STOP MERGES user_points")
    row = {"user_id": "ann", "value_tier": "low", "lifecycle": "new"}
    for seq in (5, 7, 6, (1 << 32) + 1, 8):
        put("score_history", {**row, "seq": seq, "learner_version": seq % 1000, "scored_at": NOON})
    assert client.execute("SELECT count() > 1 FROM customer_points") == [(1,)]
    assert answers(reader, "ann")["ann"].learner_version == ((1 << 32) + 1) % 1000


def test_who_was_scored_in_an_ended_life_only_is_nobody(
    target: ClickHouseTarget, client: Client, put: Put, reader: ClickHouseReader
) -> None:
    put("score_history", {"user_id": "ann", "seq": (7 << 32) + 5, "shard": 3, "scored_at": NOON})
    put("score_history", {"user_id": "bob", "seq": (7 << 32) + 5, "shard": 4, "scored_at": NOON})
    assert answers(reader, "ann", "bob").keys() == {"ann", "bob"}
    end_lives(target)
    put("score_history", {"user_id": "bob", "seq": 9 << 32, "shard": 4, "scored_at": NOON})
    assert answers(reader, "ann", "bob").keys() == expected(client).keys() == {"bob"}


def test_what_was_there_before_the_table_is_in_it(empty_target: ClickHouseTarget) -> None:
    migrate(empty_target, migrations=[m for m in available() if m.version < 25])
    with connect(empty_target) as client:
        insert(client, ROWS, {})
        wanted = expected(client)
        migrate(empty_target)
        reader = ClickHouseReader(empty_target)
        try:
            assert answers(reader, *wanted) == wanted  # to the time of arrival
        finally:
            reader.close()
