"""The funnel and retention in ClickHouse count as a recount in Python does."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from clickhouse_driver import Client

from streams.clickhouse.client import ClickHouseTarget
from streams.console.pages.kept_events import GROUPS, SIZE
from streams.console.pages.segment_funnel import FUNNEL_QUERY, OF_SOME
from streams.console.pages.segment_retention import RETENTION_QUERY
from streams.core.event_rows import EVENT_TYPES

pytestmark = pytest.mark.clickhouse

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
MONDAY = 1_779_667_200_000  # 2026-05-25
FIRST = MONDAY - 6 * WEEK_MS
STAGES = ("visitor", "active", "at_risk")


@dataclass(frozen=True)
class Event:
    user: str
    ts: int
    type: str
    lifecycle: str
    segments: str
    first_event_at: int
    first_order_at: int


def shop(seed: int, users: int = 60) -> list[Event]:
    """Events of six weeks, some in the same millisecond; some users were there before."""
    rng, found = random.Random(seed), []
    for n in range(users):
        came = FIRST + rng.randrange(-WEEK_MS, 5 * WEEK_MS)
        ordered = came + rng.randrange(2 * WEEK_MS) if rng.random() < 0.8 else 0
        at = max(FIRST, came)
        for _ in range(rng.randrange(1, 25)):
            at += rng.choice([0, 1, 60_000, 5 * 60_000, DAY_MS, 3 * DAY_MS, 9 * DAY_MS])
            kind = rng.choice(["view", "view", "cart_add", "placed", *EVENT_TYPES])
            stage, segments = rng.choice(STAGES), rng.choice(["", "vip", "a,vip", "vip2"])
            first_order = ordered if ordered <= at else 0
            found.append(Event(f"u{n}", at, kind, stage, segments, came, first_order))
    return found


def put(client: Client, events: Sequence[Event]) -> None:
    rows = [
        (e.user, time_of(e.ts), n, e.type, e.lifecycle, e.segments, time_of(e.first_event_at),
         time_of(e.first_order_at), time_of(e.ts), 400)
        for n, e in enumerate(events)
    ]  # fmt: skip
    columns = (
        "user_id, ts, event_hash, type, lifecycle, segments, first_event_at, first_order_at, "
        "taken_at, keep_days"
    )
    client.execute(f"INSERT INTO events ({columns}) VALUES", rows)
    # What a crash leaves: some rows twice.
    client.execute(f"INSERT INTO events ({columns}) VALUES", rows[::3])


def time_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def by_user(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.user].append(event)
    return found


def level(times: Sequence[tuple[int, str]], steps: Sequence[str], window_ms: int) -> int:
    """How far a user came, from any first step."""
    best = 0
    for began, kind in times:
        if kind != steps[0]:
            continue
        at, reached = began, 1
        for step in steps[1:]:
            later = [t for t, k in times if k == step and at <= t <= began + window_ms]
            if not later:
                break
            at, reached = min(later), reached + 1
        best = max(best, reached)
    return best


def asked(
    client: Client, query: str, steps: Sequence[str], window_ms: int, **more: str
) -> dict[int, int]:
    four = (*steps, "", "", "")[:4]
    given = {f"step_{i}": step for i, step in enumerate(four, 1)}
    since = f"{time_of(FIRST + WEEK_MS):%Y-%m-%d %H:%M:%S}"
    return dict(
        client.execute(
            query,
            {"groups": GROUPS, "window_ms": window_ms, "since": since, "steps": list(steps)}
            | given | more,
        )
    )  # fmt: skip


@pytest.mark.parametrize("steps", [("view", "cart_add", "placed"), ("search", "placed"),
                                   ("cart_add", "view", "placed", "returned")])  # fmt: skip
@pytest.mark.parametrize("window_ms", [0, 3_600_000, WEEK_MS])
def test_a_funnel_is_its_recount(
    target: ClickHouseTarget, client: Client, steps: tuple[str, ...], window_ms: int
) -> None:
    events = shop(3)
    put(client, events)
    reached: dict[int, int] = defaultdict(int)
    some: dict[int, int] = defaultdict(int)
    for theirs in by_user([e for e in events if e.ts >= FIRST + WEEK_MS]).values():
        far = level([(e.ts, e.type) for e in theirs], steps, window_ms)
        if far:
            reached[far] += 1
            at = min(e.ts for e in theirs if e.type == steps[0])
            first = [e for e in theirs if e.type == steps[0] and e.ts == at]
            if len({(e.lifecycle, e.segments) for e in first}) > 1:
                first = []  # either is right
            some[far] += any(
                e.lifecycle == "at_risk" and "vip" in e.segments.split(",") for e in first
            )
    assert asked(client, FUNNEL_QUERY, steps, window_ms) == reached
    found = asked(client, OF_SOME, steps, window_ms, stage="at_risk", tier="", segment="vip")
    assert sum(found.values()) >= sum(some.values())
    assert all(found.get(far, 0) >= users for far, users in some.items())
    assert sum(found.values()) < sum(reached.values())
    whole = asked(client, OF_SOME, steps, window_ms, stage="", tier="", segment="")
    assert whole == reached


@pytest.mark.parametrize("by", ["order", "event"])
@pytest.mark.parametrize("did", ["order", "event"])
def test_retention_is_its_recount(
    target: ClickHouseTarget, client: Client, by: str, did: str
) -> None:
    events = shop(5)
    put(client, events)
    weeks = 5
    wanted: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    from_ms = FIRST + WEEK_MS
    for theirs in by_user(
        [e for e in events if from_ms <= e.ts < from_ms + weeks * WEEK_MS]
    ).values():
        first = max(e.first_order_at if by == "order" else e.first_event_at for e in theirs)
        if first < from_ms:
            continue
        cohort = (first - from_ms) // WEEK_MS
        known = [e for e in theirs if (e.first_order_at if by == "order" else first) >= from_ms]
        there = {(e.ts - from_ms) // WEEK_MS for e in known if did == "event" or e.type == "placed"}
        for week in range(cohort, weeks):
            wanted[cohort, week][0] += week in there
            wanted[cohort, week][1] += 1
    given = {"groups": GROUPS, "by": by, "did": did, "from_ms": from_ms, "weeks": weeks,
             "to_ms": from_ms + weeks * WEEK_MS}  # fmt: skip
    found = {(c, w): [n, of] for c, w, n, of in client.execute(RETENTION_QUERY, given)}
    assert found == wanted
    assert len({c for c, _ in found}) > 2


def test_groups_are_parts_of_the_whole(target: ClickHouseTarget, client: Client) -> None:
    put(client, shop(1))
    sizes = [client.execute(SIZE, {"groups": n})[0][0] for n in (0, 8, 512, GROUPS)]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[-1] == client.execute("SELECT count() FROM events")[0][0]
    # some groups of users: all that a user did, or nothing
    half = "SELECT uniqExact(user_hash), count() FROM event_groups WHERE user_group < 512"
    users, n = client.execute(half)[0]
    assert 10 < users < 50
    theirs = "SELECT user_hash FROM event_groups WHERE user_group < 512"
    whole = f"SELECT count() FROM event_groups WHERE user_hash IN ({theirs})"
    assert client.execute(whole)[0][0] == n
