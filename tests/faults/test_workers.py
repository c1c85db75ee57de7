"""Workers that come, go, die, flap and freeze, under load."""

from __future__ import annotations

import random
import signal
from typing import Any

import pytest

from streams.kafka.admin import connect as connect_admin
from tests.faults.drill import Drill
from tests.integration.world import STOP_SECONDS, World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]


@pytest.mark.fault("a worker dies, another joins and leaves")
def test_two_workers_share_the_shards_one_dies_others_join_and_leave(fault: Drill) -> None:
    here = fault.build()
    a, b = fault.worker("a"), fault.worker("b")
    here.own(a, b)
    fault.load(11_000, rate=1_000)
    fault.under_load(1_500)
    a.kill()
    with fault.recovery():
        here.own(b)
    c = fault.worker("c")
    here.own(b, c)
    assert c.stop()[0] == 0
    here.own(b)
    oracles = fault.finish(b)
    assert sum(o.takeovers for o in oracles.values()) >= 4 + 2 + 2 + 2  # start, death, join, leave


@pytest.mark.full
@pytest.mark.fault("a worker flaps: killed or stopped as soon as it has shards")
def test_a_worker_that_flaps_changes_nothing(fault: Drill) -> None:
    here, rng = fault.build(), random.Random(fault.seed)
    steady = fault.worker("steady")
    here.own(steady)
    load = fault.load(12_000, rate=500)
    fault.under_load(500)
    for n in range(4):
        flapping = fault.worker(f"flapping-{n}")
        if rng.random() < 0.7:
            here.own(steady, flapping)
        if rng.random() < 0.5:
            flapping.kill()
        else:
            assert flapping.stop()[0] == 0
    with fault.recovery():
        if not load.thread.is_alive():
            fault.load(1_000, rate=1_000)
        here.own(steady)
    fault.finish(steady)


@pytest.mark.fault("SIGTERM under load, {which}")
@pytest.mark.parametrize("which", ["kafka_broker", pytest.param("tansu", marks=pytest.mark.full)])
def test_sigterm_under_load_stops_in_time_behind_a_checkpoint_and_the_next_goes_on(
    fault: Drill, which: str, request: pytest.FixtureRequest
) -> None:
    # The interval is long, so that it is the checkpoint at the end that counts.
    broker = request.getfixturevalue(which)
    here = fault.build(broker=broker, stream_checkpoint_interval_seconds=600)
    first = fault.worker("first")
    here.own(first)
    fault.load(6_000, rate=1_500)
    fault.under_load(2_000)
    status, seconds = first.stop()
    assert status == 0
    assert seconds < STOP_SECONDS  # Kubernetes gives it that long
    assert "Traceback" not in first.log
    positions = here.sql(
        "SELECT shard, max(clickstream_to), max(orders_to) FROM batches FINAL GROUP BY shard"
    )
    wanted = {
        (topic, shard): offset
        for shard, *offsets in positions
        for topic, offset in zip(
            (here.inputs.clickstream, here.inputs.orders), offsets, strict=True
        )
        if offset
    }
    assert committed(here, wanted) == wanted
    here.check_oracle()  # rows, checkpoint and journal agree at this moment, too
    with fault.recovery():
        second = fault.worker("second")
    fault.finish(second)
    assert second.log.count(" 0 steps replayed") == 4


def committed(here: World, places: Any) -> dict[tuple[str, int], int]:
    """What the group has committed, of these (topic, partition)."""
    with connect_admin(here.settings.kafka.brokers) as admin:
        group = here.settings.kafka.app_id
        found = admin.list_group_offsets(group)[group]
    stored = {(tp.topic, tp.partition): at.offset for tp, at in found.items()}
    return {place: stored[place] for place in places}


@pytest.mark.full
@pytest.mark.fault("SIGSTOP past the session, then SIGCONT")
def test_a_frozen_worker_is_replaced_and_harmless_when_it_wakes(fault: Drill) -> None:
    here = fault.build()
    frozen, other = fault.worker("frozen"), fault.worker("other")
    here.own(frozen, other)
    fault.load(10_000, rate=1_000)
    fault.under_load(1_000)
    frozen.send(signal.SIGSTOP)
    with fault.recovery():
        here.own(other)
    frozen.send(signal.SIGCONT)
    here.own(frozen, other)  # it comes back as a member like any other
    fault.finish(frozen, other)


@pytest.mark.full
@pytest.mark.fault("SIGSTOP for less than the session")
def test_a_worker_frozen_for_a_moment_goes_on_where_it_was(fault: Drill) -> None:
    here = fault.build(kafka_session_timeout_seconds=20.0)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(6_000, rate=1_000)
    fault.under_load(1_000)
    worker.send(signal.SIGSTOP)
    before = here.accepted
    here.wait("ClickHouse is quiet", lambda: here.accepted == before)
    worker.send(signal.SIGCONT)
    with fault.recovery():
        pass
    oracles = fault.finish(worker)
    assert sum(o.takeovers for o in oracles.values()) == 4
