"""A shard that was started over: its new life shows at once, and the doctor knows what is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.ops.doctor import Finding, examine
from streams.settings import as_environ, override
from tests.awaiting import awaited
from tests.integration.test_pipeline import shop
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

Worlds = Callable[..., World]


def doctor(here: World, **changes: Any) -> dict[str, Finding]:
    """Its worst finding of each check."""
    found: dict[str, Finding] = {}
    for finding in examine(as_environ(override(here.settings, **changes))):
        if finding.check not in found or finding.state == "fail":
            found[finding.check] = finding
    return found


@pytest.mark.slow
def test_a_life_that_begins_again_shows_at_once_and_keeps_what_was(world: Worlds) -> None:
    here = world(kafka_partitions=2)
    names = here.settings.topic_names
    first = shop(1_500, late_share=0.0, malformed_share=0.0, span_days=50.0)
    worker = here.worker("before")
    sent = here.produce(first).records
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    here.check_oracle()
    books = here.ledger()
    assert books["accepted"] == sent
    before = doctor(here)
    for check in ("ledger", "shares", "offsets"):
        assert before[check].state == "ok", before[check]
    was = dict(here.sql("SELECT user_id, lifetime_orders FROM scores_live"))
    history, alerts = (
        here.one(f"SELECT count() FROM {table} FINAL") for table in ("score_history", "alerts")
    )
    batches = here.one("SELECT max(bitAnd(seq, 0xFFFFFFFF)) FROM batches")
    here.sql("TRUNCATE TABLE users_now")  # many more batches than a new life makes soon
    here.sql(
        "INSERT INTO score_history SELECT * REPLACE (seq + 500000 AS seq) FROM score_history FINAL"
    )

    here.recreate([names.checkpoints, names.journal])
    worker = here.worker("after")
    here.wait(
        "a new life with all that the topics hold",
        lambda: here.accepted == 2 * sent,
    )
    assert worker.stop()[0] == 0
    oracles = awaited(here.replayed())
    assert here.ledger() == books
    assert dict(here.sql("SELECT user_id, lifetime_orders FROM scores_live")) == was
    lives = {oracle.plans[0].seq >> 32 for oracle in oracles.values()}
    shown = here.sql("SELECT DISTINCT bitShiftRight(seq, 32) FROM scores_live")
    assert {life for (life,) in shown} == lives
    assert here.one("SELECT max(bitAnd(seq, 0xFFFFFFFF)) FROM scores_live") < 500_000 + batches
    # What was said before is still there, and ended; nothing of it was written over.
    assert here.one("SELECT count() FROM score_history FINAL") > 2 * history
    assert here.one("SELECT count() FROM alerts FINAL") > alerts
    ended = here.one("SELECT count() FROM alert_history WHERE closed_why = 'started_over'")
    left = here.one(
        "SELECT count() - countIf(closed) FROM (SELECT alert_id, max(version) = 2 AS closed "
        f"FROM alerts WHERE life NOT IN ({', '.join(map(str, lives))}) GROUP BY alert_id)"
    )
    assert ended == left > 0
    here.check_views()
    after = doctor(here)
    for check in ("ledger", "shares", "offsets"):
        assert after[check].state == "ok", after[check]


def test_the_doctor_compares_the_ledger_with_the_topics(world: Worlds) -> None:
    here = world(kafka_partitions=2, stream_max_batch_records=200)  # several batches
    empty = doctor(here)
    assert (empty["ledger"].state, empty["offsets"].state) == ("ok", "ok")
    worker = here.worker()
    sent = here.produce(shop(1_000, late_share=0.0, malformed_share=0.05, span_days=30.0)).records
    here.wait_accepted(sent)
    assert worker.stop()[0] == 0
    found = doctor(here)
    assert (found["ledger"].state, found["offsets"].state) == ("ok", "ok")
    assert "0 wait" in found["offsets"].detail
    assert found["shares"].state == "warn"
    assert "tideline dlq list" in found["shares"].fix
    strict = doctor(here, health_dead_letter_fail_share=0.02)
    assert strict["shares"].state == "fail"

    waiting = here.produce(shop(300, seed=12)).records
    assert f"{waiting:,} wait" in doctor(here)["offsets"].detail
    here.sql("ALTER TABLE batches DELETE WHERE bitAnd(seq, 0xFFFFFFFF) = 2 "
             "SETTINGS mutations_sync = 2")  # fmt: skip
    assert "batches missing" in doctor(here)["ledger"].detail
    here.sql("TRUNCATE TABLE batches")
    lost = doctor(here)["offsets"]
    assert lost.state == "fail"
    assert "are not in this database" in lost.detail
    assert "TIDELINE_CLICKHOUSE_DATABASE" in lost.fix
