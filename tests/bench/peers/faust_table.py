"""Idiomatic Faust: a typed record, an agent, and one hopping table with one counter per user."""

from __future__ import annotations

import sys
from datetime import timedelta

import faust
from meter import Meter, spec

given = spec()
meter = Meter(given, given.clickstream_events, packages=("faust-streaming", "aiokafka"))


class Click(faust.Record, serializer="json"):
    event_id: str
    user_id: str
    type: str
    ts: int
    session_id: str
    item_id: str | None = None
    category: str | None = None


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
clicks = app.topic(given.clickstream, key_type=bytes, value_type=Click)
counts = app.Table("counts", default=int).hopping(
    timedelta(hours=1), timedelta(minutes=10), expires=timedelta(hours=2)
)


@app.agent(clicks)
async def count(stream: faust.Stream[Click]) -> None:
    async for click in stream:
        counts[click.user_id] += 1
        meter.one()


sys.argv = ["bench", "worker", "--loglevel", "warn"]
app.main()
