"""Who has long been silent takes little memory, and nobody can tell it from the results."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES
from streams.core import sweep as sweep_module
from streams.core.features import features
from streams.core.state import parked as parked_module
from streams.core.state import shard_state as state_module
from streams.core.state.columns import ROW
from streams.core.state.parked import Parked
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import comparable, freeze, load, thaw
from streams.core.texts import Strings, Texts
from tests.core.driving import (
    T0,
    Driver,
    SilenceScorer,
    click,
    config,
    drawn,
    encode,
    order,
    table_rows,
)
from tests.core.oracle import DAY_MS
from tests.core.state.test_snapshot import assert_comparable, check_checkpoints
from tests.core.state.test_state import assert_equal, reload
from tests.core.streams_of_events import random_batches

Fed = dict[str, Any]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few users fill several blocks and pages, and give room back."""
    monkeypatch.setattr(parked_module, "_BLOCK", 4)
    monkeypatch.setattr(parked_module, "_BITS", 2)
    monkeypatch.setattr("streams.core.apply._TIDIED_PER_STEP", 1)
    monkeypatch.setattr(parked_module, "_DROP_AT", 3)
    monkeypatch.setattr(state_module, "LEAST_ROWS", 4)
    monkeypatch.setattr("streams.core.state.columns.LEAST_ROWS", 4)
    monkeypatch.setattr(state_module, "ROWS_PAGE_BITS", 2)
    monkeypatch.setattr(state_module, "USERS_PAGE_BITS", 3)
    monkeypatch.setattr("streams.core.state.directory._MIN_ROWS", 4)


def driver(**changes: Any) -> Driver:
    return Driver(
        config(min_orders=1, alert_enter=0.2, alert_leave=0.1, sample_share=1.0, **changes),
        SilenceScorer(horizon_days=5),
    )


def years(seed: int, users: int, batches: int = 12) -> Iterator[Fed]:
    """What is fed to a shard whose customers come, stay away for months, and come back."""
    rng = random.Random(seed)
    gone_days = 0
    for batch in random_batches(seed, batches, users=users, late_share=0.03):
        shift = gone_days * DAY_MS

        def later(event: Any, shift: int = shift) -> Any:
            renamed = {"event_id": f"{event['event_id']}+{shift}"}
            return event | renamed | {"ts": event["ts"] + shift}

        some = rng.random() < 0.4  # of the users only, so that others stay away
        chosen = [
            [later(e) for e in events if not some or hash_of(e["user_id"]) % 3 == 0]
            for events in (batch.clicks, batch.orders)
        ]
        now_ms = batch.now_ms + shift
        yield {"clicks": chosen[0], "orders": chosen[1], "at_ms": now_ms, "clock_ms": now_ms}
        for _ in range(rng.randrange(4)):
            gone_days += rng.choice([1, 3, 40, 95, 130])
            now_ms = batch.now_ms + gone_days * DAY_MS
            yield {"clock_ms": now_ms, "sweep_rows": rng.choice([1, 3, 10_000, 10_000])}


def hash_of(user: str) -> int:
    return sum(user.encode())


def outputs_of(driver: Driver, which: int = -1) -> dict[str, list[Any]]:
    """What a step has written, whatever the order of rows, which numbers examples."""
    return {
        name: sorted(
            ({k: _plain(v) for k, v in row.items() if k != "ordinal"} for row in table_rows(table)),
            key=repr,
        )
        for name, table in driver.outputs[which].tables.items()
    }


def _plain(value: Any) -> Any:
    return value.tobytes() if isinstance(value, np.ndarray | np.generic) else value


@drawn(5, 15, seed=st.integers(0, 2**32), users=st.sampled_from([3, 25, 60]))
def test_results_are_those_of_a_shard_that_parks_nobody(seed: int, users: int) -> None:
    """Each sweep in one slice: what is swept when depends on where users are."""
    parking, plain = driver(), driver()
    for fed in years(seed, users):
        for each in (parking, plain):
            with pytest.MonkeyPatch.context() as patch:
                if each is plain:
                    never = lambda _s, rows, _n, _c: np.zeros(len(rows), np.bool_)  # noqa: E731
                    patch.setattr(sweep_module, "_long_silent", never)
                swept = {"sweep_rows": each.state.sweep_places} if "sweep_rows" in fed else {}
                each.feed(**(fed | swept))
        assert outputs_of(parking) == outputs_of(plain)
        assert parking.state.known == plain.state.known
        assert sorted(map(repr, parking.outputs[-1].alerts)) == sorted(
            map(repr, plain.outputs[-1].alerts)
        )
    assert not len(plain.state.parked)
    everyone = Texts.of(sorted(plain.state.rows_by_user))
    rows = [each.state.rows_of(everyone) for each in (parking, plain)]
    now_ms = plain.state.meta.clock_ms
    x, wanted = (
        features(s, r, now_ms) for s, r in zip((parking.state, plain.state), rows, strict=True)
    )
    assert x.tobytes() == wanted.tobytes()
    packed = [each.state.columns.pack(r) for each, r in zip((parking, plain), rows, strict=True)]
    for name in ROW.names or ():
        assert packed[0][name].tobytes() == packed[1][name].tobytes(), name


@drawn(5, 15, seed=st.integers(0, 2**32), users=st.sampled_from([3, 25, 60]))
def test_a_loaded_state_goes_on_bit_for_bit(seed: int, users: int) -> None:
    rng = random.Random(seed)
    straight, broken = driver(), driver()
    for fed in years(seed, users):
        if rng.random() < 0.3:
            broken.state = reload(broken.state)
            assert_equal(straight.state, broken.state)
        assert encode(straight.feed(**fed)) == encode(broken.feed(**fed))
    assert_equal(straight.state, broken.state)


@drawn(8, 25, seed=st.integers(0, 2**32), users=st.sampled_from([3, 25, 60]))
def test_a_checkpoint_holds_its_beginning_whoever_comes_and_goes_meanwhile(
    seed: int, users: int
) -> None:
    check_checkpoints(random.Random(seed), driver(), years(seed, users, 20))


def silent(users: int, days: int = 120) -> Driver:
    """A shard of users who had an order each and were last seen so many days ago."""
    here = driver()
    here.feed(
        [click(f"u{i}", T0 + i, item_id=f"i{i}") for i in range(users)],
        [order(f"u{i}", T0 + i) for i in range(users)],
    )
    for day in (1, 6, days):
        here.sweep(T0 + day * DAY_MS)
    return here


def test_the_long_silent_are_parked_and_their_memory_is_given_back() -> None:
    here = silent(1_000, days=80)
    before = here.state.nbytes
    assert (here.state.n, len(here.state.parked), here.state.known) == (1_000, 0, 1_000)
    for day in (92, 93, 94):
        here.sweep(T0 + day * DAY_MS)
    assert (here.state.n, len(here.state.parked), here.state.known) == (0, 1_000, 1_000)
    assert here.state.columns.capacity < 100
    assert here.state.counts.table.shape[0] == here.state.columns.capacity
    assert here.state.nbytes < before / 2  # blocks of four pack little


def test_a_block_of_256_takes_a_fifth_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    here = silent(2_000)
    here.sweep(T0 + 121 * DAY_MS)
    assert len(here.state.parked) == 2_000
    assert here.state.parked.nbytes < 2_000 * ROW.itemsize / 4


def test_who_comes_back_has_the_lowest_free_row_and_all_they_had() -> None:
    here = silent(10)
    first = here.column("first_seen_ms", "u7")
    here.feed([click("new", T0 + 121 * DAY_MS), click("u7", T0 + 121 * DAY_MS)])
    assert list(here.state.rows_by_user) == ["new", "u7"]
    assert here.column("first_seen_ms", "u7") == first
    assert here.column("orders", "u7") == 1
    assert here.state.known == 11
    assert "u7" not in here.state.parked
    assert here.state.knows("u6")
    assert not here.state.knows("u11")


def test_a_sweep_visits_everybody_once_whoever_is_parked() -> None:
    here = silent(30)
    here.feed([click(f"v{i}", T0 + 120 * DAY_MS + 1) for i in range(9)])
    here.feed([click("u3", T0 + 120 * DAY_MS + 2)])
    seen: list[str] = []
    for i in range(100):
        out = here.feed(clock_ms=T0 + 121 * DAY_MS + i, sweep_rows=3)
        seen += [row["user_id"] for row in table_rows(out.tables.get("score_samples"))]
        if not here.state.meta.sweep_row:
            break
    assert sorted(seen) == sorted(f"u{i}" for i in range(30))  # visitors have no score
    assert here.state.meta.sweep_parked == here.state.parked.entries == 29


@pytest.mark.parametrize("why", ["question", "eligible", "late events"])
def test_nobody_is_parked_whom_silence_may_still_concern(why: str) -> None:
    changes = {
        "eligible": {"active_within_ms": 200 * DAY_MS},
        "late events": {"lateness_ms": 200 * DAY_MS},
    }.get(why, {})
    here = driver(**changes)
    here.feed([], [order("u", T0)])
    if why == "question":
        here.sweep(T0 + DAY_MS)
        here.state.columns.asked_ms[0] = T0
    here.sweep(T0 + 120 * DAY_MS)
    assert not len(here.state.parked)


def test_another_horizon_begins_the_periods_of_parked_users_again_too() -> None:
    here = silent(9)
    assert (here.state.parked.everyone(0)[1]["question_period"] >= 0).all()
    here.scorer = SilenceScorer(horizon_days=11)
    here.feed([order("someone", T0 + 121 * DAY_MS)])
    _, rows = here.state.parked.everyone(here.state.meta.horizon_since)
    assert (rows["question_period"] == -1).all()
    here.feed([click("u4", T0 + 121 * DAY_MS)])
    assert here.column("question_period", "u4") == -1
    here.sweep(T0 + 122 * DAY_MS)
    assert (
        here.state.parked.everyone(here.state.meta.horizon_since)[1]["question_period"] >= 0
    ).all()


# -- the packed users by themselves


def people(names: list[str], hashed: list[int] | None = None) -> tuple[Texts, Strings, Any]:
    texts = Texts.of(names)
    if hashed is not None:
        texts = replace(texts, hashed=np.array(hashed, np.uint64))
    rows = np.zeros(len(names), ROW)
    rows["user_hash"] = texts.hashed
    rows["orders"] = np.arange(len(names))
    return texts, Strings(texts.data, texts.size), rows


def test_ids_with_the_same_hash_are_kept_apart() -> None:
    state = ShardState(0, len(FEATURE_NAMES))
    texts, _, _ = people(["ann", "bob", "eve"], [7, 7, 8])
    rows = state.rows_of(texts)
    state.columns.orders[rows] = [1, 2, 3]
    state.park(rows)
    assert len(state.parked) == 2  # one of those with hash 7 stays where they are
    assert list(state.rows_by_user) == ["bob"]
    rows = state.rows_of(texts)
    assert state.columns.orders[rows].tolist() == [1, 2, 3]
    state.park(rows[:1])
    others, _, _ = people(["zoe", "bob"], [7, 7])
    assert state.columns.orders[state.rows_of(others)].tolist() == [0, 2]
    assert len(state.parked) == 1
    assert state.columns.orders[state.rows_of(texts)].tolist() == [1, 2, 3]


def test_the_oldest_are_taken_first_and_whoever_left_is_not_there() -> None:
    parked = Parked()
    texts, strings, rows = people([f"user-{i}" for i in range(11)])
    parked.add(strings, rows, seq=3)
    chosen, packed = parked.take(texts[np.array([2, 9, 1])], since=0)
    assert sorted(chosen.tolist()) == [0, 1, 2]
    assert sorted(packed["orders"].tolist()) == [1, 2, 9]
    assert (len(parked), parked.entries) == (8, 11)
    parked.tidy(1)
    oldest, packed, places = parked.take_oldest(1, since=4)
    assert oldest.tolist() == ["user-0", "user-3"]
    assert packed["orders"].tolist() == [0, 3]
    assert packed["question_period"].tolist() == [-1, -1]
    assert places == 4
    assert parked.take(texts[np.array([0])], since=0)[0].tolist() == []
    rest, _, places = parked.take_oldest(1_000, since=0)
    assert rest.tolist() == ["user-4", "user-5", "user-6", "user-7", "user-8", "user-10"]
    assert (places, len(parked), parked.entries) == (7, 0, 0)
    parked.forget()
    parked.forget_some(100)
    parked.forget_some(100)
    assert not len(parked._index)


def test_who_came_back_is_overwritten_bit_by_bit() -> None:
    parked = Parked()
    texts, strings, rows = people([f"somebody-{i}" for i in range(8)])
    parked.add(strings, rows, seq=1)
    parked.take(texts[np.array([1, 6])], since=0)
    exported = parked.export()
    assert set(exported) == {"0", "1", "gone"}
    again = Parked()
    again.load(exported)
    for each in (parked, again):
        each.tidy(1)
        each.tidy(1)
        assert set(each.export()) == {"2", "3"}
        names, _ = each.everyone(0)
        assert names == [f"somebody-{i}" for i in (0, 2, 3, 4, 5, 7)]
        for block in each._blocks.values():
            assert b"somebody-1" not in block.raw
            assert b"somebody-6" not in block.raw


def test_damaged_blocks_are_refused() -> None:
    parked = Parked()
    _, strings, rows = people(["a", "b"])
    parked.add(strings, rows, seq=1)
    (block,) = parked.export().values()
    for bad in (block[:10], block[:-3], np.r_[block[:32], block[33:]], np.r_[block, block]):
        with pytest.raises(ValueError, match="parked users"):
            Parked().load({"0": bad})


def test_an_unfinished_checkpoint_keeps_rows_that_were_given_back() -> None:
    here = silent(40, days=80)
    wanted = comparable(here.state)
    meta, sources = freeze(here.state, everything=True)
    for day in (92, 93):
        here.sweep(T0 + day * DAY_MS)
    here.feed([click("newcomer", T0 + 93 * DAY_MS)])
    assert here.state.n == 1
    raw = {n: b"".join(s.take(p) for p in range(s.pages)) for n, s in sources.items()}
    arrays = {n: np.frombuffer(raw[n], np.dtype(s.dtype)) for n, s in sources.items()}
    assert_comparable(comparable(load(meta, arrays, len(FEATURE_NAMES))), wanted)
    thaw(here.state)
    here.sweep(T0 + 94 * DAY_MS)
    assert here.state.columns.capacity <= 8
