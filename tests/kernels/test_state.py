"""The kernels that change state do what their numpy references do, on whatever they are given."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, GAP_ORDERS
from streams.core.features import DAY_MS, HALF_LIVES_MS, features
from streams.core.hashing import mix
from streams.core.state.shard_state import ShardState
from streams.core.texts import Texts
from streams.kernels.cells import DIGITS, Entries, combine_cells
from streams.kernels.counting import (
    PAIR_SALTS,
    Pairs,
    Touched,
    Weighted,
    add_decayed,
    group,
    pair_keys,
)
from tests.core import reference_features


def combined(
    cells: NDArray[np.uint32], deltas: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """What `combine_cells` must give."""
    order = np.argsort(cells, kind="stable")
    cells, deltas = cells[order], deltas[order]
    starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
    summed = np.add.reduceat(deltas, starts)
    return cells[starts][summed != 0], summed[summed != 0]


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1_000, 50_000])
@pytest.mark.parametrize("most", [1, 40, 2_047, 2_048, 1 << 22, (1 << 32) - 1])
def test_cells_are_combined_as_a_sort_and_a_sum_would(size: int, most: int) -> None:
    rng = np.random.default_rng(size * 31 + most)
    cells = rng.integers(0, most, size, endpoint=True).astype(np.uint32)
    deltas = rng.integers(-2, 3, size)
    want_cells, want_deltas = combined(cells, deltas)
    entries = Entries(cells, deltas)
    spare = Entries(np.empty_like(cells), np.empty_like(deltas))
    left, swapped = combine_cells(entries, spare, np.empty(DIGITS, np.int64))
    got_cells, got_deltas = spare if swapped else entries
    assert got_cells[:left].tolist() == want_cells.tolist()
    assert got_deltas[:left].tolist() == want_deltas.tolist()


NOW_MS = 1_700_000_123_456


def made_up(users: int, seed: int, *, wide: bool) -> ShardState:
    """A state of whatever is possible: new users and old ones, orders on one day and years apart,
    now and slightly ahead of the clock. `wide`: window sums have their full width."""
    rng = np.random.default_rng(seed)
    state = ShardState(0, len(FEATURE_NAMES))
    state.rows_of(Texts.of([f"u{i}" for i in range(users)]))
    c = state.columns

    def times(shape: tuple[int, ...]) -> NDArray[np.int64]:
        back = (10 ** rng.uniform(-3, 3, shape) * DAY_MS).astype(np.int64)
        return np.where(rng.random(shape) < 0.2, 0, NOW_MS + 60_000 - back)

    rows = slice(0, users)
    for name in ("last_seen_ms", "last_activity_ms", "first_seen_ms", "first_order_ms"):
        column = getattr(c, name)
        column[rows] = times(column[rows].shape)
    recent = np.sort(times((users, GAP_ORDERS)), axis=1)[:, ::-1]
    recent[np.arange(GAP_ORDERS) >= rng.integers(0, GAP_ORDERS + 1, users)[:, None]] = 0
    same_day = rng.random(users) < 0.2
    recent[same_day] = np.where(recent[same_day] > 0, recent[same_day, :1] // DAY_MS * DAY_MS, 0)
    c.recent_orders_ms[rows] = recent
    c.orders[rows] = (recent > 0).sum(axis=1) + rng.integers(0, 3, users)
    c.revenue_cents[rows] = rng.integers(0, 10**6, users) * (rng.random(users) < 0.8)
    c.decayed[rows] = rng.random((users, c.decayed.shape[1])) * 100
    c.decayed_at_ms[rows] = times((users,))
    for sums in (state.counts, state.money):
        held = sums.table
        some = rng.integers(0, 90, held.shape) * (rng.random(held.shape) < 0.4)
        sums.table = some.astype(sums.dtype if wide else held.dtype)
    return state


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_features_are_the_reference_bit_for_bit(seed: int, wide: bool) -> None:
    state = made_up(2_000, seed, wide=wide)
    rows = np.random.default_rng(seed).permutation(2_000)[:1_500]
    found = features(state, rows, NOW_MS).view(np.uint32)
    wanted = reference_features.features(state, rows, NOW_MS).view(np.uint32)
    differ = {FEATURE_NAMES[f] for f in np.flatnonzero((found != wanted).any(axis=0))}
    assert not differ


def test_features_do_not_depend_on_who_else_is_asked_for() -> None:
    state = made_up(300, 9, wide=False)
    together = features(state, np.arange(300), NOW_MS).view(np.uint32)
    for row in (0, 7, 299):
        assert (features(state, np.array([row]), NOW_MS).view(np.uint32) == together[row]).all()


def test_rows_are_grouped_and_the_marks_left_clean() -> None:
    rng = np.random.default_rng(1)
    marks = np.zeros(500, np.int32)
    for size in (0, 1, 3_000):
        rows = rng.integers(0, 500, size)
        distinct, which = np.empty(size, np.int64), np.empty(size, np.int64)
        distinct = distinct[: group(rows, marks, distinct, which)]
        assert np.sort(distinct).tolist() == np.unique(rows).tolist()
        assert distinct[which].tolist() == rows.tolist()
        assert not marks.any()


def test_decayed_sums_are_those_of_numpy_bit_for_bit() -> None:
    rng = np.random.default_rng(2)
    users, which = rng.permutation(900)[:300], rng.integers(0, 300, 5_000)
    decayed, faded = rng.random((900, 9)) * 50, rng.random((300, 3))
    weight, cents = rng.random((5_000, 3)), rng.integers(0, 10**6, 5_000)
    placed = rng.random(5_000) < 0.3
    want = decayed[users] * np.repeat(faded, 3, axis=1)
    amounts = (placed.astype(np.float64), np.where(placed, cents / 100.0, 0.0), np.ones(5_000))
    for h in range(3):
        for j, amount in enumerate(amounts):
            want[:, 3 * h + j] += np.bincount(which, weight[:, h] * amount, 300)
    others = np.setdiff1d(np.arange(900), users)
    untouched = decayed[others].copy()
    events = Weighted(which, weight, placed, cents)
    add_decayed(decayed, users, faded, events, np.zeros((300, 9)))
    assert (decayed[users] == want).all()
    assert (decayed[others] == untouched).all()
    assert (np.repeat(HALF_LIVES_MS[::3], 3) == HALF_LIVES_MS).all()  # what callers rely on


def test_pairs_have_the_keys_of_mix_and_what_is_missing_has_none() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 1_000, 50)
    of_event = np.full(80, -1, np.int64)
    of_event[np.sort(rng.permutation(80)[:50])] = np.arange(50)
    line_event = rng.integers(0, 80, 120).astype(np.int32)
    item, category, session = (
        rng.integers(0, 2**63, size).astype(np.uint64) * (rng.random(size) < 0.7).astype(np.uint64)
        for size in (120, 120, 50)
    )
    want_keys, want_owner, want_ends = [], [], []
    places = [
        (of_event[line_event], item),
        (of_event[line_event], category),
        (np.arange(50), session),
    ]
    for (place, hashed), salt in zip(places, PAIR_SALTS, strict=True):
        there = (place >= 0) & (hashed != 0)
        user = rows[place[there]].astype(np.uint64) << np.uint64(2)
        want_keys += mix(user ^ salt, hashed[there]).tolist()
        want_owner += place[there].tolist()
        want_ends.append(len(want_keys))
    keys, owner, ends = np.empty(290, np.uint64), np.empty(290, np.int64), np.empty(3, np.int64)
    touched = Touched(of_event, line_event, item, category, session)
    pair_keys(rows, touched, Pairs(keys, owner, ends))
    assert ends.tolist() == want_ends
    assert keys[: ends[2]].tolist() == want_keys
    assert owner[: ends[2]].tolist() == want_owner
