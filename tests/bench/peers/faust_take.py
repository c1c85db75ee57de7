"""Faust with `take`: raw bytes in lists of 2,000, decoded by msgspec, counted in a dict of panes.

The counter has no changelog, so it would not survive its process: more generous than a table.
"""

from __future__ import annotations

import sys
from collections import Counter

import faust
import msgspec
from meter import Meter, spec

given = spec()
meter = Meter(given, given.clickstream_events, packages=("faust-streaming", "msgspec"))
PANE_MS = 600_000


class Click(msgspec.Struct):
    user_id: str
    ts: int


app = faust.App(
    given.group,
    broker=f"kafka://{given.bootstrap}",
    datadir=given.directory,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_request_timeout=90.0,
    topic_partitions=given.partitions,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
clicks = app.topic(given.clickstream, key_type=bytes, value_type=bytes, value_serializer="raw")
decode = msgspec.json.Decoder(Click).decode
panes: Counter[tuple[str, int]] = Counter()


@app.agent(clicks)
async def count(stream: faust.Stream[bytes]) -> None:
    async for values in stream.take(2_000, within=0.2):
        for value in values:
            click = decode(value)
            panes[click.user_id, click.ts // PANE_MS] += 1
        meter.many(len(values))


sys.argv = ["bench", "worker", "--loglevel", "warn"]
app.main()
