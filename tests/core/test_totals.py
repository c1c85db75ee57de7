"""Sizes of segments as a shard counts them equal those of everybody's newest row; so do moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import Definitions
from schemas.features import FEATURE_NAMES
from schemas.messages import Erasure
from streams.core.erasure import digest, probe_of
from streams.core.partitioning import Partitioner
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import exported, load
from streams.core.state.split import split
from streams.core.state.totals import Totals
from streams.core.texts import Texts
from streams.core.totals import HOUR_MS, TELL_MS, begin_totals
from tests.core.driving import T0, Driver, bounded, click, config, order
from tests.core.oracle import DAY_MS
from tests.core.test_standing import segment, some_definitions

Sizes = dict[tuple[str, str], tuple[int, int]]


def by_rows(rows: list[dict[str, Any]]) -> Sizes:
    """(dimension, segment) -> users and cents, by the newest row of each user."""
    newest = {row["user_id"]: row for row in rows}
    users: Counter[tuple[str, str]] = Counter()
    cents: Counter[tuple[str, str]] = Counter()
    for row in newest.values():
        spend = float(row["expected_spend"])
        own = [(name, "in") for name in str(row["segments"]).split(",") if name]
        tier, stage = ("value_tier", row["value_tier"]), ("lifecycle", row["lifecycle"])
        for place in (tier, stage, *own):
            users[place] += 1
            cents[place] += 0 if np.isnan(spend) else int(np.rint(np.float64(spend) * 100))
    return {place: (n, cents[place]) for place, n in users.items()}


def told(driver: Driver) -> Sizes:
    """The newest row of each, as ClickHouse keeps it; without those of nobody."""
    newest = {
        (row["dimension"], row["segment"]): (int(row["users"]), int(row["spend_cents"]))
        for row in driver.rows("segment_totals")
    }
    return {place: size for place, size in newest.items() if size[0] or size[1]}


def counted(state: ShardState) -> Sizes:
    totals = state.meta.totals
    sizes = {tuple(key.split("/")): (n, totals.cents[key]) for key, n in totals.users.items()}
    return {(d, s): size for (d, s), size in sizes.items() if size != (0, 0)}


def recounted(state: ShardState) -> Sizes:
    """By a look at everybody, of a copy."""
    other = load(*exported(state), len(FEATURE_NAMES))
    other.meta.totals = Totals()
    begin_totals(other)
    return counted(other)


def erasure(driver: Driver, user: str, number: int, now_ms: int) -> Erasure:
    offsets = driver.state.meta.offsets
    return Erasure(
        f"e{number}", digest(b"salt", user), b"salt", probe_of(b"salt", user), 3, now_ms,
        (offsets[0], offsets[1]), now_ms,
    )  # fmt: skip


def lively(driver: Driver, rng: np.random.Generator, steps: int) -> list[str]:
    """Events, sweeps, timers, parking, new definitions and erasures; who was erased."""
    now_ms, erased = T0, []
    for i in range(steps):
        now_ms += int(rng.choice([0, 1_000, HOUR_MS, DAY_MS, 40 * DAY_MS]))
        users = [f"u{n}" for n in rng.integers(0, 12, rng.integers(0, 6)).tolist()]
        gone: tuple[Erasure, ...] = ()
        if rng.random() < 0.1:
            erased.append(f"u{rng.integers(12)}")
            gone = (erasure(driver, erased[-1], i, now_ms),)
        driver.feed(
            [click(user, now_ms + n) for n, user in enumerate(users)],
            [order(user, now_ms, float(rng.integers(1, 500))) for user in users[:2]],
            clock_ms=now_ms,
            sweep_rows=int(rng.choice([0, 0, 4, 100])),
            wake_rows=int(rng.choice([0, 3, 100])),
            definitions=some_definitions(rng, i + 1) if rng.random() < 0.2 else None,
            erase=gone,
        )
    driver.feed(clock_ms=now_ms + HOUR_MS)  # another hour: everything is told
    return erased


@settings(bounded, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_sizes_are_those_of_everybodys_newest_row_whatever_happens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    driver = Driver(config(min_orders=1))
    lively(driver, rng, int(rng.integers(3, 30)))
    rows: list[dict[str, Any]] = []
    for out, (plan, _) in zip(driver.outputs, driver.log, strict=True):
        gone = {each.digest for each in plan.erase}
        rows = [row for row in rows if digest(b"salt", row["user_id"]) not in gone]
        table = out.tables.get("score_history")
        if table is not None:
            columns = [list(column) for column in table.values()]
            rows += [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
    assert counted(driver.state) == recounted(driver.state) == by_rows(rows)
    assert told(driver) == by_rows(rows)


@settings(bounded, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_moves_of_an_hour_are_those_that_were_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    driver = Driver(config(min_orders=1))
    lively(driver, rng, int(rng.integers(3, 30)))
    expected: Counter[tuple[int, str, str, str]] = Counter()
    for row in driver.rows("segment_changes"):
        if row["dimension"] != "rfm":
            hour_ms = row["changed_at"] // HOUR_MS * HOUR_MS
            expected[hour_ms, row["dimension"], row["from_segment"], row["to_segment"]] += 1
    newest = {
        (row["hour"], row["dimension"], row["from_segment"], row["to_segment"]): row["moves"]
        for row in driver.rows("segment_moves")
    }
    assert newest == dict(expected)


def test_where_nobody_moves_spend_is_told_now_and_then() -> None:
    driver = Driver(config(min_orders=1))
    driver.feed([], [order("u", T0), order("u", T0 + 1)], clock_ms=T0 + 2)
    driver.feed([], [order("u", T0 + 3, 900.0)], clock_ms=T0 + 3)  # and into the highest tier
    assert told(driver)["lifecycle", "active"][0] == 1
    spent = told(driver)["lifecycle", "active"][1]
    driver.feed([], [order("u", T0 + 4, 900.0)], clock_ms=T0 + 5)
    assert "segment_totals" not in driver.outputs[-1].tables
    driver.feed(clock_ms=T0 + 5 + TELL_MS)
    assert told(driver)["lifecycle", "active"][1] > spent
    driver.feed(clock_ms=T0 + 5 + 9 * TELL_MS)
    assert "segment_totals" not in driver.outputs[-1].tables  # nothing new


def test_an_older_checkpoint_is_counted_with_the_next_step() -> None:
    driver = Driver(config(min_orders=1))
    for i in range(20):
        driver.feed([], [order(f"u{i}", T0 + i)], clock_ms=T0 + 20)
    driver.sweep(T0 + DAY_MS)
    sizes = counted(driver.state)
    meta, arrays = exported(driver.state)
    older = msgspec.msgpack.decode(meta)
    del older["totals"]
    again = Driver(config(min_orders=1), state=load(
        msgspec.msgpack.encode(older), arrays, len(FEATURE_NAMES)
    ))  # fmt: skip
    again.feed(clock_ms=T0 + DAY_MS + TELL_MS)
    assert counted(again.state) == told(again) == sizes


@pytest.mark.parametrize("shard", [0, 1])
def test_one_successor_goes_on_with_the_moves_of_the_hour(shard: int) -> None:
    one = Driver(config(min_orders=1), state=ShardState(0, len(FEATURE_NAMES)))
    one.state.meta.partitions = 1
    users = [f"u{i}" for i in range(20)]
    one.feed([], [order(user, T0) for user in users], clock_ms=T0 + 1)
    one.state.meta.partitions = 1
    child = Driver(
        config(min_orders=1), state=split(one.state, shard, Partitioner("murmur2", 2), (0, 0))
    )
    mine = [user for user in users if child.state.knows(user)]
    assert 0 < len(mine) < len(users)
    child.feed([], [order(user, T0 + 2) for user in mine], clock_ms=T0 + 3)
    moves = child.state.meta.totals.moves
    assert moves["lifecycle/new/active"] == len(mine)
    assert moves.get("lifecycle/visitor/new", 0) == (len(users) if shard == 0 else 0)
    assert counted(child.state)["lifecycle", "active"][0] == len(mine)
    assert counted(child.state) == recounted(child.state)


def test_a_successor_without_users_says_that_nobody_is_there_any_more() -> None:
    one = Driver(config(min_orders=1), state=ShardState(0, len(FEATURE_NAMES)))
    to = Partitioner("murmur2", 2)
    names = Texts.of([f"u{i}" for i in range(20)])
    others = np.flatnonzero(to.of_keys(names.data, names.at, names.size) == 1)
    one.feed([], [order(f"u{i}", T0) for i in others.tolist()], clock_ms=T0 + 1)
    one.state.meta.partitions = 1
    places = {(row["dimension"], row["segment"]) for row in one.rows("segment_totals")}
    assert told(one)["lifecycle", "new"][0] == len(others)
    child = Driver(config(min_orders=1), state=split(one.state, 0, to, (0, 0)))
    assert not child.state.n
    child.feed(clock_ms=T0 + 2)
    rows = child.rows("segment_totals")
    assert {(row["dimension"], row["segment"]) for row in rows} == places
    assert {(row["users"], row["spend_cents"]) for row in rows} == {(0, 0)}


def test_definitions_are_told_when_taken_and_once_by_a_state_that_had_them_before() -> None:
    driver = Driver(config())
    new = Definitions(1, "v1", (segment("big", "orders > 3"),), note="first", applied_by="ann")
    driver.feed(clock_ms=T0, definitions=new)
    driver.feed(clock_ms=T0 + 1)
    (row,) = driver.rows("definitions_taken")
    assert (row["number"], row["version"], row["note"], row["taken_at"]) == (1, "v1", "first", T0)
    assert msgspec.json.decode(row["document"], type=Definitions) == new
    driver.state.meta.totals = Totals()  # as an older release left it
    driver.feed(clock_ms=T0 + 2)
    assert [r["seq"] for r in driver.rows("definitions_taken")] == [1, 3]
