"""What comes in is bad, repeated, late, skewed or too much; and where dead letters go is shut."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from kafka import KafkaProducer

from streams.kafka.admin import connect as connect_admin
from tests.faults.drill import Drill
from tests.integration.world import Worker, World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

DAY_MS = 86_400_000


@pytest.mark.full
@pytest.mark.fault("{what}, and SIGKILL among them")
@pytest.mark.parametrize(
    ("what", "shares"),
    [
        ("poison, null keys, huge payloads", {"malformed_share": 0.4}),
        ("duplicates", {"duplicate_share": 0.5}),
        ("out of order and late", {"out_of_order_share": 0.6, "late_share": 0.2}),
        ("one user sends half of everything", {"skew": 1.75, "users": 2_000}),
    ],
)
def test_bad_input_is_counted_for_what_it_is(
    fault: Drill, what: str, shares: dict[str, Any]
) -> None:
    here = fault.build(stream_checkpoint_interval_seconds=1.0)
    first = fault.worker("first")
    here.own(first)
    fault.load(6_000, rate=1_200, **shares)
    fault.under_load(1_500)
    first.kill()
    with fault.recovery():
        second = fault.worker("second")
    fault.finish(second)
    sent = fault.sent
    if "malformed_share" in shares:
        assert all(sent.malformed.values()), sent.malformed
    if "late_share" in shares:
        assert sent.late > 500


@pytest.mark.full
@pytest.mark.fault("a burst of 100 times the usual load")
def test_a_burst_is_taken_in_bounded_memory(fault: Drill) -> None:
    here = fault.build(stream_max_batch_records=20_000)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(1_000, rate=300, span_days=1.0).join()
    here.wait_accepted(1_000)
    before = resident_bytes(worker)
    with fault.recovery():
        fault.load(120_000, rate=0, span_days=30.0).join()
    fault.world.wait_accepted(fault.sent.total, 90)
    # Three batches ahead for each of 4 shards and 2 topics, at half a kilobyte, and what a step,
    # an insert and 120,000 remembered ids take; without a bound it would be all that was sent.
    assert resident_bytes(worker) - before < 400 * 2**20
    fault.finish(worker)


def resident_bytes(worker: Worker) -> int:
    """The most that the process ever had in memory."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def set_limit(world: World, topic: str, max_message_bytes: int) -> None:
    """`max.message.bytes` of a topic, on the running broker."""

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=world.settings.kafka.broker_url)
        await admin.start()
        try:
            wanted = {"max.message.bytes": str(max_message_bytes), "retention.ms": "604800000"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
        finally:
            await admin.close()

    asyncio.run(alter())


@pytest.mark.full
@pytest.mark.fault("dead-letter topic unwritable: the partition waits")
def test_dead_letters_that_cannot_be_written_hold_their_partition_back(fault: Drill) -> None:
    here = fault.build(stream_checkpoint_interval_seconds=0.5)
    letters = here.settings.topic_names.dead_letters
    set_limit(here, letters, 1)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(3_000, rate=1_500, malformed_share=0.1).join()
    refusal = f"Kafka did not take a record for {letters}"
    here.wait("it says so", lambda: refusal in worker.log)
    tries = worker.log.count(refusal)
    first: dict[tuple[str, int], int] = {}

    def tried_again() -> bool:
        """Each of the four shards twice; and still nothing behind the letters is committed."""
        query = "SELECT topic, partition, min(offset) FROM dead_letters GROUP BY topic, partition"
        first.update({(topic, partition): offset for topic, partition, offset in here.sql(query)})
        assert first
        ahead = committed(here)
        assert all(ahead.get(place, 0) <= offset for place, offset in first.items())
        return worker.log.count(refusal) >= tries + 8

    here.wait("several more tries", tried_again, interval_seconds=0.5)
    assert worker.running
    with fault.recovery(0):
        set_limit(here, letters, 1_048_588)
    fault.finish(worker)
    assert all(offset > first[place] for place, offset in committed(here).items() if place in first)


def committed(here: World) -> dict[tuple[str, int], int]:
    with connect_admin(here.settings.kafka.brokers) as admin:
        group = here.settings.kafka.app_id
        found = admin.list_group_offsets(group)[group]
    inputs = (here.inputs.clickstream, here.inputs.orders)
    return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if tp.topic in inputs}


@pytest.mark.full
@pytest.mark.fault("the clock jumps {days:+} days, and back")
@pytest.mark.parametrize("days", [3, -3])
def test_a_clock_that_jumps_gives_what_the_journal_says(
    fault: Drill, tmp_path: Path, days: int
) -> None:
    here = fault.build(stream_clock="wall", stream_sweep_interval_seconds=20)
    clock = tmp_path / "clock"

    def jump(ms: int) -> None:
        """And let a good many records come in by that time."""
        clock.with_suffix(".new").write_text(str(ms))
        clock.with_suffix(".new").replace(clock)
        fault.under_load(here.accepted + 1_500)

    clock.write_text("0")
    first = fault.worker("first", clock=str(clock))
    here.own(first)
    start_ms = int(time.time() * 1000) - 32 * DAY_MS
    fault.load(10_000, rate=1_000, start_ms=start_ms)
    fault.under_load(1_000)
    jump(days * DAY_MS)
    jump(0)
    first.kill()
    with fault.recovery():
        second = fault.worker("second")  # whose clock never jumped
    oracles = fault.finish(second)
    for oracle in oracles.values():
        clocks = np.array([plan.clock_ms for plan in oracle.plans])
        assert (np.diff(clocks) >= 0).all()  # time never goes back
        ahead = clocks.max() - clocks[0] > 2 * DAY_MS
        assert ahead == (days > 0)
        # Set back, and after going back: it stands still until the wall has caught up.
        assert (np.diff(clocks) == 0).sum() >= 3


@pytest.mark.full
@pytest.mark.fault("future-dated events, and SIGKILL among them")
def test_events_from_the_future_are_dead_letters_beyond_what_is_allowed(fault: Drill) -> None:
    here = fault.build(stream_checkpoint_interval_seconds=1.0)
    first = fault.worker("first")
    here.own(first)
    load = fault.load(3_000, rate=1_000)
    fault.under_load(500)
    allowed_ms = int(here.settings.stream.max_future_seconds * 1000)
    ahead_ms = (1, allowed_ms // 2, allowed_ms, allowed_ms + 1, 3_600_000, DAY_MS, 400 * DAY_MS)
    load.join()
    source = fault.sources[-1]
    now_ms = source.start_ms + int(source.span_days * DAY_MS)
    with KafkaProducer(bootstrap_servers=here.settings.kafka.broker_url) as producer:
        for n in range(20):
            for ahead in ahead_ms:
                event = {
                    "event_id": f"ahead-{ahead}-{n}", "user_id": f"u{n}", "type": "placed",
                    "ts": now_ms + ahead, "order_id": f"ahead-{ahead}-{n}", "amount": 5.0,
                    "currency": "USD",
                }  # fmt: skip
                producer.send(
                    here.inputs.orders, key=f"u{n}".encode(), timestamp_ms=now_ms,
                    value=json.dumps(event).encode(),
                )  # fmt: skip
    fault.extra_good = 20 * sum(ahead <= allowed_ms for ahead in ahead_ms)
    fault.extra_sent = 20 * len(ahead_ms) - fault.extra_good
    first.kill()
    with fault.recovery():
        second = fault.worker("second")
        fault.load(1_000, rate=1_000)
    fault.finish(second)
    sent = fault.sent.malformed["absurd_timestamp"] + fault.extra_sent
    reasons = "('absurd_timestamp', 'future_timestamp')"
    refused = f"SELECT count() FROM dead_letters FINAL WHERE reason IN {reasons}"
    assert here.one(refused) == sent
