"""A shard on a log and a sink in memory: crashed, failed and paused at every call it makes.

What holds after any of it (`Rig.check`): batch cuts may differ from a clean run's, because a new
owner finds other records waiting. But the rows are exactly those of the journalled steps, and the
state is exactly the journal's replay. Where the same records wait at every turn (all of the input
is there), the cuts are the same too, and so is everything else: rows and state equal a clean run's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from schemas.errors import BrokerUnavailable, StateError
from schemas.features import FEATURE_NAMES
from schemas.lives import position_of
from schemas.messages import LearnerSnapshot
from streams.core.events.records import RecordBatch
from streams.shard import intake as intake_module
from streams.shard.engine import Engine
from streams.shard.journal import Fenced, Journal, Takeover
from streams.shard.journal import _decoder as journal_decoder
from tests.awaiting import turns
from tests.shard.memory import MemoryLog, MemorySink, NoFaults
from tests.shard.oracle import Oracle, assert_same_state
from tests.shard.rig import (
    FETCH_ALL,
    SHARD,
    TOPICS,
    CrashAt,
    Crashed,
    FailAt,
    PauseAt,
    Process,
    Rig,
    quick_shards,
    running,
    script,
)
from tests.shard.sweep import STRIDES, sweep

__all__ = ["quick_shards"]

# Enumerations run a shard a hundred times, and the machine may be busy.
pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]

TRICKLE = 17  # records per fetch: fewer than a batch holds
ENOUGH_POINTS = 60  # a run makes at least so many calls, or the enumeration missed its aim


@cache
def script_log() -> MemoryLog:
    rig = Rig()
    rig.load(script())
    return rig.log


def loaded() -> Rig:
    return Rig(script_log().copy())


async def clean_run(fetch: int = FETCH_ALL) -> tuple[Rig, Process]:
    rig = loaded()
    process = rig.process("clean", fetch=fetch)
    await process.run()
    return rig, process


async def crashes(rig: Rig, n: int, owner: str, fetch: int = FETCH_ALL) -> CrashAt | None:
    """Run a process that dies at its n-th call; None if it ended before."""
    crash = CrashAt(n)
    try:
        await rig.process(owner, crash, fetch).run()
    except Crashed:
        return crash
    return None


def test_every_step_checkpoint_and_recovery_is_a_line_with_shard_step_and_offsets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "streams.shard")

    async def go() -> Oracle:
        rig = loaded()
        assert await crashes(rig, 40, "first") is not None
        await rig.process("second").run()
        return await rig.oracle()

    plans = {plan.seq: plan for plan in asyncio.run(go()).plans}
    lines = [vars(record) for record in caplog.records if hasattr(record, "fact")]
    steps = [line for line in lines if line["fact"] in ("step", "step_replayed")]
    assert {line["seq"] for line in steps} == plans.keys()
    for line in steps:
        plan = plans[line["seq"]]
        places = "clickstream_from", "orders_from", "clickstream_to", "orders_to"
        assert tuple(line[place] for place in places) == (*plan.start, *plan.stop)
        assert (line["shard"], line["step"]) == (SHARD, position_of(plan.seq))
    facts = [line["fact"] for line in lines]
    assert facts.count("shard_recovered") == 2
    assert {"step", "step_replayed", "checkpoint"} <= set(facts)


def test_steps_that_an_earlier_owner_journalled_are_told_apart_when_they_are_stored() -> None:
    async def go() -> None:
        rig = loaded()
        assert await crashes(rig, 40, "first") is not None
        journalled = len((await rig.oracle()).plans)
        second = rig.process("second")
        await second.run()
        steps = len((await rig.oracle()).plans)
        replayed = second.monitor.stored_replayed
        assert 0 < sum(replayed) <= journalled < steps
        assert replayed == sorted(replayed, reverse=True)  # a recovery comes before all else
        assert len(replayed) - sum(replayed) == steps - journalled
        left = second.monitor.left
        assert [steps for steps, _ in left] == list(range(sum(replayed), -1, -1))
        assert left[-1] == (0, 0)
        records = [records for _, records in left]
        assert records == sorted(records, reverse=True)
        assert records[0] > sum(replayed)

    asyncio.run(go())


@pytest.mark.parametrize("fetch", [FETCH_ALL, TRICKLE])
def test_a_clean_run_makes_everything_that_can_be_made(fetch: int) -> None:
    async def go() -> None:
        rig, process = await clean_run(fetch)
        oracle = await rig.check(process.shard)
        assert oracle.ignored == 0
        assert set(oracle.rows) == {
            "score_history", "segment_changes", "alerts", "matured_predictions", "examples",
            "dead_letters", "score_samples", "batches", "segment_totals", "segment_moves", "events",
            "user_features",
        }  # fmt: skip
        champions = [plan.champion for plan in oracle.plans]
        assert champions == sorted(champions)
        assert set(champions) == {"fake-1", "fake-2"}  # one was promoted on the way
        assert rig.committed == rig.ends
        assert min(rig.applied_ms) > 0
        assert oracle.state.meta.learner is not None
        assert oracle.state.meta.learner.version == 7
        assert (
            not process.shard._state.rows_guard.copy_on_write
        )  # copies nothing once it was written

    asyncio.run(go())


@STRIDES
def test_a_crash_at_every_call_leaves_the_rows_and_the_state_of_a_clean_run(
    stride: int,
) -> None:
    clean, first = asyncio.run(clean_run())

    async def attempt(n: int) -> bool:
        rig = loaded()
        crash = await crashes(rig, n, "first")
        if crash is None:
            return False
        process = rig.process("second")
        await process.run()
        assert rig.sink.rows == clean.sink.rows, crash.where
        assert rig.sink.changed == []
        assert_same_state(process.shard._state, first.shard._state)
        return True

    assert sweep(attempt, stride) > ENOUGH_POINTS


@STRIDES
def test_a_crash_at_every_call_and_another_in_the_recovery_keep_rows_and_journal_one(
    stride: int,
) -> None:
    """The input trickles in, so that the cuts of the three owners differ."""

    async def attempt(n: int) -> bool:
        rig = loaded()
        if await crashes(rig, n, "first", TRICKLE) is None:
            return False
        await crashes(rig, 1 + n % 29, "second", TRICKLE + 5)
        process = rig.process("third", fetch=TRICKLE)
        await process.run()
        await rig.check(process.shard)
        return True

    assert sweep(attempt, stride) > ENOUGH_POINTS


@STRIDES
def test_a_worker_paused_at_every_call_is_fenced_and_changes_nothing_when_it_wakes(
    stride: int,
) -> None:
    async def attempt(n: int) -> bool:
        rig, pause = loaded(), PauseAt(n)
        zombie = rig.process("zombie", pause, TRICKLE)
        work = asyncio.create_task(zombie.run())
        stopped = asyncio.create_task(pause.paused.wait())
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not pause.paused.is_set():
            stopped.cancel()
            work.result()
            return False
        successor = rig.process("successor", fetch=TRICKLE)
        await successor.run()
        before = await rig.oracle()
        pause.go_on.set()
        await asyncio.wait([work])
        error = work.exception()
        # It may have nothing left to write; if it has, it finds out that it lost the shard.
        assert error is None or isinstance(error, Fenced), (pause.where, error)
        after = await rig.check(successor.shard)
        assert len(after.plans) == len(before.plans)
        return True

    assert sweep(attempt, stride) > ENOUGH_POINTS


@STRIDES
def test_an_error_at_every_call_starts_the_shard_again_and_loses_nothing(
    stride: int,
) -> None:
    """Before or after its effect: a time-out leaves open whether the record is in the log."""

    async def attempt(n: int) -> bool:
        rig, fault = loaded(), FailAt(n, BrokerUnavailable("away"))
        process = rig.process("", fault, TRICKLE)
        await process.run_engine()
        if fault.calls < n:
            return False
        # If it was the last effect of all that failed, the worker stopped without it, and without
        # a checkpoint behind it: the next one makes up for that.
        await rig.process("next").run()
        await rig.check()
        return True

    assert sweep(attempt, stride) > ENOUGH_POINTS


def test_a_worker_that_comes_back_to_a_shard_that_others_had_recovers_it() -> None:
    """The same `Shard`, resumed after a rebalance that it did not see in between."""

    async def go() -> None:
        rig = loaded()
        a = rig.process("a", fetch=TRICKLE)
        a.shard.start(a.failed)
        async with running(a.pump()):
            await a.until(lambda: sum(a.at) >= 30)
            await a.shard.suspend(30)
            assert await crashes(rig, 45, "b", TRICKLE) is not None
            await a.shard.resume(a.failed)
            await a.until(lambda: sum(a.at) >= 60)
            await a.shard.suspend(30)
            await a.shard.resume(a.failed)  # nobody else came: it just goes on
            await a.until(lambda: a.done)
            await a.shard.suspend(30)
        assert a.failure is None
        await rig.check(a.shard)

    asyncio.run(go())


def test_a_shard_whose_partitions_were_paused_when_it_failed_fetches_again() -> None:
    async def go() -> None:
        rig, fault = loaded(), FailAt(10**9, BrokerUnavailable("away"))
        process = rig.process("", fault, FETCH_ALL)
        process.max_records = 8  # far more waits than three batches: the topics are paused at once
        task = asyncio.create_task(process.run_engine())
        await process.until(lambda: any(process.paused))
        fault.n = fault.calls + 1
        await asyncio.wait_for(task, 120)
        await rig.check()

    asyncio.run(go())


def test_a_suspension_without_time_loses_the_steps_of_nobody() -> None:
    async def go() -> None:
        rig, pause = loaded(), PauseAt(35)
        process = rig.process("a", pause, TRICKLE)
        process.shard.start(process.failed)
        async with running(process.pump()):
            await pause.paused.wait()
            await process.shard.suspend(0.01)  # its broker does not answer
            pause.go_on.set()
            await process.shard.resume(process.failed)
            await process.until(lambda: process.done)
            await process.shard.suspend(30)
        assert process.failure is None
        assert len(terms(rig)) == len(set(terms(rig))) == 2  # the first's may still arrive
        await rig.check(process.shard)

    asyncio.run(go())


def test_a_sink_that_never_answers_holds_back_checkpoints_and_commits() -> None:
    class Stuck(MemorySink):
        def submit(
            self, blocks: object, on_alerts: Callable[[], None] | None = None
        ) -> Future[None]:
            return Future()

    async def go() -> None:
        rig = loaded()
        process = rig.process("a")
        process.shard._s = replace(process.shard._s, sink=Stuck())
        process.shard.start(process.failed)
        async with running(process.pump()):
            await process.until(lambda: len(rig.log.records(TOPICS.journal, SHARD)) >= 3)
            await process.shard.suspend(0.1)
            await turns(3)
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert not any(name.startswith("checkpoint") for name in names)  # it is given up
        assert rig.committed == (0, 0)
        manifests = [
            k for _, k, _ in rig.log.records(TOPICS.checkpoints, SHARD) if k and b"manifest" in k
        ]
        assert len(manifests) == 1  # that of the empty state, from the start
        successor = rig.process("b")
        await successor.run()
        await rig.check(successor.shard)

    asyncio.run(go())


class Full(MemorySink):
    """Has no room until `room` is set, and counts what is submitted all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.room, self.waiting, self.submitted = asyncio.Event(), 0, 0

    async def wait_for_room(self) -> None:
        self.waiting += 1
        await self.room.wait()

    def submit(self, blocks: Any, on_alerts: Callable[[], None] | None = None) -> Future[None]:
        self.submitted += 1
        return super().submit(blocks, on_alerts)


@pytest.mark.parametrize("replayed", [False, True])
def test_a_step_is_taken_only_once_the_sink_has_room(replayed: bool) -> None:
    """Also one that is replayed. Without, the sink would refuse rows, and the shard start again."""

    async def go() -> None:
        rig = loaded()
        if replayed:
            assert await crashes(rig, 50, "first", TRICKLE) is not None
        full = Full()
        process = rig.process("second")
        process.shard._s = replace(process.shard._s, sink=full)
        process.shard.start(process.failed)
        async with running(process.pump()):
            await process.until(lambda: full.waiting > 0 or full.submitted > 0)
            steps = rig.log.records(TOPICS.journal, SHARD)
            await turns(50)
            assert (full.waiting, full.submitted) == (1, 0)
            assert rig.log.records(TOPICS.journal, SHARD) == steps
            full.room.set()
            await process.until(lambda: process.done)
            await process.shard.suspend(30)
        assert process.failure is None
        assert full.waiting == full.submitted
        assert process.monitor.states.count("recovering") == 1

    asyncio.run(go())


def test_every_newer_learner_snapshot_is_taken_into_a_plan_once() -> None:
    async def go() -> None:
        rig = loaded()
        process = rig.process("", fetch=TRICKLE)

        def newest() -> LearnerSnapshot | None:
            """A newer one after every 15 records; at the end an old one, as for a worker that has
            just begun to follow."""
            at = sum(process.at)
            version = at // 15 if at < sum(rig.ends) - 20 else 1
            return LearnerSnapshot(
                version, "fake-1", list(FEATURE_NAMES), 9, 0.5, 0.0, 1.0, [], [], []
            )

        process.shard._s = replace(process.shard._s, learner=newest)
        await process.run()
        oracle = await rig.check(process.shard)
        versions = [plan.learner.version for plan in oracle.plans if plan.learner is not None]
        assert len(versions) > 2
        assert versions == sorted(set(versions))
        assert oracle.state.meta.learner is not None
        assert oracle.state.meta.learner.version == versions[-1]

    asyncio.run(go())


def test_a_damaged_journal_record_stops_the_shard_and_names_the_place() -> None:
    async def go() -> None:
        rig = loaded()
        assert await crashes(rig, 50, "first", TRICKLE) is not None
        end = rig.log.ends_now(TOPICS.journal, SHARD)[1]
        rig.log.replace(TOPICS.journal, SHARD, end - 1, b"\xff\xff not a record")
        with pytest.raises(StateError, match=f"{TOPICS.journal}/{SHARD} offset {end - 1}"):
            await rig.process("second").run()

    asyncio.run(go())


def test_a_journal_that_was_deleted_and_created_again_is_noticed() -> None:
    async def go() -> None:
        rig, _ = await clean_run()
        rig.log.cut(TOPICS.journal, SHARD, 0)
        with pytest.raises(StateError, match="journal"):
            await rig.process("second").run()

    asyncio.run(go())


def test_without_checkpoints_a_shard_replays_its_journal_from_the_first_step_on() -> None:
    async def go() -> None:
        rig, first = await clean_run()
        steps = first.shard._state.meta.seq
        rig.log.cut(TOPICS.checkpoints, SHARD, 0)
        second = rig.process("second")
        await second.run()
        assert second.shard._state.meta.seq == steps
        await rig.check(second.shard)
        rig.log.cut(TOPICS.checkpoints, SHARD, 0)
        rig.log.expire(TOPICS.journal, SHARD, 2)  # the takeover and the first step are gone
        with pytest.raises(StateError, match="begins at step 2 but there is no checkpoint"):
            await rig.process("third").run()

    asyncio.run(go())


def test_input_that_retention_took_before_it_was_replayed_is_noticed() -> None:
    async def go() -> None:
        n = 30  # the next step that is in the journal and in no checkpoint
        while True:
            rig = loaded()
            crash = await crashes(rig, n, "first", TRICKLE)
            assert crash is not None
            if crash.where == f"append to {TOPICS.journal}: after":
                break
            n += 1
        rig.log.expire(TOPICS.clickstream, SHARD, rig.ends[0] - 1)
        with pytest.raises(StateError, match=TOPICS.clickstream):
            await rig.process("second").run()

    asyncio.run(go())


def terms(rig: Rig) -> list[str]:
    """The names under which the shard was taken over."""
    entries = (
        journal_decoder.decode(value or b"")
        for _, _, value in rig.log.records(TOPICS.journal, SHARD)
    )
    return [entry.owner for entry in entries if isinstance(entry, Takeover)]


def test_records_that_come_while_a_shard_recovers_pause_their_topic() -> None:
    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        await process.shard.offer(0, await fetched(rig, 0))
        assert process.paused == [True, False]

    asyncio.run(go())


async def started(process: Process) -> Engine:
    """An engine whose shard has recovered and gets nothing by itself."""
    process.engine = process.make_engine()
    await process.engine.assigned([SHARD])
    await process.until(lambda: process.monitor.states[-1:] == ["running"])
    return process.engine


async def fetched(rig: Rig, start: int) -> RecordBatch:
    topic = TOPICS.clickstream
    records = await rig.log.read(topic, SHARD, start, rig.ends[0])
    return RecordBatch.of(topic, SHARD, records)


@pytest.mark.parametrize("longest", [10**6, 5])
def test_what_a_fetch_skipped_is_read_from_the_log(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or fetched again, if it is much; if that shows the same hole, it is read all the same."""
    monkeypatch.setattr(intake_module, "MAX_GAP_RECORDS", longest)

    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        engine = await started(process)
        await engine.offer(await fetched(rig, 20))
        await engine.offer(await fetched(rig, 20))
        assert process.position == [0, 0]
        async with running(process.pump(engine.offer)):
            process.position[0] = rig.ends[0]  # nothing more comes of the clicks
            await process.until(lambda: process.done)
            await engine.stop()
        await rig.check()

    asyncio.run(go())


def test_records_that_are_gone_before_they_were_fetched_stop_the_worker() -> None:
    """Retention passed the position: that is a loss, and must not go by in silence."""

    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        engine = await started(process)
        rig.log.expire(TOPICS.clickstream, SHARD, 10)
        await engine.offer(await fetched(rig, 10))
        assert isinstance(process.failure, StateError)
        assert TOPICS.clickstream in str(process.failure)
        assert process.monitor.states[-1] == "suspended"
        await engine.stop()

    asyncio.run(go())


def test_a_shard_that_was_started_over_writes_over_nothing_of_its_earlier_life() -> None:
    """Checkpoints and journal are gone; the input, and all rows, are still there."""
    rig = Rig(log=script_log().copy())
    asyncio.run(rig.process("a").run())
    before = {table: dict(rows) for table, rows in rig.sink.rows.items()}
    for topic in (TOPICS.checkpoints, TOPICS.journal):
        rig.log.cut(topic, SHARD, 0)
    rig.wall_ms += 9_000
    asyncio.run(rig.process("b").run())
    assert rig.sink.changed == []
    after = rig.sink.rows
    same = ("dead_letters", "events")  # of the same records
    newest = before.pop("user_features")  # of each user: of the later life
    assert after["user_features"].keys() == newest.keys()
    assert min(r["seq"] for r in after["user_features"].values()) > max(
        r["seq"] for r in newest.values()
    )
    before["user_features"] = {}
    for table, rows in before.items():
        assert rows.items() <= after[table].items()
        if table == "user_features":
            continue
        new = [row for key, row in after[table].items() if key not in rows]
        assert len(new) == (0 if table in (*same, "model_drift") else len(rows)), table
        for column in {"seq", "ordinal"} & set(new[0] if new else ()):
            assert min(r[column] for r in new) > max(r[column] for r in rows.values()), table
        for column, unit in (("life", 1), ("seq", 1 << 32), ("ordinal", 1 << 32)):
            lives = {row[column] // unit for row in new if column in row}
            assert lives <= {rig.wall_ms // 1000}, (table, column)
    rig.sink.rows = {
        table: {key: row for key, row in rows.items() if key not in before[table]}
        for table, rows in after.items() if table not in same
    } | {table: after[table] for table in same}  # fmt: skip
    journalled = asyncio.run(rig.oracle())
    assert rig.sink.rows == journalled.rows


def test_a_journal_whose_beginning_is_gone_can_t_begin_a_life() -> None:
    rig = Rig(log=script_log().copy())
    asyncio.run(rig.process("a").run())
    rig.log.cut(TOPICS.checkpoints, SHARD, 0)
    rig.log.expire(TOPICS.journal, SHARD, 3)
    remedy = "stop all workers and run `tideline reset`.* stay in score_history"
    with pytest.raises(StateError, match=f"begins at step 3 .* {remedy}"):
        asyncio.run(rig.process("b").run())


def test_compaction_of_the_checkpoint_topic_between_owners_changes_nothing() -> None:
    async def go() -> None:
        rig = loaded()
        for n in range(8):
            await crashes(rig, 40 + 3 * n, f"owner-{n}", TRICKLE)
            rig.log.compact(TOPICS.checkpoints, SHARD)
        process = rig.process("last", fetch=TRICKLE)
        await process.run()
        await rig.check(process.shard)

    asyncio.run(go())


def test_input_topics_that_were_created_again_stop_the_shard_at_its_start() -> None:
    """A consumer would begin at their start, and all of it would pass for records had before."""

    async def go() -> None:
        rig, _ = await clean_run()
        rig.log.cut(TOPICS.orders, SHARD, 5)
        with pytest.raises(StateError, match=f"{TOPICS.orders}, which has 0 to 5.*created again"):
            await rig.process("second").run()

    asyncio.run(go())


def test_a_topic_created_again_during_a_rebalance_stops_the_shard_that_goes_on_after_it() -> None:
    """Nothing of the new topic needs to be fetched for that: it may be empty."""

    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        engine = await started(process)
        async with running(process.pump(engine.offer)):
            await process.until(lambda: process.done)
        await engine.revoked()
        rig.log.cut(TOPICS.orders, SHARD, 0)
        await engine.assigned([SHARD])
        await process.until(lambda: process.failure is not None)
        assert isinstance(process.failure, StateError)
        assert "created again" in str(process.failure)
        await engine.stop()

    asyncio.run(go())


@pytest.mark.parametrize("recreated", [False, True])
def test_records_seen_before_mean_a_recreated_topic_if_it_ends_before_them(
    recreated: bool,
) -> None:
    """Usually they were fetched before a seek; looked into at the next checkpoint."""

    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        engine = await started(process)
        async with running(process.pump(engine.offer)):
            await process.until(lambda: process.done)
        again = await rig.log.read(TOPICS.clickstream, SHARD, 0, 7)
        await engine.offer(RecordBatch.of(TOPICS.clickstream, SHARD, again))
        if recreated:
            rig.log.cut(TOPICS.clickstream, SHARD, 7)
            await process.until(lambda: process.failure is not None)
            assert isinstance(process.failure, StateError)
            assert "created again" in str(process.failure)
        await engine.stop()
        assert (process.failure is not None) == recreated

    asyncio.run(go())


def test_retention_that_took_all_that_was_unread_is_noticed_without_a_new_record() -> None:
    async def go() -> None:
        rig = loaded()
        assert await crashes(rig, 50, "first", TRICKLE) is not None
        end = rig.ends[0]
        rig.log.expire(TOPICS.clickstream, SHARD, end)
        with pytest.raises(StateError, match=TOPICS.clickstream):
            await rig.process("second").run()

    asyncio.run(go())


def test_a_journal_with_a_step_missing_is_a_state_error_that_names_it() -> None:
    async def go() -> None:
        n = 30  # until there are two steps behind the last checkpoint
        while True:
            rig = loaded()
            crash = await crashes(rig, n, "first", TRICKLE)
            assert crash is not None
            entries = rig.log.records(TOPICS.journal, SHARD)[-3:]
            steps = [offset for offset, _, value in entries if b"step" in (value or b"")]
            if len(steps) == 3 and crash.where == f"append to {TOPICS.journal}: after":
                break
            n += 1
        rig.log.replace(TOPICS.journal, SHARD, steps[1], entries[0][2] or b"")  # a repeat
        with pytest.raises(StateError, match=f"{TOPICS.journal} can't be replayed"):
            await rig.process("second").run()

    asyncio.run(go())


@pytest.mark.parametrize(("error", "waits"), [(Fenced("lost"), 7.0), (BrokerUnavailable("x"), 0.0)])
def test_a_shard_that_was_lost_is_left_to_its_new_owner_for_longer(
    error: Exception, waits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the group has dropped us, a heartbeat says so before that time is up."""

    async def go() -> None:
        rig, slept = loaded(), []
        process = rig.process("")
        sleep = asyncio.sleep

        async def sleeping(seconds: float) -> None:
            slept.append(seconds)
            await sleep(0)

        engine = process.make_engine(suspend_seconds=7.0)
        with monkeypatch.context() as patch:
            patch.setattr("streams.shard.engine.asyncio.sleep", sleeping)
            engine._shards[SHARD] = process.shard
            engine._failed(SHARD, error)
            await asyncio.gather(*engine._retries)
        assert slept[0] == waits
        assert engine.shards == [SHARD]
        await engine.stop()

    asyncio.run(go())


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stop_waits_for_checkpoints_longer_than_a_rebalance_may(stopped: bool) -> None:
    """The group waits for a rebalance; nobody but the operator waits for a stop."""

    async def go() -> None:
        rig = loaded()
        process = rig.process("")
        process.engine = engine = process.make_engine(suspend_seconds=0, stop_seconds=30)
        async with running(process.pump(engine.offer)):
            await engine.assigned([SHARD])
            await process.until(lambda: process.done)
            await (engine.stop() if stopped else engine.revoked())
        assert (rig.committed == rig.ends) is stopped

    asyncio.run(go())


class BeforeJournal(PauseAt):
    """Stops at the n-th append to the journal."""

    async def at(self, point: str) -> None:
        if point == f"append to {TOPICS.journal}: before":
            await super().at(point)


@pytest.mark.parametrize("kept", [True, False])
def test_a_shard_that_fails_while_a_rebalance_begins_starts_again_only_if_it_stays(
    kept: bool,
) -> None:
    """A frozen worker wakes: it learns at once that the group has dropped it, and that another one
    writes the journal. Started again by itself, its shards would take them from their owner."""

    async def go() -> None:
        rig, frozen = loaded(), BeforeJournal(10**9)
        process = rig.process("", frozen)
        engine = await started(process)
        frozen.n = frozen.calls + 1
        async with running(process.pump(engine.offer)):
            await frozen.paused.wait()  # in the midst of a step
            await Journal(rig.log.client(NoFaults()), TOPICS.journal, SHARD, "other").take_over()
            begins = asyncio.create_task(engine.revoked())
            await asyncio.sleep(0)
            assert engine.shards == []
            frozen.go_on.set()
            await begins
            assert process.monitor.states[-1] == "suspended"  # its step was refused
            assert not engine._retries
            await engine.assigned([SHARD] if kept else [])
            assert engine.shards == ([SHARD] if kept else [])
            if kept:
                await process.until(lambda: process.done)
            await engine.stop()

    asyncio.run(go())


@pytest.mark.parametrize("name", ["", "worker-0"])
def test_two_workers_with_one_instance_id_stop_instead_of_removing_each_other(name: str) -> None:
    async def go() -> None:
        process = loaded().process("")
        engine = process.make_engine(instance_id=name)
        for _ in range(6):
            await engine.revoked()
            await engine.assigned([SHARD])
        await engine.stop()
        if name:
            assert "TIDELINE_KAFKA_INSTANCE_ID, worker-0." in str(process.failure)
        else:
            assert process.failure is None

    asyncio.run(go())


def test_a_shard_that_went_to_another_worker_is_forgotten() -> None:
    async def go() -> None:
        process = loaded().process("")
        engine = await started(process)
        await engine.revoked()
        await engine.assigned([SHARD])
        await process.until(lambda: process.monitor.states[-1:] == ["running"])
        assert "forgotten" not in process.monitor.states
        await engine.revoked()
        await engine.assigned([])
        assert process.monitor.states[-1] == "forgotten"
        assert engine.shards == []
        await engine.assigned([SHARD])  # and back
        await process.until(lambda: process.monitor.states[-1:] == ["running"])
        await engine.stop()
        assert len(terms(process.rig)) == len(set(terms(process.rig))) == 2

    asyncio.run(go())


class HangsAt(NoFaults):
    """Never comes back from the n-th call. Cut off, it leaves its caller's frames in a cycle with
    the cancellation, as aiokafka does."""

    def __init__(self, n: int) -> None:
        self.n, self.calls, self.hangs = n, 0, asyncio.Event()

    async def at(self, point: str) -> None:
        self.calls += 1
        if self.calls == self.n:
            self.hangs.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                self_reference = error
                raise self_reference from None


def test_a_recovery_that_was_cut_off_is_freed_without_waiting_for_the_collector() -> None:
    """In a worker the collector hardly ever runs by itself; here it never does."""

    async def go() -> None:
        hanging = HangsAt(6)
        process = loaded().process("", hanging)
        process.release_memory = gc.collect
        process.engine = engine = process.make_engine(suspend_seconds=0)
        await engine.assigned([SHARD])
        await hanging.hangs.wait()
        assert process.monitor.states == ["recovering"]
        state = weakref.ref(engine._shards[SHARD]._state)
        await engine.revoked()
        await engine.assigned([])
        assert state() is None
        await engine.stop()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(go())
    finally:
        gc.enable()


def test_a_shard_that_goes_on_failing_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While dead letters can't be written, each recovery would send its alerts again."""
    now = [0.0]
    monkeypatch.setattr("streams.shard.engine.time.monotonic", lambda: now[0])
    monkeypatch.setattr("streams.shard.engine.RETRY_SECONDS", 1.0)
    process = loaded().process("")
    engine = process.make_engine(suspend_seconds=7.0)
    waits = []
    for _ in range(6):
        waits.append(engine._wait_seconds(SHARD))
        now[0] += waits[-1] + 5
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert engine._wait_seconds(SHARD + 1) == 1.0
    now[0] += 61
    assert engine._wait_seconds(SHARD) == 1.0
