"""Pathway: one sliding window of 1 h by 10 min that counts each user's events.

Handled is what the windows' own counts add up to: an event is in six of them.
"""

from __future__ import annotations

from typing import Any

import pathway as pw
from meter import Meter, spec

given = spec()
meter = Meter(given, given.clickstream_events, packages=("pathway",))
HOUR_MS, HOP_MS = 3_600_000, 600_000


class Click(pw.Schema):
    user_id: str
    ts: int


clicks = pw.io.kafka.read(
    {
        "bootstrap.servers": given.bootstrap,
        "group.id": given.group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": "6000",
    },
    topic=given.clickstream,
    schema=Click,
    format="json",
    autocommit_duration_ms=500,
)
windows = clicks.windowby(
    clicks.ts,
    window=pw.temporal.sliding(hop=HOP_MS, duration=HOUR_MS),
    instance=clicks.user_id,
).reduce(user=pw.this._pw_instance, events=pw.reducers.count())
total = windows.reduce(events=pw.reducers.sum(pw.this.events))


def handled(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
    if is_addition:
        meter.reached(row["events"] // (HOUR_MS // HOP_MS))


pw.io.subscribe(total, handled)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
