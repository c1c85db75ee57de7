"""Models go bad: at the start they are refused, later the last good one stays, and events go on."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest

from models.artifact import CURRENT_FILE, current_version
from schemas.messages import LearnerSnapshot
from streams.kafka.log import KafkaLog
from streams.learner.service import SNAPSHOT_KEY
from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.spoiled_models import (
    ARTIFACTS,
    SNAPSHOTS,
    copy_artifacts,
    not_a_number_for_some,
    sound_snapshot,
)
from tests.integration.world import WAIT_SECONDS, Worker, World

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
]  # fmt: skip


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return copy_artifacts(tmp_path)


def count(worker: Worker, name: str) -> float:
    """A counter without labels."""
    return sum(value for _, value in worker.metrics(name))


def has_counted(worker: Worker, name: str, at_least: int) -> bool:
    return count(worker, name) >= at_least


def has_ended(worker: Worker) -> bool:
    return not worker.running


def has_skipped_more_than(worker: Worker, records: int) -> bool:
    return worker.log.count("skipping a record") > records


@pytest.mark.fault("model missing, of another hash or shape, NaN: start refused")
def test_a_worker_does_not_start_on_a_model_that_fails_its_checks(
    fault: Drill, artifacts: Path
) -> None:
    here = fault.build(model_artifact=artifacts)
    fault.load(2_000, rate=2_000).join()
    version = current_version(artifacts)
    good = Path(shutil.copytree(artifacts / version, artifacts.parent / "good"))
    for name, (spoil, message) in ARTIFACTS.items():
        spoil(artifacts / version)
        refused = fault.worker(f"refused-{name.replace(' ', '-')}")
        assert wait_until(partial(has_ended, refused), WAIT_SECONDS), name
        assert refused.stop()[0] == 1
        assert message in refused.log, f"{name}: {refused.log[-2000:]}"
        shutil.copytree(good, artifacts / version, dirs_exist_ok=True)
    assert here.accepted == 0
    with fault.recovery():
        worker = fault.worker("worker")
    fault.finish(worker)


@pytest.mark.fault("a bad model is promoted: the last good one stays")
def test_a_promoted_model_that_fails_its_checks_leaves_the_old_one_in_use(
    fault: Drill, artifacts: Path
) -> None:
    here = fault.build(model_artifact=artifacts, stream_checkpoint_interval_seconds=1.0)
    good = current_version(artifacts)
    worker = fault.worker("worker")
    here.own(worker)
    load = fault.load(6_000, rate=600)
    fault.under_load(500)
    for n, (name, (spoil, message)) in enumerate(ARTIFACTS.items(), 1):
        bad = artifacts / f"2026-11-25-bad{n}"
        shutil.copytree(artifacts / good, bad)
        spoil(bad)
        (artifacts / CURRENT_FILE).write_text(bad.name)
        here.wait(
            f"the refusal of a model {name}",
            partial(has_counted, worker, "tideline_champions_refused_total", n),
        )
        assert f"champion {bad.name} is refused, {good} stays in use" in worker.log, name
        assert (message if name != "missing" else f"{bad.name}, which CURRENT") in worker.log, name
    with fault.recovery():
        if not load.thread.is_alive():
            fault.load(500, rate=1_000)
    (artifacts / CURRENT_FILE).write_text(good)  # for the oracle, which is loaded by it
    fault.finish(worker)
    assert here.sql("SELECT DISTINCT champion_version FROM score_history") == [(good,)]


@pytest.mark.fault("a model with NaN for some: they keep their score; SIGKILL meanwhile")
def test_a_model_without_a_number_for_some_customers_stops_nobody(
    fault: Drill, artifacts: Path
) -> None:
    here = fault.build(model_artifact=artifacts, model_score_sample_share=0.2)
    first = fault.worker("first")
    here.own(first)
    fault.load(6_000, rate=1_000, span_days=60.0)
    fault.under_load(1_500)
    version = not_a_number_for_some(artifacts, "days_since_order")
    (artifacts / CURRENT_FILE).write_text(version)
    here.wait("it fails for some", lambda: count(first, "tideline_scores_refused_total") > 20)
    assert f"champion {version} gave" in first.log
    first.kill()
    with fault.recovery():
        second = fault.worker("second")  # replays those very steps
    oracles = fault.finish(second)
    assert sum(outputs.refused for o in oracles.values() for outputs in o.outputs) > 20
    # Nobody who had a score has lost it, and the others are scored by the new champion.
    lost = """
        SELECT count() FROM (
            SELECT isNaN(p_churn) AS now, lagInFrame(p_churn, 1, toFloat32(nan)) OVER w AS before
            FROM score_history FINAL WINDOW w AS (PARTITION BY user_id ORDER BY seq)
        ) WHERE now AND NOT isNaN(before)"""
    assert here.one(lost) == 0
    scored = f"SELECT count() FROM score_history WHERE champion_version = '{version}'"
    assert here.one(scored + " AND NOT isNaN(p_churn)") > 100


async def put(here: World, value: bytes | None) -> None:
    """A record where the learner publishes its snapshots."""
    log = KafkaLog(here.settings.kafka.brokers)
    await log.start()
    try:
        await log.append(here.settings.topic_names.learner, 0, [(SNAPSHOT_KEY, value)])
    finally:
        await log.stop()


@pytest.mark.fault("learner snapshot missing, of another shape, NaN: the last good one stays")
def test_a_bad_learner_snapshot_is_never_scored_with(fault: Drill, artifacts: Path) -> None:
    here = fault.build(model_artifact=artifacts, stream_checkpoint_interval_seconds=1.0)
    first = fault.worker("first")
    here.own(first)
    load = fault.load(9_000, rate=600, span_days=60.0)
    fault.under_load(500)

    def in_use(version: int) -> bool:
        query = f"SELECT count() FROM score_history WHERE learner_version = {version}"
        return bool(here.one(query))

    def publish(snapshot: LearnerSnapshot) -> None:
        asyncio.run(put(here, msgspec.msgpack.encode(snapshot)))

    good = sound_snapshot(artifacts, 10)
    publish(good)
    here.wait("the good snapshot", lambda: in_use(10))
    for n, (name, spoil) in enumerate(SNAPSHOTS.items()):
        worse = msgspec.structs.replace(good, version=11 + n)
        skipped = first.log.count("skipping a record")
        asyncio.run(put(here, spoil(worse)))
        here.wait(
            f"a snapshot {name} is skipped",
            partial(has_skipped_more_than, first, skipped),
        )
    first.kill()
    with fault.recovery():  # the newest record of the topic is a bad one
        second = fault.worker("second")
    better = msgspec.structs.replace(good, version=100)
    publish(better)
    if not load.thread.is_alive():
        fault.load(500, rate=500)
    here.wait("the next good snapshot", lambda: in_use(100))
    fault.finish(second)
    used = {v for (v,) in here.sql("SELECT DISTINCT learner_version FROM score_history")}
    assert used == {0, 10, 100}
