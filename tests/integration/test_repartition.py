"""`tideline repartition` is run wrongly, given up, or long after its offsets have expired."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from click.testing import Result

from streams.kafka.access import kafka_access
from streams.kafka.admin import connect, partition_counts
from streams.kafka.growth import (
    Note,
    add_partitions,
    begun_at,
    commit_for,
    committed_by,
    copying_group,
    counts_of,
    forget_group,
)
from streams.kafka.topics import check, create_missing
from streams.local.process import wait_until
from streams.repartition import Move
from streams.settings import as_environ, override
from tests.integration.forking import run_forked
from tests.integration.test_lives import doctor
from tests.integration.test_pipeline import shop
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(300)]

Worlds = Callable[..., World]


def names(here: World, suffix: str = "-2") -> tuple[str, str]:
    return here.inputs.clickstream + suffix, here.inputs.orders + suffix


def repartition(
    here: World, topics: Sequence[str] | None = None, *more: str, partitions: int = 6
) -> Result:
    clicks, orders = topics or names(here)
    words = ("--clickstream-topic", clicks, "--orders-topic", orders, *more)
    return here.command("repartition", "--partitions", str(partitions), "--json", *words)


def group(here: World) -> str:
    return copying_group(here.settings.kafka.app_id, here.settings.kafka.partitions)


def own_topics(here: World) -> list[str]:
    own = here.settings.topic_names
    return [own.journal, own.checkpoints, own.alerts, own.dead_letters, own.audiences]


def moved_to(here: World) -> None:
    """Go on with the settings that the command says."""
    clicks, orders = names(here)
    here.settings = override(
        here.settings,
        kafka_partitions=6,
        kafka_clickstream_topic=clicks,
        kafka_orders_topic=orders,
    )


@pytest.mark.parametrize("wrong", [("clicks-x", "orders"), ("clicks", "orders-x")])
def test_a_run_that_names_another_topic_is_refused(
    world: Worlds, apache_kafka: Any, wrong: tuple[str, str]
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    here.produce(shop(200, span_days=10.0))
    done = repartition(here)
    assert done.exit_code == 0, done.output
    committed = committed_by(kafka_access(here.settings), group(here))
    clicks, orders = names(here)
    mistyped = tuple(w.replace("clicks", clicks).replace("orders", orders) for w in wrong)
    refused = repartition(here, mistyped)
    assert refused.exit_code == 1
    assert f"--clickstream-topic {clicks} --orders-topic {orders}." in refused.stderr
    assert committed_by(kafka_access(here.settings), group(here)) == committed
    missing = {*mistyped} - {clicks, orders}
    assert not counts_of(kafka_access(here.settings), [*missing])


def test_a_run_after_one_that_was_cut_short_keeps_to_its_topics(
    world: Worlds, apache_kafka: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    sent = here.produce(shop(200, span_days=10.0)).records
    worker = here.worker()
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    split_one = Move._split_one

    async def cut(move: Move, number: int, *services: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return await split_one(move, number, *services)

    monkeypatch.setattr(Move, "_split_one", cut)
    assert repartition(here).exit_code == 1
    monkeypatch.undo()
    clicks, orders = names(here)
    refused = repartition(here, (clicks, f"{orders}-x"))
    assert refused.exit_code == 1
    assert f"--clickstream-topic {clicks} --orders-topic {orders}." in refused.stderr
    done = repartition(here)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [shard["earlier"] for shard in said["shards"]] == [True, False]
    assert (said["refused"], said["refused_records"], said["expired"]) == (0, [], 0)


def test_copying_does_not_begin_again_when_offsets_have_expired(
    world: Worlds, apache_kafka: Any
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    sent = here.produce(shop(200, span_days=10.0)).records
    worker = here.worker()
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    assert repartition(here).exit_code == 0
    before = committed_by(kafka_access(here.settings), group(here))
    forget_group(kafka_access(here.settings), group(here))
    refused = repartition(here)
    assert refused.exit_code == 1
    assert f"How far {here.inputs.clickstream}/0, {here.inputs.orders}/0 was" in refused.stderr
    begun = begun_at(names(here)[0])
    assert committed_by(kafka_access(here.settings), group(here)).keys() == {begun}
    by_hand = {at: each.offset for at, each in before.items() if at != begun}
    commit_for(kafka_access(here.settings), group(here), by_hand, "")
    again = repartition(here)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["copied"] == 0
    assert committed_by(kafka_access(here.settings), group(here)) == before


def test_a_run_that_was_given_up_before_the_split_leaves_things_as_they_were(
    world: Worlds, apache_kafka: Any
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    worker = here.worker()
    here.own(worker)
    given_up = repartition(here, names(here, "-12"), "--wait", "0", partitions=12)
    assert given_up.exit_code == 1
    assert "Workers of" in given_up.stderr
    assert set(counts_of(kafka_access(here.settings), own_topics(here)).values()) == {2}
    assert worker.stop()[0] == 0

    # and one that was killed behind that
    add_partitions(kafka_access(here.settings), own_topics(here), 12)
    reports = {r.topic.name: r for r in check(here.settings)}
    assert {r.state for r in reports.values()} == {"ok"}
    for name in own_topics(here):
        assert reports[name].problem == "it has 12 partitions, of which 2 are used"
    listed = here.command("topics", "--create")
    assert listed.exit_code == 0, listed.output
    assert "it has 12 partitions, of which 2 are used." in listed.stdout
    assert create_missing(here.settings) == []
    found = doctor(here)["topics"]
    assert found.state == "ok", found
    assert f"{here.settings.topic_names.journal}: it has 12 partitions" in found.detail

    sent = here.produce(shop(200, span_days=10.0)).records
    worker = here.worker("again")
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    assert repartition(here).exit_code == 0  # fewer than 12
    moved_to(here)
    reset = here.command("reset", "--yes", "--json")
    assert reset.exit_code == 0, reset.output
    counts = counts_of(kafka_access(here.settings), own_topics(here))
    assert [counts[name] for name in own_topics(here)] == [6, 6, 12, 12, 12]


def test_inputs_may_not_have_more_partitions_than_shards(world: Worlds) -> None:
    here = world(kafka_partitions=2)
    with connect(kafka_access(here.settings)) as admin:
        admin.create_partitions({here.inputs.orders: 4})
    wrong = {r.topic.name: r.problem for r in check(here.settings) if r.state != "ok"}
    assert wrong == {here.inputs.orders: "it has 4 partitions, needed are 2"}


def test_a_reset_after_growth_says_what_is_only_in_the_old_topics(
    world: Worlds, apache_kafka: Any
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    before = here.settings
    sent = here.produce(shop(300, span_days=10.0)).records
    worker = here.worker()
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    assert json.loads(here.command("reset", "--dry-run", "--json").stdout)["before_growth"] == []
    assert repartition(here).exit_code == 0
    old = sorted([here.inputs.clickstream, here.inputs.orders])
    copied = committed_by(kafka_access(before), group(here))
    assert {topic for topic, _ in copied} == {*old, names(here)[0]}

    moved_to(here)
    dry = here.command("reset", "--dry-run")
    assert f"what was read of {old[0]} and {old[1]} before" in dry.stdout
    assert "`tideline backfill`" in dry.stdout
    done = json.loads(here.command("reset", "--yes", "--json").stdout)
    assert done["before_growth"] == old
    here.settings = before
    assert committed_by(kafka_access(before), group(here)) == copied  # copying goes on there
    again = repartition(here)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["shards"] == []

    # A new life with the old settings: its shards were never split.
    assert here.command("reset", "--yes", "--json").exit_code == 0
    assert committed_by(kafka_access(before), group(here)) == {}
    split = json.loads(repartition(here).stdout)
    assert [shard["earlier"] for shard in split["shards"]] == [False, False]


def worker(here: World) -> subprocess.CompletedProcess[str]:
    """A worker that ends by itself."""
    return run_forked(["worker"], {**os.environ, **as_environ(here.settings)}, 120)


def test_worker_with_the_new_settings_does_not_start_before_all_shards_are_split(
    world: Worlds, apache_kafka: Any
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    of_old, new = group(here), names(here)
    moved_to(here)
    add_partitions(kafka_access(here.settings), own_topics(here), 6)
    create_missing(here.settings)
    splitting = str(Note(*new, done=False))
    commit_for(kafka_access(here.settings), of_old, {begun_at(new[0]): 0}, splitting)
    refused = worker(here)
    assert refused.returncode == 1
    assert "from 2 to 6 partitions has not split all shards" in refused.stderr


def test_worker_does_not_start_on_state_topics_that_a_broker_would_create(
    world: Worlds, apache_kafka: Any
) -> None:
    here = world(broker=apache_kafka, kafka_partitions=2)
    gone = here.settings.topic_names.checkpoints
    with connect(kafka_access(here.settings)) as admin:
        admin.delete_topics([gone])
        assert wait_until(lambda: gone not in partition_counts(admin, [gone]), 60)
    refused = worker(here)
    assert refused.returncode == 1
    assert f"{gone}: it does not exist. Run `tideline topics --create`" in refused.stderr
    assert gone not in counts_of(kafka_access(here.settings), [gone])
