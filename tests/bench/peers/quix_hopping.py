"""Quix Streams: one hopping window of 1 h by 10 min that counts each user's events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from meter import Meter, spec
from quixstreams import Application

given = spec()
meter = Meter(given, given.clickstream_events, packages=("quixstreams", "confluent-kafka"))

app = Application(
    broker_address=given.bootstrap,
    consumer_group=given.group,
    auto_offset_reset="earliest",
    state_dir=given.directory,
    loglevel="WARNING",
    # One partition of the broker's topic per state: no more copies than the broker has nodes.
    topic_create_timeout=30,
)
clicks = app.topic(given.clickstream, key_deserializer="str", value_deserializer="json")
stream = app.dataframe(clicks)


def handled(_value: Any) -> None:
    meter.one()


stream = stream.update(handled)
stream = stream.hopping_window(timedelta(hours=1), timedelta(minutes=10)).count().final()

app.run()
