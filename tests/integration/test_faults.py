"""Workers that come, go, die and freeze, and a ClickHouse that is away, all under load.

After each: the ledger balances, ClickHouse holds exactly what the journal's replay gives, and the
state that the next owner would load is the replay's, bit for bit.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.kafka_admin import connect as connect_admin
from streams.local.clickhouse import ChdbServer
from streams.replay.synthetic import Synthetic
from tests.integration.world import SESSION_SECONDS, World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(180)]

Worlds = Callable[..., World]


def traffic(events: int, seed: int) -> Synthetic:
    """A shop with a little of everything that goes wrong."""
    return Synthetic(
        users=500, events=events, order_share=0.2, skew=0.8, span_days=30.0, late_share=0.005,
        duplicate_share=0.02, out_of_order_share=0.05, malformed_share=0.01, seed=seed,
    )  # fmt: skip


def balanced(here: World, source: Synthetic) -> None:
    """Everything that was sent is accounted for, once."""
    tally = source.tally
    assert here.ledger() == {
        "accepted": tally.total, "scored": tally.good, "duplicates": tally.duplicate,
        "late": tally.late, "dead_letters": sum(tally.malformed.values()),
    }  # fmt: skip
    here.check_views()


def test_two_workers_share_the_shards_one_dies_others_join_and_leave(world: Worlds) -> None:
    here = world()
    a, b = here.worker("a"), here.worker("b")
    here.own(a, b)
    source = traffic(11_000, seed=1)
    load = here.load(source, rate=1_000)
    here.wait("some of the load", lambda: here.accepted > 1_500)
    a.kill()
    here.own(b)
    before = here.accepted
    here.wait("b works for both", lambda: here.accepted > before)
    c = here.worker("c")
    here.own(b, c)
    assert c.stop()[0] == 0
    here.own(b)
    sent = load.join()
    here.wait_accepted(sent.records)
    assert b.stop()[0] == 0
    balanced(here, source)
    oracles = here.check_oracle()
    assert sum(o.takeovers for o in oracles.values()) >= 4 + 2 + 2 + 2  # start, death, join, leave


@pytest.mark.parametrize("which", ["kafka_broker", "tansu"])
def test_sigterm_under_load_stops_in_time_behind_a_checkpoint_and_the_next_goes_on(
    world: Worlds, which: str, request: pytest.FixtureRequest
) -> None:
    # The interval is long, so that it is the checkpoint at the end that counts.
    here = world(request.getfixturevalue(which), checkpoint_interval_seconds=600)
    source = traffic(6_000, seed=2)
    first = here.worker("first")
    here.own(first)
    load = here.load(source, rate=1_500)
    here.wait("some of the load", lambda: here.accepted > 2_000)
    status, seconds = first.stop()
    assert status == 0
    assert seconds < 10
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
    second = here.worker("second")
    sent = load.join()
    here.wait_accepted(sent.records)
    assert second.log.count(" 0 steps replayed") == 4
    assert second.stop()[0] == 0
    balanced(here, source)
    here.check_oracle()


def committed(here: World, places: Any) -> dict[tuple[str, int], int]:
    """What the group has committed, of these (topic, partition)."""
    with connect_admin(here.settings.kafka.brokers) as admin:
        group = here.settings.kafka.app_id
        found = admin.list_group_offsets(group)[group]
    told = {(tp.topic, tp.partition): at.offset for tp, at in found.items()}
    return {place: told[place] for place in places}


def test_a_frozen_worker_is_replaced_and_harmless_when_it_wakes(world: Worlds) -> None:
    here = world()
    frozen, other = here.worker("frozen"), here.worker("other")
    here.own(frozen, other)
    source = traffic(10_000, seed=3)
    load = here.load(source, rate=1_000)
    here.wait("some of the load", lambda: here.accepted > 1_000)
    frozen.send(signal.SIGSTOP)
    here.own(other, timeout_seconds=10 * SESSION_SECONDS)
    before = here.accepted
    here.wait("the other works for both", lambda: here.accepted > before + 500)
    frozen.send(signal.SIGCONT)
    here.own(frozen, other)  # it comes back as a member like any other
    sent = load.join()
    here.wait_accepted(sent.records)
    assert frozen.stop()[0] == 0
    assert other.stop()[0] == 0
    balanced(here, source)
    here.check_oracle()


def test_clickhouse_away_for_seconds_loses_and_doubles_nothing(
    world: Worlds, tmp_path: Path
) -> None:
    with ChdbServer(tmp_path / "own" / "data") as server:
        here = world(server=server, max_batch_records=500)
        worker = here.worker()
        here.own(worker)
        source = traffic(9_000, seed=4)
        load = here.load(source, rate=1_000)
        here.wait("some of the load", lambda: here.accepted > 1_500)
        server.kill()
        sent = load.join()  # the load goes on while it is away
        assert worker.running
        server.start()
        here.client.disconnect()
        here.wait_accepted(sent.records)
        assert worker.running
        assert "took" in worker.log  # it said that ClickHouse answers again
        assert worker.stop()[0] == 0
        balanced(here, source)
        here.check_oracle()
