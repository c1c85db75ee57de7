"""How long the console's questions about single events take, and what the events weigh.

    python -m tests.clickhouse.bench_events [--users 1000000] [--events 50000000] [--days 28]

Fills a chDB in this process, day by day as events come in life, and asks what the profile, the
funnel and retention ask, at the size that `kept_events` chooses. Prints the median and the worst of
seven answers in ms, and the CPU time, which other work on the machine changes less; then bytes on
disk per event, by column.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from streams.console.pages import kept_events, profile_events, segment_funnel, segment_retention
from tests.clickhouse.bench_views import LIMIT_MS, Database, timed

_PARTS_A_DAY: Final = 4
_TYPES: Final = "['view','view','view','view','view','view','view','search','cart_add','placed']"
_SPAN: Final = 86_400_000


def insert(users: int, events: int, day: int, part: int, now_ms: int) -> str:
    """One INSERT of so many events of one day (days ago), of users drawn at random."""
    end_ms = now_ms - day * _SPAN
    return f"""
        INSERT INTO events
        SELECT concat('customer-', toString(cityHash64(n, {day}, {part}) % {users})) AS user_id,
            fromUnixTimestamp64Milli(toInt64({end_ms} - cityHash64(n, {day}, 1) % {_SPAN}), 'UTC')
                AS ts,
            toUInt32(cityHash64(n, {day}, {part}, 2)) AS event_hash,
            {_TYPES}[1 + cityHash64(n, 3) % 10] AS type,
            if(type = 'placed', 0, cityHash64(user_id, intDiv(toUnixTimestamp64Milli(ts), 3600000)))
                AS session_hash,
            if(type = 'placed', event_hash + 1, 0) AS order_hash,
            if(type = 'placed', '', concat('sku-', toString(cityHash64(n, 4) % 20000))) AS item_id,
            if(type = 'placed', '', concat('category-', toString(cityHash64(n, 4) % 40)))
                AS category,
            if(type = 'placed', (cityHash64(n, 5) % 20000) / 100, 0) AS amount,
            type = 'placed' ? 3 : 0 AS lines, 0 AS rating, 0 AS simulated,
            ['visitor', 'new', 'active', 'at_risk', 'lapsed'][1 + cityHash64(user_id) % 5],
            ['none', 'low', 'medium', 'high'][1 + cityHash64(user_id) % 4],
            ['', 'vip', 'vip,weekly'][1 + cityHash64(user_id) % 3],
            fromUnixTimestamp64Milli(
                toInt64({now_ms} - cityHash64(user_id, 6) % {400 * _SPAN}), 'UTC'
            ) AS first_event_at,
            if(cityHash64(user_id) % 5 = 0, toDateTime64(0, 3, 'UTC'), first_event_at + 3600),
            cityHash64(user_id) % 12, ts + 0.4, 400,
            fromUnixTimestamp64Milli(toInt64({end_ms} - {part}), 'UTC')
        FROM (SELECT number AS n FROM numbers({part * events}, {events}))
    """


def filled(query: str, given: dict[str, Any]) -> str:
    """A page's query with its parameters as literals."""
    literal = {
        name: f"({', '.join(map(repr, value))})" if isinstance(value, list) else repr(value)
        for name, value in given.items()
    }
    return query % literal


def questions(groups: int, now_ms: int) -> dict[str, str]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_ms / 1000 - 28 * 86_400))
    steps = {"step_1": "view", "step_2": "cart_add", "step_3": "placed", "step_4": ""}
    common = {"groups": groups, "window_ms": 604_800_000, "since": since, **steps,
              "steps": ["view", "cart_add", "placed"]}  # fmt: skip
    of = {"stage": "at_risk", "tier": "", "segment": "vip"}
    from_ms = segment_retention.first_monday_ms(now_ms, 12, now_ms - 27 * _SPAN)
    weeks = (now_ms - from_ms) // (7 * _SPAN)
    past = {"groups": groups, "from_ms": from_ms, "to_ms": now_ms, "weeks": weeks, "did": "event"}
    one = {"user_id": "customer-4711", "before_ms": 2**63 - 1, "before_hash": 0, "limit": 51}
    return {
        "profile: a page of events": filled(profile_events.EVENTS, one),
        "how many events": filled(kept_events.SIZE, {"groups": 8}),
        "funnel of three steps": filled(segment_funnel.FUNNEL_QUERY, common),
        "the same, of a stage and a segment": filled(segment_funnel.OF_SOME, common | of),
        "retention by first order": filled(
            segment_retention.RETENTION_QUERY, past | {"by": "order"}
        ),
        "retention by first event": filled(
            segment_retention.RETENTION_QUERY, past | {"by": "event"}
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--most", type=int, default=kept_events.MOST_EVENTS, help="events to read")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bench-events-"))
    try:
        database = Database(directory, "shop")
        now_ms = time.time_ns() // 1_000_000
        each = asked.events // (asked.days * _PARTS_A_DAY)
        began, used = time.monotonic(), time.process_time()
        for day in reversed(range(asked.days)):
            for part in range(_PARTS_A_DAY):
                database.ask(insert(asked.users, each, day, part, now_ms))
        took, cpu = time.monotonic() - began, time.process_time() - used
        n = each * asked.days * _PARTS_A_DAY
        print(f"{n:,} events in {took:.0f} s, {cpu:.0f} s CPU (making them included)")
        ((probe,),) = database.ask("SELECT count() FROM event_groups WHERE user_group < 8")
        groups = max(1, min(1024, asked.most * 8 // int(probe)))
        print(f"{groups} of 1,024 groups of users are read")
        slow = []
        for name, query in questions(groups, now_ms).items():
            database.ask(query)
            median, worst, least_cpu = timed(lambda query=query: database.ask(query), 7)  # type: ignore[misc]
            print(f"{name:40} {median:8.1f} {worst:8.1f} ms, CPU {least_cpu:8.1f} ms", flush=True)
            slow += [name] if median > LIMIT_MS else []
        weigh(database, n)
        print(f"over {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def weigh(database: Database, n: int) -> None:
    """Bytes on disk per event, of all and, once merged, of each column."""
    where = "FROM system.parts WHERE active AND database = 'shop' AND table = 'events'"
    ((parts, size),) = database.ask(f"SELECT count(), sum(bytes_on_disk) {where}")
    print(f"{int(size) / n:.1f} bytes per event in {parts} parts")
    columns = database.ask(
        "SELECT name, data_compressed_bytes FROM system.columns WHERE database = 'shop' "
        "AND table = 'events' ORDER BY 2 DESC"
    )
    print(", ".join(f"{name} {int(each) / n:.1f}" for name, each in columns[:10]))


if __name__ == "__main__":
    main()
