"""`tideline reset`: complete, refused while workers run, and finished by a second run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from streams.kafka.access import kafka_access
from streams.kafka.admin import committed_offsets
from streams.kafka.admin import connect as connect_admin
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.topics import check
from streams.ops.reset import STEPS
from streams.ops.reset import reset as take_steps
from tests.integration.test_lives import doctor
from tests.integration.test_pipeline import shop
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

Worlds = Callable[..., World]
SHOWN = ("scores_live", "churn_alerts_live", "segment_flow", "model_quality", "ledger")


@pytest.fixture(params=["apache_kafka", "tansu"])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def rows(here: World) -> dict[str, int]:
    return {view: here.one(f"SELECT count() FROM {view}") for view in SHOWN}


def shown(here: World) -> set[tuple[Any, ...]]:
    return set(here.sql("SELECT user_id, lifetime_orders, last_order_at FROM scores_live"))


def is_empty(here: World, committed_too: bool = True) -> bool:
    """The topics of the state have no record and are as they should be, and every shard's
    committed offsets are where its topics begin."""
    names = here.settings.topic_names
    shards = range(here.settings.kafka.partitions)
    state = [(t, n) for t in (names.checkpoints, names.journal) for n in shards]
    inputs = [(t, n) for t in (names.clickstream, names.orders) for n in shards]
    access = kafka_access(here.settings)
    with EndOffsets(access) as reader, connect_admin(access) as admin:
        assert set(reader.of(state).values()) == {0}
        committed = committed_offsets(admin, here.settings.kafka.app_id)
        at_first = {at: committed.get(at) for at in inputs} == reader.beginnings_of(inputs)
        assert at_first or not committed_too
    assert {report.state for report in check(here.settings)} == {"ok"}
    return True


def test_reset_starts_the_whole_state_over(world: Worlds, broker: Any) -> None:
    here = world(broker=broker, kafka_partitions=2)
    app = here.settings.kafka.app_id
    worker = here.worker("before")
    sent = here.produce(shop(1_200, late_share=0.0, malformed_share=0.0, span_days=50.0)).records
    here.wait_accepted(sent)

    running = here.command("reset", "--yes")
    assert running.exit_code == 1, running.output
    knows = "doesn't say" not in running.output  # the local broker does not
    if knows:
        assert f"Workers of {app} run" in running.output
        assert here.command("reset", "--yes", "--workers-stopped").exit_code == 1
    else:
        assert "tideline reset --workers-stopped" in running.output
    assert worker.stop()[0] == 0
    before, were = rows(here), shown(here)
    assert all(before.values()), before
    history = here.one("SELECT count() FROM score_history FINAL")
    stopped = () if knows else ("--workers-stopped",)

    dry = here.command("reset", "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    found = json.loads(dry.stdout)
    assert found["done"] is False
    own = here.settings.topic_names
    assert [t["topic"] for t in found["topics"]] == [own.journal, own.checkpoints]
    for topic in found["topics"]:
        assert topic["records"] > 0
        assert (topic["stored_bytes"] or 0) > 0 or not knows
    assert found["shown"]["scores_live"] == before["scores_live"]
    assert found["shown"]["churn_alerts_live"] == before["churn_alerts_live"]
    declined = here.command("reset", *stopped)  # nobody says yes
    assert declined.exit_code == 1
    assert f"{before['scores_live']:,}" in declined.output
    assert "What stays: input topics, erasures" in declined.output
    assert (rows(here), shown(here)) == (before, were)

    done = here.command("reset", "--yes", *stopped)
    assert done.exit_code == 0, done.output
    assert "tideline backfill" in done.output
    assert is_empty(here, committed_too=knows)  # the local broker's groups never lose a member
    assert rows(here) == dict.fromkeys(SHOWN, 0)  # at once, and before any batch
    here.check_views()
    assert here.one("SELECT count() FROM score_history FINAL") == history
    clean = doctor(here)
    for name in ("ledger", "shares", "topics", *(("offsets",) if knows else ())):
        assert clean[name].state == "ok", clean[name]

    worker = here.worker("after")
    here.wait_accepted(2 * sent)  # a new life with all that the topics hold
    assert worker.stop()[0] == 0
    assert shown(here) == were
    assert here.ledger()["accepted"] == sent
    here.check_views()
    again = doctor(here)
    for name in ("ledger", "shares", "offsets"):
        assert again[name].state == "ok", again[name]


class _Cut(Exception):
    """The process is gone here."""


def test_reset_interrupted_at_any_step_is_finished_by_the_next(world: Worlds, tansu: Any) -> None:
    here = world(broker=tansu, kafka_partitions=2)
    names = here.settings.topic_names
    worker = here.worker("before")
    sent = here.produce(shop(600, late_share=0.0, malformed_share=0.0, span_days=10.0)).records
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    were = shown(here)
    for cut in STEPS[1:]:

        def until(step: str, cut: str = cut) -> None:
            if step == cut:
                raise _Cut

        with pytest.raises(_Cut):
            take_steps(here.settings, until)
    for only in (names.checkpoints, names.journal):  # one of the two was there again, or still
        take_steps(here.settings)
        with connect_admin(kafka_access(here.settings)) as admin:
            admin.delete_topics([only])
        done = here.command("reset", "--yes", "--workers-stopped", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["done"] is True
        assert is_empty(here, committed_too=False)
    assert rows(here) == dict.fromkeys(SHOWN, 0)

    worker = here.worker("after")
    here.wait_accepted(2 * sent)
    assert worker.stop()[0] == 0
    assert shown(here) == were


def test_reset_deletes_nothing_while_clickhouse_is_not_ready(world: Worlds) -> None:
    here = world(kafka_partitions=2)
    here.sql("TRUNCATE TABLE schema_migrations")
    refused = here.command("reset", "--yes", "--workers-stopped")
    assert refused.exit_code == 1
    assert "Run `tideline migrate`" in refused.output
    assert {report.state for report in check(here.settings)} == {"ok"}
