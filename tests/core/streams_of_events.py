"""Random streams of events: out of order, repeated, late, on tile borders, ahead of the clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from schemas.events import CLICK_TYPES
from tests.core.driving import HOUR_MS, T0, click, order
from tests.core.oracle import DAY_MS, Wire

LATENESS_MS = 7 * DAY_MS
SKEW_MS = 300_000


@dataclass
class Batch:
    """What arrives together at `now_ms`."""

    now_ms: int
    clicks: list[Wire] = field(default_factory=list)
    orders: list[Wire] = field(default_factory=list)


def _time(rng: random.Random, now_ms: int, late_share: float) -> int:
    """An event time near `now_ms`, often awkward."""
    if rng.random() < late_share:
        return now_ms - LATENESS_MS - rng.randrange(1, 40 * DAY_MS)
    back = rng.choice([0, 0, 60_000, HOUR_MS, DAY_MS, LATENESS_MS - 2 * SKEW_MS])
    ts = now_ms - (rng.randrange(back) if back else 0)
    if rng.random() < 0.3:  # on a tile's border, or one millisecond before it
        hop = rng.choice([300_000, HOUR_MS, DAY_MS])
        ts = max(ts // hop * hop, now_ms - LATENESS_MS + 2 * SKEW_MS) - rng.randrange(2)
    if rng.random() < 0.1:
        ts = now_ms + rng.randrange(SKEW_MS + 1)
    return ts


def _event(rng: random.Random, users: int, ts: int) -> tuple[int, Wire]:
    user = f"u{int(users * rng.random() ** 2)}"
    if rng.random() < 0.35:
        lines = [
            {"item_id": f"i{rng.randrange(6)}", "amount": 1.0}
            | ({"category": f"k{rng.randrange(3)}"} if rng.random() < 0.7 else {})
            for _ in range(rng.randrange(4))
        ]
        placed = rng.random() < 0.75
        event = order(
            user,
            ts,
            amount=rng.randrange(0, 50_000) / 100,
            type="placed" if placed else rng.choice(["cancelled", "returned"]),
            lines=lines,
        )
        if rng.random() < 0.3:
            event["discount"] = rng.randrange(1, 1_000) / 100
        if rng.random() < 0.3:
            event["coupon"] = "SAVE"
        if rng.random() < 0.3:
            event["currency"] = rng.choice(["USD", "EUR", "JPY"])
        return 1, event
    event = click(user, ts, type=rng.choice(CLICK_TYPES))
    for name, values, share in (("session_id", 4, 0.5), ("item_id", 6, 0.6), ("category", 3, 0.5)):
        if rng.random() < share:
            event[name] = f"{name}{rng.randrange(values)}"
    if event["type"] == "review" and rng.random() < 0.8:
        event["rating"] = rng.choice([1, 1.5, 2.2, 3.0, 4.7, 5])
    return 0, event


def _order_id(rng: random.Random, event: Wire, past: list[tuple[int, Wire]]) -> str:
    """Mostly one of its own for an order, and another one's for what follows on an order; of that
    some comes before its order, and some for an order that never comes."""
    theirs = [e["order_id"] for source, e in past if source and e["user_id"] == event["user_id"]]
    if theirs and rng.random() < (0.15 if event["type"] == "placed" else 0.85):
        return str(rng.choice(theirs[-8:] if rng.random() < 0.8 else theirs))
    return str(event["event_id"])


def random_batches(
    seed: int, batches: int, most: int = 25, users: int = 5, late_share: float = 0.0
) -> list[Batch]:
    """Batches of events with all the trouble there is; without `late_share`, none is late."""
    rng = random.Random(seed)
    now_ms = T0 + rng.randrange(3 * DAY_MS)
    made: list[Batch] = []
    past: list[tuple[int, Wire]] = []
    for _ in range(batches):
        jump = rng.choice([0, 60_000, 240_000, HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS])
        if rng.random() < 0.12:
            jump = rng.choice([8, 31, 45, 92, 200]) * DAY_MS
        now_ms += rng.randrange(jump + 1)
        batch = Batch(now_ms)
        for _ in range(rng.randrange(most + 1)):
            if past and rng.random() < 0.1:
                source, event = rng.choice(past[-30:])  # sent again
                if late_share == 0 and event["ts"] < now_ms - LATENESS_MS + 2 * SKEW_MS:
                    continue
            else:
                source, event = _event(rng, users, _time(rng, now_ms, late_share))
                event["event_id"] = f"e{len(past)}"  # by seed, not by what ran before
                if source:
                    event["order_id"] = _order_id(rng, event, past)
                past.append((source, event))
            (batch.orders if source else batch.clicks).append(event)
        rng.shuffle(batch.clicks)
        made.append(batch)
    return made
