"""The table `events`: written by the sink, read one row each, found by person, dropped in time."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import Any

import numpy as np
import pytest
from clickhouse_driver import Client

from schemas.messages import Erasure
from schemas.topics import TopicNames
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.sink import ClickHouseSink
from streams.privacy import erase_clickhouse
from streams.privacy.erase_clickhouse import Person
from tests.core.test_event_rows import run

pytestmark = pytest.mark.clickhouse

WAIT_SECONDS = 100.0
GROUP = "user_group = cityHash64(%(u)s) %% 1024 AND user_id = %(u)s"


@pytest.fixture(scope="module")
def written() -> list[dict[str, Any]]:
    """The rows of a stream, by batch."""
    return [out.tables["events"] for out in run(11)[0].outputs if "events" in out.tables]


def write(target: ClickHouseTarget, tables: list[dict[str, Any]]) -> None:
    sink = ClickHouseSink(target, linger_seconds=0.0).start()
    for each in tables:
        sink.submit({"events": each}).result(WAIT_SECONDS)
    sink.close(WAIT_SECONDS)


def together(tables: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [*chain.from_iterable(each[name] for each in tables)] for name in tables[0]}


def test_rows_come_as_they_were_made_and_are_read_once(
    target: ClickHouseTarget, client: Client, written: list[dict[str, Any]]
) -> None:
    write(target, written)
    # As after a crash: inserts of other batches together, so under other tokens, of the same rows.
    write(target, [together(written[i : i + 2]) for i in range(0, len(written), 4)])
    n = sum(len(each["ts"]) for each in written)
    different = "SELECT count(), uniqExact(user_id, ts, event_hash) FROM customer_events"
    assert client.execute(different) == [(n, n)]
    wanted = sorted(
        (str(user), int(ts), str(item), float(amount), str(kind))
        for each in written
        for user, ts, item, amount, kind in zip(
            each["user_id"], each["ts"], each["item_id"], each["amount"], each["type"], strict=True
        )
    )
    found = client.execute(
        "SELECT user_id, toUnixTimestamp64Milli(ts), item_id, amount, toString(type) "
        "FROM customer_events"
    )
    assert sorted(found) == wanted
    users = client.execute("SELECT uniqExact(user_hash), uniqExact(user_group) FROM event_groups")
    assert users[0][0] == len({row[0] for row in wanted})


def test_one_customer_is_found_by_group_without_reading_the_others(
    target: ClickHouseTarget, client: Client, written: list[dict[str, Any]]
) -> None:
    write(target, written)
    user = str(next(iter(written[0]["user_id"])))
    theirs = sum(list(each["user_id"]).count(user) for each in written)
    query = f"SELECT count() FROM customer_events WHERE {GROUP}"
    assert client.execute(query, {"u": user}) == [(theirs,)]
    plan = client.execute(f"EXPLAIN indexes = 1 {query}", {"u": user})
    text = "\n".join(line for (line,) in plan)
    key = text.split("PrimaryKey", 1)[1]
    assert "user_id" in key
    assert "1024" in key.split("Condition", 1)[0]


def test_rows_are_dropped_by_the_day_they_came_as_their_own_setting_said(
    target: ClickHouseTarget, client: Client, written: list[dict[str, Any]]
) -> None:
    long, short = written[0], {**written[1], "keep_days": np.full_like(written[1]["keep_days"], 2)}
    write(target, [long, short])
    spans = "SELECT DISTINCT dateDiff('day', inserted_at, kept_until) FROM events "
    found = client.execute(f"{spans} JOIN customer_events USING (event_hash) ORDER BY 1")
    assert found == [(2,), (30,)]
    columns = ", ".join(written[0])
    for days, keep in ((10, 2), (20, 30)):  # as if they had come so many days ago
        client.execute(
            f"INSERT INTO events ({columns}, inserted_at) SELECT {columns}, "
            f"now64(3) - toIntervalDay({days}) FROM events WHERE keep_days = {keep}"
        )
    client.execute("OPTIMIZE TABLE events FINAL")
    came = "SELECT dateDiff('day', inserted_at, now()) AS days, count() FROM events GROUP BY days"
    n, k = len(long["ts"]), len(short["ts"])
    assert sorted(client.execute(came)) == [(0, n + k), (20, n)]
    # The oldest would be gone in ten days: a lower setting takes nothing away that is there.
    assert client.execute("SELECT count() FROM customer_events") == [(n + k,)]


def test_an_erased_person_has_no_events_from_before(
    target: ClickHouseTarget, client: Client, written: list[dict[str, Any]]
) -> None:
    write(target, written)
    cutoff = int(written[len(written) // 2]["taken_at"][0])
    salt = b"salt"
    digest = hashlib.sha256(salt + b"u0").hexdigest()[:32]
    names = TopicNames("clicks", "orders", "app")
    found = erase_clickhouse.delete(
        target,
        Person(salt, (digest,)),
        names,
        [Erasure("id", digest, salt, 0, 3, cutoff, (0, 0), 0)],
    )
    theirs = [
        int(at)
        for each in written
        for user, at in zip(each["user_id"], each["taken_at"], strict=True)
        if user == "u0"
    ]
    before = sum(at < cutoff for at in theirs)
    assert {d.table: d.rows for d in found}["events"] == before > 0
    left = client.execute("SELECT count() FROM customer_events WHERE user_id = 'u0'")
    assert left == [(len(theirs) - before,)]
