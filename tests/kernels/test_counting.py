"""What a batch adds to a state is what the same sums in numpy give."""

from __future__ import annotations

import numpy as np

from streams.core.features import HALF_LIVES_MS
from streams.core.hashing import mix
from streams.kernels.counting import (
    PAIR_SALTS,
    Pairs,
    Touched,
    Weighted,
    WeightedOrders,
    add_decayed,
    group,
    pair_keys,
)


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
    ordering, weight, order_weight = rng.integers(0, 300, 900), *rng.random((2, 5_000, 3))
    order_weight, orders = order_weight[:900], rng.integers(-1, 2, 900)
    cents = rng.integers(-(10**6), 10**6, 900)
    want = decayed[users] * np.repeat(faded, 3, axis=1)
    for h in range(3):
        for j, amount in enumerate((orders, cents / 100.0)):
            want[:, 3 * h + j] += np.bincount(ordering, order_weight[:, h] * amount, 300)
        want[:, 3 * h + 2] += np.bincount(which, weight[:, h], 300)
    others = np.setdiff1d(np.arange(900), users)
    untouched = decayed[others].copy()
    changes = WeightedOrders(ordering, order_weight, orders, cents)
    add_decayed(decayed, users, faded, Weighted(which, weight), changes, np.zeros((300, 9)))
    assert (decayed[users] == want).all()
    assert (decayed[others] == untouched).all()
    assert (np.repeat(HALF_LIVES_MS[::3], 3) == HALF_LIVES_MS).all()  # what callers rely on


def test_pairs_have_the_keys_that_mix_gives_and_missing_hashes_no_pair() -> None:
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
