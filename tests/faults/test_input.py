"""What comes in is bad, repeated, late, skewed or too much; and where dead letters go is shut."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.kafka_admin import connect as connect_admin
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
    here = fault.build(checkpoint_interval_seconds=1.0)
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
    here = fault.build(max_batch_records=20_000)
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


@pytest.mark.fault("dead-letter topic unwritable: the partition waits")
def test_dead_letters_that_cannot_be_written_hold_their_partition_back(fault: Drill) -> None:
    here = fault.build(checkpoint_interval_seconds=0.5)
    letters = here.settings.topic_names.dead_letters
    set_limit(here, letters, 1)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(3_000, rate=1_500, malformed_share=0.1).join()
    here.wait("it says so", lambda: f"could not write to {letters}" in worker.log)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # several tries later, nothing behind them is committed
        told = "SELECT topic, partition, min(offset) FROM dead_letters GROUP BY topic, partition"
        first = {(topic, partition): offset for topic, partition, offset in here.sql(told)}
        assert first
        ahead = committed(here)
        assert all(ahead.get(place, 0) <= offset for place, offset in first.items())
        time.sleep(0.5)
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
def test_a_clock_that_jumps_gives_what_the_journal_says(fault: Drill, days: int) -> None:
    here = fault.build(clock="wall", sweep_interval_seconds=20)
    jumps = [[40, days * DAY_MS], [120, 0]]
    first = fault.worker("first", jumps=jumps)
    here.own(first)
    start_ms = int(time.time() * 1000) - 32 * DAY_MS
    fault.load(8_000, rate=1_000, start_ms=start_ms)
    fault.under_load(4_000)
    first.kill()
    with fault.recovery():
        second = fault.worker("second")  # whose clock never jumped
    oracles = fault.finish(second)
    clocks = [plan.clock_ms for o in oracles.values() for plan in o.plans]
    assert max(clocks) - min(clocks) > 2 * DAY_MS or days < 0
