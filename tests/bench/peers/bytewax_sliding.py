"""Bytewax: one sliding window of 1 h by 10 min that counts each user's events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from meter import Meter, spec

given = spec()
meter = Meter(given, given.clickstream_events, packages=("bytewax", "confluent-kafka"))


class Click(msgspec.Struct):
    user_id: str
    ts: int


decoder = msgspec.json.Decoder(Click)


def decode(message: KafkaSourceMessage) -> tuple[str, Click]:
    click = decoder.decode(message.value)
    return click.user_id, click


def time_of(user_and_click: tuple[str, Click]) -> datetime:
    return datetime.fromtimestamp(user_and_click[1].ts / 1000, UTC)


def handled(_user_and_click: tuple[str, Click]) -> None:
    meter.one()


flow = Dataflow("bench")
source = KafkaSource([given.bootstrap], [given.clickstream], tail=True, batch_size=1_000)
clicks = op.map("decode", op.input("clicks", flow, source), decode)
clicks = op.inspect("count", clicks, lambda _step, click: handled(click))
counted = win.count_window(
    "hopping",
    clicks,
    win.EventClock(time_of, wait_for_system_duration=timedelta(minutes=1)),
    win.SlidingWindower(
        length=timedelta(hours=1),
        offset=timedelta(minutes=10),
        align_to=datetime(2024, 1, 1, tzinfo=UTC),
    ),
    key=lambda user_and_click: user_and_click[0],
)
nothing = op.filter("nothing", counted.down, lambda _: False)
op.output("out", nothing, StdOutSink())

run_main(flow)
