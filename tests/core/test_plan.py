"""What a step takes: in order, bounded, never past a sweep, always going on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.lives import first_of, follows
from schemas.messages import Erasure, JournalledSnapshot
from streams.core.plan import SWEEP_SLICE_ROWS, Clock, Pending, Plan, in_runs, next_plan
from streams.core.state.shard_state import Meta
from tests.core.driving import (
    HOUR_MS,
    T0,
    Driver,
    SilenceScorer,
    bounded,
    click,
    config,
    order,
    record,
    run_log,
)
from tests.core.oracle import DAY_MS, Wire

Log = list[list[tuple[bytes | None, bytes | None, int]]]


def ask(meta: Meta, a: Pending, b: Pending, **changes: Any) -> Plan | None:
    clock: Clock = changes.pop("clock", "event")
    values: dict[str, Any] = {
        "wall_ms": T0,
        "sweep_interval_ms": DAY_MS,
        "max_records": 100,
        "users": 0,
    }
    return next_plan(meta, (a, b), clock=clock, **(values | changes))


def waits(*timestamps: int, caught_up: bool = True, first: int = 0) -> Pending:
    n = len(timestamps)
    return Pending(np.arange(first, first + n), np.array(timestamps, np.int64), caught_up)


def random_log(rng: random.Random, n: int, users: int, *, disorder: bool, empty: bool) -> Log:
    """Two topics of n records together; times tie, jump by days, and go back if `disorder`."""
    topics: list[list[Wire]] = [[], []]
    now_ms = T0 - HOUR_MS
    for _ in range(n):
        now_ms += rng.choice([0, 0, 1, 60_000, 5 * HOUR_MS]) * (rng.random() < 0.7)
        now_ms += rng.choice([1, 9]) * DAY_MS * (rng.random() < 0.03)
        ts = now_ms - rng.randrange(DAY_MS) * (disorder and rng.random() < 0.2)
        if rng.random() < 0.1:
            ts = now_ms // DAY_MS * DAY_MS  # exactly on a sweep
        user = f"u{rng.randrange(users)}"
        if empty or rng.random() < 0.7:
            topics[0].append(click(user, ts))
        else:
            topics[1].append(order(user, ts))
    if not disorder:
        for topic in topics:
            topic.sort(key=lambda e: e["ts"])
    return [[record(e) for e in topic] for topic in topics]


def at_most(most: int) -> Callable[[], int]:
    rng = random.Random(most)
    return lambda: rng.randrange(most + 1)


class Checker:
    """Properties of every single decision on the event clock."""

    def __init__(self, interval_ms: int, max_records: int) -> None:
        self.interval_ms, self.max_records = interval_ms, max_records
        self.sweeps: list[int] = []

    def __call__(self, meta: Meta, waiting: tuple[Pending, Pending], plan: Plan | None) -> None:
        behind = [
            int(p.timestamps_ms.max()) if len(p.timestamps_ms) else -1
            for p in waiting
            if not p.caught_up
        ]
        if plan is None:
            # only when a topic that has more has delivered nothing, or all is done
            assert -1 in behind or not any(len(p.offsets) for p in waiting)
            return
        assert follows(plan.seq, meta.seq)
        assert list(plan.start) == meta.offsets
        taken = []
        for p, start, stop in zip(waiting, plan.start, plan.stop, strict=True):
            assert start <= stop <= start + len(p.offsets)
            taken += p.timestamps_ms[: stop - start].tolist()
        assert len(taken) <= self.max_records
        if behind:
            assert max(taken, default=0) <= min(behind), "past what both topics have reached"
        if meta.next_sweep_ms:
            assert max(taken, default=0) < meta.next_sweep_ms, "across a sweep"
        elif taken:
            firsts = [int(p.timestamps_ms[0]) for p in waiting if len(p.offsets)]
            assert max(taken) // self.interval_ms <= min(firsts) // self.interval_ms
        assert taken or plan.sweep_rows, "a step that does nothing"
        if plan.sweep_rows:
            assert not taken
            assert plan.clock_ms == meta.next_sweep_ms
            for p in waiting:
                assert not len(p.offsets) or p.timestamps_ms[0] >= meta.next_sweep_ms
            self.sweeps.append(plan.clock_ms)


@settings(bounded, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 80),
    max_records=st.integers(1, 30),
    disorder=st.booleans(),
    empty=st.booleans(),
    interval_ms=st.sampled_from([DAY_MS, 7 * HOUR_MS]),
)
@example(seed=3, n=300, max_records=7, disorder=True, empty=False, interval_ms=DAY_MS)
def test_on_the_event_clock_every_log_is_processed_to_its_end(
    seed: int, n: int, max_records: int, disorder: bool, empty: bool, interval_ms: int
) -> None:
    rng = random.Random(seed)
    log = random_log(rng, n, 4, disorder=disorder, empty=empty)
    driver = Driver(config(sweep_interval_ms=interval_ms, lateness_ms=2 * DAY_MS))
    checker = Checker(interval_ms, max_records)
    most = rng.choice([1, 3, 10, 1_000])
    run_log(
        driver, log, fetched=lambda: rng.randrange(most + 1), max_records=max_records, check=checker
    )
    assert driver.state.meta.offsets == [len(topic) for topic in log]
    assert sum(o.counts.accepted for o in driver.outputs) == n
    # Every boundary between the first and the last record had its sweep, in order.
    times = [at for topic in log for _, _, at in topic]
    first = driver.outputs[0].tables["batches"]["clock"][0]
    due = range((int(first) // interval_ms + 1) * interval_ms, max(times) + 1, interval_ms)
    assert checker.sweeps == list(due)


@settings(bounded, max_examples=6)
@given(seed=st.integers(0, 2**32))
def test_labels_do_not_depend_on_how_the_log_was_fetched(seed: int) -> None:
    """Sweeps see exactly the records before them, so questions and answers are the log's alone."""
    log = random_log(random.Random(seed), 150, 6, disorder=False, empty=False)
    results = []
    for most, max_records in ((1_000, 500), (2, 3), (40, 11)):
        driver = Driver(config(min_orders=1), scorer=SilenceScorer(5))
        run_log(driver, log, fetched=at_most(most), max_records=max_records)
        examples = [e for o in driver.outputs for e in o.examples]
        users = [row["user_id"] for row in driver.rows("matured_predictions")]
        results.append(
            [
                (u, e.asked_at_ms, e.matured_at_ms, e.churned, e.spend, e.p_churn)
                for u, e in zip(users, examples, strict=True)
            ]
        )
    # the rows' order may differ: users are numbered as they come
    assert sorted(results[0]) == sorted(results[1]) == sorted(results[2])


def test_more_ties_than_fit_into_one_step_go_on_over_several() -> None:
    for source in (0, 1):
        rows = [record((click, order)[source]("u", T0)) for _ in range(50)]
        driver = Driver()
        log: Log = [rows, []] if source == 0 else [[], rows]
        run_log(driver, log, max_records=7)
        assert sum(o.counts.scored for o in driver.outputs) == 50
        assert all(o.counts.accepted <= 7 for o in driver.outputs)


@pytest.mark.parametrize("max_records", [1, 2, 3])
def test_tiny_batches_make_progress(max_records: int) -> None:
    log: Log = [[record(click("u", T0 + i)) for i in range(9)], [record(order("u", T0))] * 9]
    driver = Driver()
    run_log(driver, log, max_records=max_records, max_steps=100)
    assert driver.state.meta.offsets == [9, 9]


def test_topics_are_taken_side_by_side_by_time() -> None:
    """A million clicks of one hour wait while orders reach back a month: no order waits behind."""
    log: Log = [
        [record(click("u", T0 + i * 1_000)) for i in range(600)],
        [record(order("u", T0 + i * 60_000)) for i in range(10)],
    ]
    driver = Driver()
    run_log(driver, log, max_records=50)
    newest = [0, 0]
    for plan, records in driver.log:
        for s in (0, 1):
            if len(records[s]):
                newest[s] = int(records[s].timestamps_ms[-1])
        waiting = [min((at for _, _, at in log[s][plan.stop[s] :]), default=2**62) for s in (0, 1)]
        assert newest[0] <= waiting[1]
        assert newest[1] <= waiting[0]


def test_a_topic_that_has_delivered_nothing_yet_is_waited_for() -> None:
    assert ask(Meta(0), waits(T0), waits(caught_up=False)) is None
    plan = ask(Meta(0), waits(T0), waits())
    assert plan is not None
    assert plan.stop == (1, 0)


def test_gaps_in_offsets_are_taken_as_they_come() -> None:
    meta = Meta(0, offsets=[5, 0])
    p = Pending(np.array([7, 8, 12]), np.array([T0, T0, T0]), True)
    plan = ask(meta, p, waits())
    assert plan is not None
    assert (plan.start, plan.stop) == ((5, 0), (13, 0))


def test_nothing_to_do_is_no_plan() -> None:
    for clock in ("event", "wall"):
        assert ask(Meta(0), waits(), waits(), clock=clock) is None
        assert ask(Meta(0), waits(caught_up=False), waits(), clock=clock) is None
    swept = Meta(0, clock_ms=T0, next_sweep_ms=T0 + 1)
    assert ask(swept, waits(), waits(), users=5) is None


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_people_to_erase_get_a_step_though_no_record_waits(clock: Clock) -> None:
    person = Erasure("e", "d", b"salt", 1, 0, T0 + 1, (3, 0), T0)
    meta = Meta(0, seq=4, offsets=[5, 9], clock_ms=T0)
    plan = ask(meta, waits(first=5), waits(first=9), clock=clock, erase=(person,), champion="v1")
    clock_ms = T0 if clock == "wall" else 0
    assert plan == Plan(5, (5, 9), (5, 9), clock_ms, 0, "v1", erase=(person,), records=(0, 0))


@pytest.mark.parametrize("clock", ["event", "wall"])
@pytest.mark.parametrize("before", [0, 4, first_of(1_790_000_000)])
def test_a_shard_without_a_state_begins_a_life_and_any_other_goes_on_in_its_own(
    clock: Clock, before: int
) -> None:
    """Also one of a build that did not count lives, and whatever the event clock says."""
    meta = Meta(0, seq=before, offsets=[5, 0])
    plan = ask(meta, waits(T0, first=5), waits(), clock=clock, wall_ms=1_790_600_000_999)
    assert plan is not None
    assert plan.seq == (before + 1 if before else first_of(1_790_600_000))


@pytest.mark.parametrize(("current", "newest", "taken"), [
    (None, None, None), (None, 7, 7), (7, None, None), (6, 7, 7), (7, 7, None), (8, 7, None),
])  # fmt: skip
def test_a_learner_snapshot_is_planned_once_and_never_replaces_a_newer_one(
    current: int | None, newest: int | None, taken: int | None
) -> None:
    def snapshot(version: int | None) -> JournalledSnapshot | None:
        if version is None:
            return None
        return JournalledSnapshot(version, "v1", [], 1, 0.5, 0.0, 1.0, [], [], [])

    plan = ask(Meta(0, learner=snapshot(current)), waits(T0), waits(), learner=snapshot(newest))
    assert plan is not None
    assert plan.learner == snapshot(taken)


def test_a_long_sweep_goes_in_slices_at_one_time() -> None:
    meta = Meta(0, clock_ms=T0 - 1, next_sweep_ms=T0)
    users, seen = 2 * SWEEP_SLICE_ROWS + 1, []
    while meta.sweep_row < users:
        plan = ask(meta, waits(T0 + 5), waits(), users=users)
        assert plan is not None
        assert plan.clock_ms == T0
        assert plan.stop == (0, 0)
        seen.append(plan.sweep_rows)
        meta.sweep_row += plan.sweep_rows
    assert seen == [SWEEP_SLICE_ROWS, SWEEP_SLICE_ROWS, 1]


@settings(bounded, max_examples=7)
@given(seed=st.integers(0, 2**32), users=st.integers(1, 40), growing=st.booleans())
def test_on_the_wall_clock_each_row_is_swept_once_per_interval(
    seed: int, users: int, growing: bool
) -> None:
    rng = random.Random(seed)
    interval_ms, tick_ms = 1_000_000, rng.choice([5_000, 20_000, 49_000])
    driver = Driver(config(sweep_interval_ms=interval_ms))
    wall_ms = T0
    driver.feed([click(f"u{i}", T0) for i in range(users)], clock_ms=wall_ms)
    visits: dict[int, list[int]] = defaultdict(list)
    born = dict.fromkeys(range(users), wall_ms)
    while wall_ms < T0 + 5 * interval_ms:
        wall_ms += rng.randrange(1, tick_ms)
        if growing and rng.random() < 0.02:
            born[driver.state.n] = wall_ms
            driver.feed([click(f"u{driver.state.n}", wall_ms)], clock_ms=wall_ms)
        meta = driver.state.meta
        plan = ask(
            meta, waits(first=meta.offsets[0]), waits(), clock="wall", wall_ms=wall_ms,
            sweep_interval_ms=interval_ms, users=driver.state.n,
        )  # fmt: skip
        if plan is not None:
            assert 0 < plan.sweep_rows <= driver.state.n - meta.sweep_row
            for row in range(meta.sweep_row, meta.sweep_row + plan.sweep_rows):
                visits[row].append(wall_ms)
            driver.feed(clock_ms=plan.clock_ms, sweep_rows=plan.sweep_rows)
    for row in range(driver.state.n):
        times = [born[row], *visits[row], wall_ms]
        assert max(np.diff(times)) <= interval_ms + 2 * tick_ms
        if not growing:  # spread evenly: none is visited twice in one interval
            assert min(np.diff(visits[row][1:]), default=interval_ms) >= interval_ms - 2 * tick_ms
    counts = [len(visits[row]) for row in range(users)]
    assert max(counts) - min(counts) <= 1


def test_a_wall_clock_that_steps_back_asks_for_nothing_silly() -> None:
    meta = Meta(0, clock_ms=T0, sweep_started_ms=T0, sweep_row=3)
    assert ask(meta, waits(), waits(), clock="wall", wall_ms=T0 - HOUR_MS, users=10) is None


def test_wall_sweeps_come_in_slices_when_many_rows_are_due() -> None:
    meta = Meta(0, clock_ms=T0, sweep_started_ms=T0 - 2 * DAY_MS)
    plan = ask(meta, waits(), waits(), clock="wall", users=10 * SWEEP_SLICE_ROWS)
    assert plan is not None
    assert plan.sweep_rows == SWEEP_SLICE_ROWS


@bounded
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30), st.integers(1, 80))
def test_runs_of_plans_are_all_of_them_in_order_and_bounded(
    sizes: list[tuple[int, int]], most: int
) -> None:
    plans, at = [], (5, 9)
    for seq, (a, b) in enumerate(sizes):
        stop = at[0] + a, at[1] + b
        plans.append(Plan(seq, at, stop, 0, 0))
        at = stop
    runs = list(in_runs(plans, most))
    assert [plan for run in runs for plan in run] == plans
    taken = [sum(run[-1].stop) - sum(run[0].start) for run in runs]
    assert all(n <= most or len(run) == 1 for n, run in zip(taken, runs, strict=True))
    # none could have had the next one's first plan too
    for n, after in zip(taken, runs[1:], strict=False):
        assert n + sum(after[0].stop) - sum(after[0].start) > most
