"""A state that was exported and loaded goes on exactly like one that never was."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from streams.core.features import features
from streams.core.state.shard_state import STATE_FORMAT, ShardState
from streams.core.state.snapshot import comparable, digest, exported, load
from streams.core.state.u64map import U64Map
from streams.core.texts import Texts
from tests.core.driving import (
    T0,
    Driver,
    SilenceScorer,
    bounded,
    click,
    config,
    drawn,
    encode,
    order,
)
from tests.core.oracle import DAY_MS
from tests.core.streams_of_events import random_batches
from tests.core.test_step import learner

Exported = tuple[bytes, dict[str, NDArray[Any]]]


def copied(state: ShardState) -> Exported:
    """A state as it comes back from a checkpoint: other memory."""
    meta, arrays = exported(state)
    return meta, {
        name: np.frombuffer(array.tobytes(), array.dtype) for name, array in arrays.items()
    }


def reload(state: ShardState) -> ShardState:
    meta, arrays = copied(state)
    return load(meta, arrays, len(FEATURE_NAMES))


def assert_equal(a: ShardState, b: ShardState) -> None:
    (meta_a, arrays_a), (meta_b, arrays_b) = comparable(a), comparable(b)
    assert digest(a) == digest(b)
    assert meta_a == meta_b
    assert set(arrays_a) == set(arrays_b)
    for name, array in arrays_a.items():
        assert array.dtype == arrays_b[name].dtype, name
        assert array.tobytes() == arrays_b[name].tobytes(), name
    for sums_a, sums_b in ((a.counts, b.counts), (a.money, b.money)):
        np.testing.assert_array_equal(sums_a.table[: a.n], sums_b.table[: b.n])
    x = [features(s, np.arange(s.n), s.meta.clock_ms).tobytes() for s in (a, b)]
    assert x[0] == x[1]
    assert list(a.rows_by_user) == list(b.rows_by_user)
    assert a.users[: a.n].tolist() == b.users[: b.n].tolist()


def drive(seed: int, batches: int, users: int) -> Any:
    """The calls of one run, with sweeps, learners and questions, as (keyword) arguments."""
    rng = random.Random(seed)
    for i, batch in enumerate(random_batches(seed, batches, users=users, late_share=0.03)):
        yield {
            "clicks": batch.clicks,
            "orders": batch.orders,
            "at_ms": batch.now_ms,
            "clock_ms": batch.now_ms if seed % 2 else 0,
            "sweep_rows": rng.choice([0, 3, 10_000]),
            "learner": learner(i, rng.random() / 2) if rng.random() < 0.2 else None,
        }
        for hours in (24, 48, 72, 96)[: rng.randrange(5)]:
            yield {"clock_ms": batch.now_ms + hours * 3_600_000, "sweep_rows": 10_000}


def fresh() -> Driver:
    # a short horizon and no cooldown, so that questions mature and alerts come and go
    return Driver(
        config(min_orders=1, alert_enter=0.2, alert_leave=0.1, alert_cooldown_ms=0),
        SilenceScorer(horizon_days=2),
    )


@drawn(4, 12, seed=st.integers(0, 2**32), users=st.sampled_from([3, 40, 600]))
def test_a_loaded_state_goes_on_bit_for_bit(seed: int, users: int) -> None:
    rng = random.Random(seed)
    straight, broken = fresh(), fresh()
    for arguments in drive(seed, 14, users):
        if rng.random() < 0.2:
            broken.state = reload(broken.state)
        a, b = straight.feed(**arguments), broken.feed(**arguments)
        assert encode(a) == encode(b)
    assert_equal(straight.state, broken.state)
    assert_equal(straight.state, reload(straight.state))


@settings(bounded, max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_replaying_the_plans_gives_the_same_outputs(seed: int) -> None:
    """From a checkpoint anywhere, and from the beginning."""
    first, states = fresh(), []
    for arguments in drive(seed, 8, 30):
        states.append(copied(first.state))
        first.feed(**arguments)
    for start in {0, len(states) // 2, random.Random(seed).randrange(len(states))}:
        again = fresh()
        meta, arrays = states[start]
        again.state = load(meta, arrays, len(FEATURE_NAMES))
        for (plan, records), before in zip(first.log[start:], first.outputs[start:], strict=True):
            assert encode(again.run(plan, records)) == encode(before)
        assert_equal(first.state, again.state)


def test_exporting_does_not_change_what_comes() -> None:
    quiet, watched = fresh(), fresh()
    for arguments in drive(12, 12, 20):
        exported(watched.state)
        assert encode(quiet.feed(**arguments)) == encode(watched.feed(**arguments))


def test_there_was_something_to_lose_in_these_runs() -> None:
    """The runs above do have questions, alerts, tiers and learners in them."""
    driver = fresh()
    for arguments in drive(9, 14, 40):
        driver.feed(**arguments)
    seen = {name for o in driver.outputs for name in o.tables}
    assert {"alerts", "segment_changes", "matured_predictions", "dead_letters"} <= seen
    assert driver.state.meta.learner
    assert driver.state.values_in_force.sum() > 0


def test_an_empty_state_can_be_stored() -> None:
    assert_equal(ShardState(2, len(FEATURE_NAMES)), reload(ShardState(2, len(FEATURE_NAMES))))


def test_users_beyond_the_first_room_keep_their_columns() -> None:
    driver = fresh()
    for start in range(0, 1_100, 11):  # the room doubles three times, never at a batch's border
        some = range(start, start + 11)
        driver.feed(
            [click(f"é{i}", T0 + i, item_id="x") for i in some],
            [order(f"é{i}", T0 + i, i / 4) for i in some],
        )
    assert driver.state.columns.capacity >= driver.state.n == 1_100
    c = driver.state.columns
    assert c.revenue_cents[:1_100].tolist() == [round(i / 4 * 100) for i in range(1_100)]
    driver.feed([click("new", T0)])
    assert np.isnan(c.p_churn[1_100])
    assert c.question_period[1_100] == -1
    assert_equal(driver.state, reload(driver.state))
    assert driver.state.nbytes > 1_100 * 100


def test_rows_of_repeated_and_new_users() -> None:
    state = ShardState(0, 1)
    assert state.rows_of(Texts.of(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 0, 2, 1]
    assert state.rows_of(Texts.of(["c", "d", "d", "a"])).tolist() == [2, 3, 3, 1]
    assert state.users[:4].tolist() == ["b", "a", "c", "d"]
    assert state.rows_of(Texts.of([])).tolist() == []


@pytest.mark.parametrize(
    "change",
    [{"format": STATE_FORMAT + 1}, {"format": STATE_FORMAT - 1}],
    ids=str,
)
def test_a_state_of_another_format_is_refused(change: dict[str, Any]) -> None:
    driver = fresh()
    driver.feed([click("u", T0)])
    meta, arrays = copied(driver.state)
    other = msgspec.msgpack.encode(msgspec.msgpack.decode(meta) | change)
    with pytest.raises(ValueError, match="this build reads"):
        load(other, arrays, len(FEATURE_NAMES))


def test_a_damaged_state_is_refused() -> None:
    driver = fresh()
    for arguments in drive(3, 6, 5):
        driver.feed(**arguments)
    meta, arrays = copied(driver.state)
    needed = [n for n in arrays if not n.startswith(("counts/", "money/"))]
    assert {name.split('/')[0] for name in needed} == {
        "rows", "users", "ids", "pairs", "orders", "histogram", "questions", "forgotten", "layout",
        "counted_from", "holds", "exposures", "contacts", "histogram_in_force",
    }  # fmt: skip
    for name in needed:
        with pytest.raises((KeyError, ValueError)):
            load(meta, {k: v for k, v in arrays.items() if k != name}, 1)
    for name in ("rows", "users/0", "ids/keys", "pairs/values", "orders/keys", "orders/words"):
        with pytest.raises(ValueError, match=r"."):
            load(meta, arrays | {name: arrays[name][:-1]}, 1)
    for bad in (b"", meta[:-1], b"\xc1", b"\x80", b"\x01", meta.replace(b"shard", b"chard")):
        with pytest.raises((KeyError, ValueError)):
            load(bad, arrays, len(FEATURE_NAMES))


def test_a_long_silence_leaves_nothing_behind() -> None:
    """After a hundred days without events no window holds a log."""
    driver = fresh()
    for arguments in drive(9, 10, 30):
        driver.feed(**arguments)
    driver.sweep(driver.state.meta.clock_ms + 100 * DAY_MS)
    names = [n for n in comparable(driver.state)[1] if n.startswith(("counts/", "money/"))]
    assert names == []
    assert not driver.state.counts.table.any()
    assert not driver.state.money.table.any()


# -- the map


@settings(bounded, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    space=st.sampled_from([4, 300, 5_000, 2**64]),
    clash=st.booleans(),
)
def test_a_u64map_is_a_dict(seed: int, space: int, clash: bool) -> None:
    """Against a dict: repeated keys in one call, growth, keep, load. `clash`: one home slot."""
    rng = random.Random(seed)
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    pool = [rng.randrange(space) for _ in range(2_000)] + [0, 2**64 - 1]
    if clash:  # products that differ in the low bits only, so that all hash alike
        pool = [(i * inverse) % 2**64 for i in range(300)]
    real, want = U64Map(), dict[int, int]()
    fresh_keys = iter(range(2**60, 2**61))
    for _ in range(rng.randrange(1, 12)):
        chosen = [rng.choice(pool) for _ in range(rng.choice([0, 1, 7, 700]))]
        keys = np.array(chosen, np.uint64)
        values = np.array([rng.randrange(-(2**31), 2**31) for _ in chosen], np.int32)
        new = []
        for key, value in zip(chosen, values.tolist(), strict=True):
            new.append(key not in want)
            want.setdefault(key, value)
        positions, is_new = real.find_or_add(keys, values)
        assert is_new.tolist() == new
        np.testing.assert_array_equal(real.keys[positions], keys)
        if rng.random() < 0.5:
            raised = np.array([rng.randrange(-(2**31), 2**31) for _ in chosen], np.int32)
            before, is_new = real.see(keys, raised)
            for i, (key, value) in enumerate(zip(chosen, raised.tolist(), strict=True)):
                assert bool(is_new[i]) == (key not in want)
                assert before[i] == want.get(key, 0)
                want[key] = max(want.get(key, value), value)
        if rng.random() < 0.3:
            several = list(dict.fromkeys(chosen))
            put = [rng.randrange(-(2**31), 2**31) for _ in several]
            real.put(np.array(several, np.uint64), np.array(put, np.int32))
            want |= dict(zip(several, put, strict=True))
        if rng.random() < 0.3:
            oldest = rng.choice([-(2**31), 0, 2**30])
            real.begin_drop(oldest)
            while real.progress:
                real.drop_some(rng.choice([1, 100, 1_000]))
                if real.progress and rng.random() < 0.3:  # as from a checkpoint in between
                    again = U64Map()
                    again.load(real.keys.copy(), real.values.copy(), real.progress)
                    real = again
                if rng.random() < 0.3:
                    more = np.array([next(fresh_keys) for _ in range(50)], np.uint64)
                    want |= dict.fromkeys(more.tolist(), 2**31 - 1)
                    assert real.find_or_add(more, np.full(50, 2**31 - 1, np.int32))[1].all()
                    assert real.keys[real.find(more)].tolist() == more.tolist()
            gone = np.array([key for key, value in want.items() if value < oldest], np.uint64)
            assert (real.find(gone) == -1).all()
            want = {key: value for key, value in want.items() if value >= oldest}
        real.drop_some(rng.choice([1, 10_000]))  # may give room back
        assert len(real) == len(want)
        assert real.keys.tolist() == list(want)  # in order of arrival
        assert real.values.tolist() == list(want.values())
        probe = np.array([rng.randrange(2**64) for _ in range(9)] + list(want)[:9], np.uint64)
        where = {key: at for at, key in enumerate(want)}
        assert real.find(probe).tolist() == [where.get(int(k), -1) for k in probe]


def test_a_u64map_is_never_full_and_takes_few_bytes() -> None:
    real = U64Map()
    for start in range(0, 200_000, 777):
        keys = np.arange(start, start + 777, dtype=np.uint64)
        real.find_or_add(keys, np.zeros(777, np.int32))
        assert len(real) <= 0.8 * len(real._index)
        assert real.nbytes < len(real) * 26 + 30_000  # while an index is replaced; else 20


def test_a_u64map_releases_the_memory_of_dropped_keys() -> None:
    real = U64Map()
    keys = np.arange(100_000, dtype=np.uint64)
    real.find_or_add(keys, (keys % 50).astype(np.int32))
    before = real.nbytes
    real.begin_drop(49)
    real.keys_guard.freeze(len(real), everything=False)
    for _ in range(40):
        real.drop_some(10_000)
    assert len(real._keys) >= 100_000  # a checkpoint may still look at what was there
    real.keys_guard.thaw()
    for _ in range(3):
        real.drop_some(10_000)
    assert len(real) == 2_000
    assert len(real._keys) == 2_000
    assert real.nbytes < before / 20
    kept = keys[keys % 50 == 49]
    assert real.keys[real.find(kept)].tolist() == kept.tolist()
