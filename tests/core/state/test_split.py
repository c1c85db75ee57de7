"""Shards that follow one shard have all of it between them, and go on as it would have."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import COUNT_MEASURES, WINDOWS
from schemas.messages import Erasure
from streams.core.erasure import digest, probe_of
from streams.core.partitioning import Partitioner, partitions_of_keys
from streams.core.state import parked as parked_module
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import comparable
from streams.core.state.split import split, strays
from streams.core.sweep import take_slice
from streams.core.texts import Texts
from tests.core.driving import Driver, SilenceScorer, bounded, click, config, drawn, table_rows
from tests.core.oracle import DAY_MS
from tests.core.state.test_parked import years
from tests.core.state.test_state import reload
from tests.core.streams_of_events import LATENESS_MS, SKEW_MS

ONE = Partitioner("murmur2", 1)
NOWHERE = (0, 0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few parked users fill several blocks."""
    monkeypatch.setattr(parked_module, "_BLOCK", 4)
    monkeypatch.setattr(parked_module, "_BITS", 2)
    monkeypatch.setattr("streams.core.state.split._PARKED_AT_ONCE", 3)
    monkeypatch.setattr("streams.core.apply._FORGET_AT", 8)
    monkeypatch.setattr("streams.core.apply._FORGET_PER_STEP", 5)


def a_shard(of: Partitioner = ONE, state: ShardState | None = None) -> Driver:
    """Shard 0, of one unless another number is given."""
    driver = Driver(
        config(min_orders=1, alert_enter=0.2, alert_leave=0.1, alert_cooldown_ms=0, partitioner=of),
        SilenceScorer(horizon_days=5),
    )
    driver.state = ShardState(0, driver.state.features) if state is None else state
    return driver


def shard_of(user: str, to: Partitioner) -> int:
    return int(partitions_of_keys([user.encode()], to.name, to.partitions)[0])


def children_of(state: ShardState, to: Partitioner) -> list[ShardState]:
    return [split(state, q, to, (7, 9)) for q in range(to.partitions)]


def everyone(state: ShardState) -> list[str]:
    return sorted([*state.rows_by_user, *state.parked.everyone(0)[0]])


def without_others(state: ShardState, ours: set[str]) -> dict[str, Any]:
    """What matters of a state once everybody else was erased, but for what erasing leaves behind:
    another way to the same, by code that knows nothing of splitting."""
    left = reload(state)
    for user in everyone(left):
        if user not in ours:
            left.drop_user(int(left.rows_of(Texts.of([user]))[0]))
    _, arrays = comparable(left)
    del arrays["forgotten"]
    return {name: a for name, a in arrays.items() if not name.startswith("orders/")}


@settings(bounded, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    users=st.sampled_from([3, 25, 60]),
    times=st.sampled_from([2, 3, 5]),
    name=st.sampled_from(["murmur2", "crc32", "fnv1a"]),
)
def test_split_gives_each_user_to_one_successor_completely(
    seed: int, users: int, times: int, name: Any
) -> None:
    parent = a_shard(Partitioner(name, 1))
    for fed in years(seed, users, batches=6):
        parent.feed(**fed)
    before, to = comparable(parent.state), Partitioner(name, times)
    children = children_of(parent.state, to)
    found = [everyone(child) for child in children]
    assert sorted(itertools.chain(*found)) == everyone(parent.state)
    assert comparable(parent.state)[0] == before[0]
    for q, child in enumerate(children):
        assert all(shard_of(user, to) == q for user in found[q])
        assert child.n == len(list(child.rows_by_user))  # dense
        wanted = without_others(parent.state, set(found[q]))
        _, arrays = comparable(child)
        del arrays["forgotten"]
        ours = {k: a for k, a in arrays.items() if not k.startswith("orders/")}
        assert ours.keys() == wanted.keys()
        for part, array in ours.items():
            assert array.tobytes() == wanted[part].tobytes(), part
        rows = np.array([parent.state.rows_by_user[user] for user in child.rows_by_user], np.int64)
        for mine, theirs in (
            (child.counts, parent.state.counts),
            (child.money, parent.state.money),
        ):
            assert mine.table[: child.n].tobytes() == theirs.table[rows].tobytes()
    kept = parent.state.known_orders.kept
    orders = Counter(parent.state.known_orders.keys[kept].tolist())
    assert sum((Counter(c.known_orders.keys.tolist()) for c in children), Counter()) == orders
    bins = np.sum([child.value_histogram for child in children], axis=0)
    assert bins.tolist() == parent.state.value_histogram.tolist()


def plain_rows(table: Mapping[str, Any] | None, *without: str) -> list[str]:
    """Rows in some order, without what names shard, batch or value tier."""
    rows = table_rows(dict(table) if table else None)
    dropped = {"shard", "seq", "ordinal", "value_tier", "action", *without}
    return sorted(
        repr({k: v.tobytes() if isinstance(v, np.generic) else v for k, v in row.items()
              if k not in dropped})
        for row in rows
    )  # fmt: skip


def on_time(fed: dict[str, Any]) -> dict[str, Any]:
    """Without events that may be late: that is measured by what else the shard has had."""
    limit_ms = fed.get("at_ms", 0) - LATENESS_MS + SKEW_MS
    kept = {
        kind: [event for event in fed[kind] if event["ts"] > limit_ms]
        for kind in ("clicks", "orders")
        if kind in fed
    }
    return fed | kept


@drawn(
    6,
    20,
    seed=st.integers(0, 2**32),
    users=st.sampled_from([25, 60]),
    times=st.sampled_from([2, 3]),
)
def test_successors_give_the_results_of_the_unsplit_shard(
    seed: int, users: int, times: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for place in ("segments", "sweep"):  # tiers are quantiles of a shard's customers
            patch.setattr(f"streams.core.{place}.cut_tiers", lambda _state: None)
        check_that_results_are_those_of_one(seed, users, times)


def check_that_results_are_those_of_one(seed: int, users: int, times: int) -> None:
    parent, to = a_shard(), Partitioner("murmur2", times)
    batches = [on_time(fed) for fed in years(seed, users)]
    half = len(batches) // 2
    for fed in batches[:half]:
        swept = {"sweep_rows": parent.state.sweep_places} if "sweep_rows" in fed else {}
        parent.feed(**(fed | swept))
    children = [a_shard(to, reload(split(parent.state, q, to, NOWHERE))) for q in range(times)]
    for fed in batches[half:]:
        outputs = []
        for q, each in enumerate([parent, *children], -1):
            events = {
                kind: [e for e in fed.get(kind, ()) if q < 0 or shard_of(e["user_id"], to) == q]
                for kind in ("clicks", "orders")
            }
            swept = {"sweep_rows": each.state.sweep_places} if "sweep_rows" in fed else {}
            outputs.append(each.feed(**(fed | events | swept)))
        for table in ("score_history", "alerts", "matured_predictions"):
            wanted = plain_rows(outputs[0].tables.get(table))
            found = [row for out in outputs[1:] for row in plain_rows(out.tables.get(table))]
            assert sorted(found) == wanted, table
    assert sorted(itertools.chain(*(everyone(c.state) for c in children))) == everyone(parent.state)


@pytest.mark.parametrize("visited", [0, 1, 5, 17, 40])
def test_running_sweep_visits_every_remaining_user_once_after_a_split(visited: int) -> None:
    parent, to = a_shard(), Partitioner("murmur2", 3)
    start_ms = 1_600_041_600_000
    old = [click(f"old{i}", start_ms) for i in range(23)]
    parent.feed(clicks=old, clock_ms=start_ms)
    later_ms = start_ms + 200 * DAY_MS
    parent.sweep(later_ms)
    parent.feed(clicks=[click(f"new{i}", later_ms) for i in range(20)], clock_ms=later_ms)
    assert len(parent.state.parked) == 23
    now_ms = later_ms + DAY_MS
    if visited:
        parent.feed(clock_ms=now_ms, sweep_rows=visited)
    wanted = swept_by(parent)
    children = children_of(parent.state, to)
    found = [swept_by(a_shard(to, child)) for child in children]
    assert set().union(*found) == wanted
    assert sum(map(len, found)) == len(wanted)


def swept_by(driver: Driver) -> set[str]:
    """The users whom the sweep has yet to visit, if none comes or goes."""
    names: set[str] = set()
    state = reload(driver.state)
    meta = state.meta
    while meta.sweep_row < state.sweep_places:
        names |= set(state.users[take_slice(state, 7)].tolist())
    return names


def test_pairs_stay_with_their_user_when_rows_are_renumbered() -> None:
    parent, to = a_shard(), Partitioner("murmur2", 2)
    start_ms = 1_600_041_600_000
    users = [f"u{i}" for i in range(40)]
    viewed = [click(user, start_ms, item_id="boots") for user in users]
    parent.feed(clicks=viewed, clock_ms=start_ms)
    for q, child in enumerate(children_of(parent.state, to)):
        driver = a_shard(to, child)
        ours = [user for user in users if shard_of(user, to) == q]
        again = [click(user, start_ms + DAY_MS, item_id="boots") for user in [*ours]]
        stranger = next(u for u in (f"s{i}" for i in range(99)) if shard_of(u, to) == q)
        again.append(click(stranger, start_ms + DAY_MS, item_id="boots"))
        driver.feed(clicks=again, clock_ms=start_ms + DAY_MS)
        item = COUNT_MEASURES.index("distinct_items")
        month = max(range(len(WINDOWS)), key=lambda w: WINDOWS[w].length_seconds)
        rows = [child.rows_by_user[user] for user in [*ours, stranger]]
        assert set(child.counts.table[rows, item, month].tolist()) == {1}


def test_state_with_rows_in_pair_keys_keeps_them_as_user_numbers() -> None:
    shard = a_shard()
    start_ms = 1_600_041_600_000
    users = [f"u{i}" for i in range(5)]
    shard.feed(clicks=[click(u, start_ms, item_id="boots") for u in users], clock_ms=start_ms)
    shard.state.columns.pair_owner[:5] = -1  # as a column that was not there is read
    shard.state.meta.pair_owners = 0
    again = a_shard(state=reload(shard.state))
    assert again.state.columns.pair_owner[:5].tolist() == [0, 1, 2, 3, 4]
    later_ms = start_ms + DAY_MS
    again.feed(
        clicks=[click(u, later_ms, item_id="boots") for u in [*users, "new"]], clock_ms=later_ms
    )
    assert again.column("pair_owner", "new") == 5
    item = COUNT_MEASURES.index("distinct_items")
    assert again.state.counts.table[:6, item, -1].tolist() == [1] * 6


def test_strays_counts_seated_and_parked_users_of_other_partitions() -> None:
    parent, to = a_shard(), Partitioner("murmur2", 3)
    for fed in years(7, 12):
        parent.feed(**fed)
    state = parent.state
    assert state.parked.everyone(0)[0]
    elsewhere = sum(shard_of(user, to) != state.meta.shard for user in everyone(state))
    assert 0 < elsewhere < len(everyone(state))
    assert strays(state, to) == elsewhere
    assert strays(state, ONE) == 0


def test_erasure_goes_by_time_and_not_by_offset_after_a_split() -> None:
    parent, to = a_shard(), Partitioner("murmur2", 2)
    parent.feed(clicks=[click("a", 1_600_041_600_000)], clock_ms=1_600_041_600_000)
    salt = b"salt"
    parent.state.meta.erased = [
        Erasure(
            erasure_id="1", digest=digest(salt, "gone"), salt=salt, probe=probe_of(salt, "gone"),
            shard=0, cutoff_ms=5, stop=(100, 200), recorded_before_ms=9,
        )
    ]  # fmt: skip
    for q, child in enumerate(children_of(parent.state, to)):
        assert [(e.digest, e.cutoff_ms, e.stop, e.shard) for e in child.meta.erased] == [
            (digest(salt, "gone"), 5, (0, 0), q)
        ]
    assert parent.state.meta.erased[0].stop == (100, 200)


def test_successors_continue_step_numbers_and_use_offsets_of_the_new_topics() -> None:
    parent, to = a_shard(), Partitioner("murmur2", 3)
    parent.feed(clicks=[click("a", 1_600_041_600_000)], clock_ms=1_600_041_600_000)
    for q, child in enumerate(children_of(parent.state, to)):
        meta = child.meta
        assert (meta.shard, meta.seq, meta.inputs_since) == (q, 1, 1)
        assert (meta.offsets, meta.partitions) == ([7, 9], 3)
        assert meta.pair_owners == parent.state.meta.pair_owners


@pytest.mark.parametrize(
    ("partitions", "shard", "to", "q"), [(4, 1, 6, 1), (4, 1, 8, 2), (0, 0, 2, 0)]
)
def test_split_refuses_a_shard_that_is_no_successor(
    partitions: int, shard: int, to: int, q: int
) -> None:
    state = ShardState(shard, 1)
    state.meta.partitions = partitions
    with pytest.raises(ValueError, match="does not follow"):
        split(state, q, Partitioner("murmur2", to), NOWHERE)
