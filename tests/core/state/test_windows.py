"""Features from the core equal a brute-force recount, at any clock and for any cut into batches."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.features import FEATURE_NAMES, FEATURES, WINDOWS
from streams.core.features import features
from streams.core.state.windows import WindowSums
from tests.core.driving import HOUR_MS, RATES, T0, Driver, bounded, click, order
from tests.core.oracle import DAY_MS, Admission, Sent, recount
from tests.core.streams_of_events import LATENESS_MS, Batch, random_batches

EXACT = np.array(
    [
        not any(part in f.name for part in ("decayed", "fading", "_per_", "trend"))
        and (f.unit == "count" or f.name.startswith(("revenue_", "refunds_")))
        for f in FEATURES
    ]
)


def check(driver: Driver, admission: Admission, now_ms: int) -> None:
    """All users' features now are those of a recount."""
    users = list(driver.state.rows_by_user)
    assert set(users) == {s.event["user_id"] for s in admission.accepted}
    x = features(driver.state, np.arange(driver.state.n), now_ms)
    for row, user in enumerate(users):
        want_by_name = recount(admission.of(user), now_ms, RATES, admission.standings.get(user))
        want = np.array([want_by_name[name] for name in FEATURE_NAMES], np.float32)
        same = (x[row] == want) | (np.isnan(x[row]) & np.isnan(want))
        close = same | (~EXACT & np.isclose(x[row], want, rtol=1e-6, atol=1e-9))
        bad = [(FEATURE_NAMES[i], x[row, i], want[i]) for i in np.flatnonzero(~close)]
        assert not bad, f"{user} at {now_ms}: {bad}"


def feed(driver: Driver, admission: Admission, batch: Batch, *, wall: bool) -> int:
    """One step; returns the clock it left."""
    before = (admission.duplicates, admission.late, len(admission.accepted))
    admission.batch(batch.clicks, batch.orders, driver.state.meta.clock_ms)
    out = driver.feed(
        batch.clicks, batch.orders, clock_ms=batch.now_ms if wall else 0, at_ms=batch.now_ms
    )
    counts = out.counts
    assert counts.accepted == len(batch.clicks) + len(batch.orders)
    assert counts.accepted == counts.scored + counts.duplicates + counts.late + counts.dead_letters
    assert (counts.duplicates, counts.late, counts.scored) == (
        admission.duplicates - before[0],
        admission.late - before[1],
        len(admission.accepted) - before[2],
    )
    assert len(out.dead_letters) == counts.late
    return driver.state.meta.clock_ms


@settings(bounded, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    batches=st.integers(1, 12),
    wall=st.booleans(),
    late_share=st.sampled_from([0.0, 0.15]),
)
@example(seed=1, batches=40, wall=False, late_share=0.1)
@example(seed=2, batches=40, wall=True, late_share=0.0)
def test_features_equal_a_recount(seed: int, batches: int, wall: bool, late_share: float) -> None:
    driver, admission = Driver(), Admission(LATENESS_MS, RATES)
    rng = random.Random(seed)
    for batch in random_batches(seed, batches, late_share=late_share):
        now_ms = feed(driver, admission, batch, wall=wall)
        if rng.random() < 0.5:
            check(driver, admission, now_ms)
        if wall and rng.random() < 0.2:  # time goes on, nobody does anything
            driver.feed(clock_ms=now_ms + rng.randrange(40_000))
    if not driver.state.n:
        return
    now_ms = driver.state.meta.clock_ms
    for ahead in (0, 299_999, 1, HOUR_MS - 1, DAY_MS, 6 * DAY_MS, 24 * DAY_MS, 60 * DAY_MS, DAY_MS):
        now_ms += ahead
        driver.feed(clock_ms=now_ms)
        check(driver, admission, now_ms)


@settings(bounded, max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_how_a_stream_is_cut_into_batches_does_not_matter(seed: int) -> None:
    batches = random_batches(seed, 10)
    end = batches[-1].now_ms + DAY_MS
    results = []
    for per_step in (1, len(batches), random.Random(seed).randrange(2, 6)):
        driver = Driver()
        for start in range(0, len(batches), per_step):
            part = batches[start : start + per_step]
            driver.feed(
                [e for b in part for e in b.clicks],
                [e for b in part for e in b.orders],
                at_ms=part[-1].now_ms,
            )
        driver.feed(clock_ms=end)
        total = [sum(getattr(o.counts, f) for o in driver.outputs) for f in ("scored", "late")]
        users = sorted(driver.state.rows_by_user)
        rows = np.array([driver.state.rows_by_user[u] for u in users], np.int64)
        results.append((total, users, features(driver.state, rows, end)))
    decayed = np.array(["decayed" in name for name in FEATURE_NAMES])
    for total, users, x in results[1:]:
        assert (total, users) == results[0][:2]
        np.testing.assert_array_equal(x[:, ~decayed], results[0][2][:, ~decayed])
        np.testing.assert_allclose(x[:, decayed], results[0][2][:, decayed], rtol=1e-6)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: w.name)
def test_an_event_leaves_a_window_at_the_tile_border(window: object) -> None:
    """The first and last millisecond at which an event counts, on both sides of each border."""
    hop, length = window.hop_seconds * 1000, window.length_seconds * 1000  # type: ignore[attr-defined]
    column = FEATURE_NAMES.index(f"view_{window.name}")  # type: ignore[attr-defined]
    for ts in (T0, T0 + 1, T0 + hop - 1):
        driver = Driver()
        driver.feed([click("u", ts)])
        leaves = T0 // hop * hop + length  # the tile's start plus the length
        for now_ms, expected in ((max(ts, leaves - 1), 1), (leaves, 0)):
            driver.feed(clock_ms=now_ms)
            assert features(driver.state, np.array([0]), now_ms)[0, column] == expected


def test_a_user_who_comes_back_after_a_hundred_days_starts_with_empty_windows() -> None:
    driver, admission = Driver(), Admission(LATENESS_MS, RATES)
    for batch in (
        Batch(T0, [click("u", T0, item_id="a", session_id="s")], [order("u", T0)]),
        Batch(T0 + 100 * DAY_MS, [click("u", T0 + 100 * DAY_MS, item_id="a", session_id="s")]),
        Batch(T0 + 101 * DAY_MS, [click("u", T0 + 95 * DAY_MS, item_id="a", session_id="s")]),
    ):
        check(driver, admission, feed(driver, admission, batch, wall=True))
    x = features(driver.state, np.array([0]), T0 + 101 * DAY_MS)[0]
    assert x[FEATURE_NAMES.index("distinct_items_90d")] == 1
    assert x[FEATURE_NAMES.index("orders_90d")] == 0
    assert x[FEATURE_NAMES.index("lifetime_orders")] == 1


def test_an_event_ahead_of_the_clock_counts_at_once_and_leaves_on_time() -> None:
    driver = Driver()
    driver.feed([click("u", T0 + 200_000)], clock_ms=T0, at_ms=T0)
    column = FEATURE_NAMES.index("view_1h")
    assert features(driver.state, np.array([0]), T0)[0, column] == 1
    for now_ms, expected in ((T0 + HOUR_MS - 1, 1), (T0 + HOUR_MS, 0)):
        driver.feed(clock_ms=now_ms)
        assert features(driver.state, np.array([0]), now_ms)[0, column] == expected


def test_each_row_is_the_same_bit_for_bit_whichever_others_are_asked_for() -> None:
    driver = Driver()
    rng = random.Random(5)
    for batch in random_batches(11, 12, most=60, users=60):
        driver.feed(batch.clicks, batch.orders, at_ms=batch.now_ms)
    now_ms = driver.state.meta.clock_ms
    n = driver.state.n
    assert n > 40
    every = features(driver.state, np.arange(n), now_ms).view(np.uint32)
    for size in (1, 2, 3, 5, 7, 8, 9, 15, 17, 33):
        rows = np.array(sorted(rng.sample(range(n), size)))
        some = features(driver.state, rows, now_ms).view(np.uint32)
        np.testing.assert_array_equal(some, every[rows])


def test_many_small_batches_are_joined_and_still_leave_exactly() -> None:
    """More chunks in one tile than are kept apart, with cells that cancel out."""
    sums, rng = WindowSums(3, np.int32), random.Random(9)
    sums.reserve(10)
    sums.advance(T0)
    want = np.zeros((10, 3), np.int64)
    for _ in range(400):
        k = rng.choice([1, 1, 2, 50])
        rows = np.array([rng.randrange(10) for _ in range(k)])
        measure = np.array([rng.randrange(3) for _ in range(k)])
        delta = np.array([rng.choice([-2, -1, 1, 2]) for _ in range(k)], np.int32)
        sums.add(rows, measure, delta, np.full(k, T0 + rng.randrange(1_000)))
        np.add.at(want, (rows, measure), delta)
    for w in range(len(WINDOWS)):
        np.testing.assert_array_equal(sums.table[..., w], want)
    again = WindowSums(3, np.int32)
    again.load(T0, 10, sums.chunks(), sums.counted_from_ms)
    for w in range(len(WINDOWS)):
        np.testing.assert_array_equal(again.table[..., w], sums.table[..., w])
    for both in (sums, again):
        both.advance(T0 + 90 * DAY_MS)
        assert not both.table.any()
        assert not list(both.chunks())


@pytest.mark.parametrize(
    ("dtype", "step"), [(np.int32, 2**14 - 1), (np.int32, 2**20), (np.int64, 2**40)]
)
def test_sums_too_large_for_half_the_width_get_all_of_it(dtype: Any, step: int) -> None:
    """In the middle of one call, where cells repeat; and they come back to zero."""
    sums = WindowSums(2, dtype)
    sums.reserve(4)
    sums.advance(T0)
    rows = np.array([1, 1, 3, 1, 1, 0])
    delta = np.array([step, step, -step, step, 1, 7], dtype)
    for _ in range(3):
        sums.add(rows, np.array([0, 0, 1, 0, 0, 0]), delta, np.full(6, T0))
    for w in range(len(WINDOWS)):
        assert sums.table[..., w].tolist() == [[21, 0], [9 * step + 3, 0], [0, 0], [0, -3 * step]]
    again = WindowSums(2, dtype)
    again.load(T0, 4, sums.chunks(), sums.counted_from_ms)
    for both in (sums, again):
        both.advance(T0 + 2 * DAY_MS)
        assert both.table[..., 2].tolist() == [[21, 0], [9 * step + 3, 0], [0, 0], [0, -3 * step]]
        both.advance(T0 + 90 * DAY_MS)
        assert not both.table.any()


def test_a_sum_beyond_its_full_width_is_an_error_and_no_wrong_number() -> None:
    sums = WindowSums(1, np.int32)
    sums.reserve(1)
    sums.advance(T0)
    cell = np.array([0])
    sums.add(cell, cell, np.array([2**30], np.int32), np.array([T0]))
    with pytest.raises(OverflowError, match="int32"):
        sums.add(cell, cell, np.array([2**30], np.int32), np.array([T0]))


def test_one_tile_is_packed_with_every_step() -> None:
    """So that no step waits for more; what is not packed yet leaves its windows all the same."""
    sums = WindowSums(1, np.int32)
    sums.reserve(1)
    sums.advance(T0)
    cell, one = np.array([0]), np.ones(1, np.int32)
    for hour in range(4):
        for _ in range(2):
            sums.add(cell, cell, one, np.array([T0 + hour * HOUR_MS]))

    def loose() -> int:
        return len(list(sums.chunks())) - len({(hop, tile) for hop, tile, _ in sums.chunks()})

    left = []
    for _ in range(6):
        sums.advance(T0 + 5 * HOUR_MS)
        left.append(loose())
    assert left == [10, 9, 8, 7, 7, 7]  # of four hours one each; seven of today, which is not over
    sums.advance(T0 + 90 * DAY_MS)
    assert not sums.table.any()


def test_a_tile_that_time_has_passed_takes_few_bytes() -> None:
    sums, rng = WindowSums(3, np.int32), np.random.default_rng(1)
    sums.reserve(10_000)
    sums.advance(T0)
    rows = rng.integers(0, 10_000, 50_000)
    sums.add(rows, rows % 3, np.ones(50_000, np.int32), np.full(50_000, T0))
    cells = len(np.unique(rows))
    sums.advance(T0 + 25 * HOUR_MS)
    assert [(tile, len(c), c.nbytes) for _, tile, c in sums.chunks()] == [
        (T0 // DAY_MS, cells, 3 * cells)
    ]
    assert sums.table[..., 2].sum() == 50_000


def test_the_recount_itself_on_a_case_worked_out_by_hand() -> None:
    """Two orders of 10 and 30 two days apart, one view in between, seen two days later."""
    day = DAY_MS
    events = [
        Sent(1, order("u", T0, 10.0, discount=10.0, coupon="C")),
        Sent(0, click("u", T0 + day, item_id="i")),
        Sent(1, order("u", T0 + 2 * day, 30.0, currency="EUR")),
    ]
    found = recount(events, T0 + 4 * day, RATES)
    assert set(found) == set(FEATURE_NAMES)
    assert (found["orders_1h"], found["orders_7d"], found["view_7d"]) == (0, 2, 1)
    assert found["revenue_7d"] == pytest.approx(10 + 32.4)
    assert found["discount_share_7d"] == pytest.approx(10 / 52.4)
    assert (found["gap_mean_days"], found["gap_std_days"], found["silence_over_gap"]) == (2, 0, 1)
    assert (found["days_since_order"], found["tenure_days"]) == (2, 4)
    assert found["activity_decayed_7d"] == pytest.approx(
        2 ** (-4 / 7) + 2 ** (-3 / 7) + 2 ** (-2 / 7)
    )
    assert math.isnan(found["rating_mean_90d"])
    assert (found["coupon_orders_30d"], found["sessions_30d"]) == (1, 1)
