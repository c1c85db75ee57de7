"""What the machine allows: raw aiokafka fetch, and raw fetch with each event decoded by msgspec.

    python -m tests.bench.floor '{"layer": "fetch", ...}'

Both topics are read, as Tideline reads them: with `getmany`, aiokafka's own batched call.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka import AIOKafkaConsumer

from schemas.events import ClickEvent, OrderEvent
from tests.bench.peers.meter import Meter, Spec, spec

__all__ = ["LAYERS"]

LAYERS = ("fetch", "decode")
_MAX_RECORDS = 20_000  # of one call: as many as a batch of Tideline's holds


async def consume(given: Spec) -> None:
    """Read until the meter has seen enough; it ends the process."""
    meter = Meter(
        given,
        given.clickstream_events + given.orders_events,
        warm_events=given.history_events + given.warm_events,
        packages=("aiokafka", "msgspec"),
    )
    decoders = {
        given.clickstream: msgspec.json.Decoder(ClickEvent).decode,
        given.orders: msgspec.json.Decoder(OrderEvent).decode,
    }
    consumer = AIOKafkaConsumer(
        *decoders,
        bootstrap_servers=given.bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_wait_ms=200,
    )
    await consumer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=200, max_records=_MAX_RECORDS)
        for partition, records in polled.items():
            if given.layer == "decode":
                decode = decoders[partition.topic]
                for record in records:
                    decode(record.value)
            meter.many(len(records))


if __name__ == "__main__":
    asyncio.run(consume(spec()))
