"""What a batch of events adds to a state, in one pass over the events each.

`streams.core.apply` says what it means.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.features import COUNT_MEASURES
from streams.kernels.jit import kernel

__all__ = [
    "PAIR_SALTS",
    "Batch",
    "Cells",
    "LastTimes",
    "Pairs",
    "Seen",
    "Touched",
    "Weighted",
    "WeightedOrders",
    "add_decayed",
    "event_cells",
    "group",
    "newest",
    "pair_cells",
    "pair_keys",
    "put",
    "remember",
]

_Longs = NDArray[np.int64]
_Hashes = NDArray[np.uint64]

PAIR_SALTS: Final = np.array([1, 2, 3], np.uint64)
"""Of (user, item), (user, category) and (user, session): without them an item and a category of one
name would be one pair."""
_PLACED: Final = COUNT_MEASURES.index("orders")  # an event's kind is its count measure
_RATING_TENTHS: Final = COUNT_MEASURES.index("rating_tenths")
_RATINGS: Final = COUNT_MEASURES.index("ratings")
_SESSIONS: Final = COUNT_MEASURES.index("sessions")
_ITEMS: Final = COUNT_MEASURES.index("distinct_items")
_CATEGORIES: Final = COUNT_MEASURES.index("distinct_categories")


class Batch(NamedTuple):
    """k events that count. rows: int64 [k], of their users; kind: int8 [k]; ts_ms: int64 [k], ms
    since 1970 UTC."""

    rows: _Longs
    kind: NDArray[np.int8]
    ts_ms: _Longs


class Cells(NamedTuple):
    """Room for m cells of window sums: rows, measures and times (ms) int64 [m], deltas int32 [m].
    They are appended from the front."""

    rows: _Longs
    measures: _Longs
    deltas: NDArray[np.int32]
    ts_ms: _Longs


class Touched(NamedTuple):
    """m items that n events name. place: int64 [n], each event's place among the k that count, or
    -1; event: int32 [m], each item's event; item, category: uint64 [m], hashes, 0 if missing;
    session: uint64 [k], of the events that count, 0 if missing."""

    place: _Longs
    event: NDArray[np.int32]
    item: _Hashes
    category: _Hashes
    session: _Hashes


class Pairs(NamedTuple):
    """Room for keys of pairs: first (user, item), then (user, category), then (user, session).

    keys: uint64 [2 m + k]; owner: int64 [2 m + k], each pair's place among the k events that count;
    ends: int64 [3], where each kind ends.
    """

    keys: _Hashes
    owner: _Longs
    ends: _Longs


class Seen(NamedTuple):
    """When pairs were seen, as tiles. tile: int32 [p], now; before: int32 [p], the newest one until
    then; is_new: bool [p], never until then."""

    tile: NDArray[np.int32]
    before: NDArray[np.int32]
    is_new: NDArray[np.bool_]


class LastTimes(NamedTuple):
    """Columns of the state, ms since 1970 UTC: last_seen_ms int64 [rows, kinds]; last_activity_ms,
    first_seen_ms int64 [rows]."""

    last_seen_ms: _Longs
    last_activity_ms: _Longs
    first_seen_ms: _Longs


class Weighted(NamedTuple):
    """k events with their weights. user: int64 [k], place among the users of the batch; weight:
    float64 [k, H], for each half-life."""

    user: _Longs
    weight: NDArray[np.float64]


class WeightedOrders(NamedTuple):
    """m changes of orders with their weights. user: int64 [m], as in `Weighted`; weight: float64
    [m, H]; orders, cents: int64 [m], what is added; below 0 what is taken."""

    user: _Longs
    weight: NDArray[np.float64]
    orders: _Longs
    cents: _Longs


@kernel
def put(cells: Cells, n: int, row: int, measure: int, delta: int, ts_ms: Any) -> int:
    """Write one cell at place n; returns the next place."""
    cells.rows[n] = row
    cells.measures[n] = measure
    cells.deltas[n] = delta
    cells.ts_ms[n] = ts_ms
    return n + 1


@kernel
def group(rows: _Longs, marks: NDArray[np.int32], distinct: _Longs, which: _Longs) -> int:
    """Number the distinct rows in the order in which they first occur.

    rows: int64 [k]. Sets which[i], int64 [k], to the number of rows[i], and distinct[number], int64
    [k], to the row; returns how many there are. marks: int32, one per row of the state; all 0
    before and after.
    """
    n = 0
    for i in range(len(rows)):
        mark = marks[rows[i]]
        if mark == 0:
            distinct[n] = rows[i]
            n += 1
            marks[rows[i]] = mark = n
        which[i] = mark - 1
    for i in range(n):
        marks[distinct[i]] = 0
    return n


@kernel
def event_cells(
    batch: Batch,
    rating_tenths: NDArray[np.int32],
    cells: Cells,
) -> int:
    """Write the cells of k events themselves, but for orders placed (`streams.kernels.orders`): one
    of its kind's measure, and what ratings add; at most three per event. Returns how many were
    written.

    rating_tenths: int32 [k], tenths of a star, 0 for none.
    """
    n = 0
    for i in range(len(batch.rows)):
        row, kind, at = batch.rows[i], batch.kind[i], batch.ts_ms[i]
        if kind == _PLACED:
            continue
        n = put(cells, n, row, kind, 1, at)
        if rating_tenths[i] != 0:
            n = put(cells, n, row, _RATING_TENTHS, rating_tenths[i], at)
        if rating_tenths[i] > 0:
            n = put(cells, n, row, _RATINGS, 1, at)
    return n


@kernel
def _mixed(a: np.uint64, b: np.uint64) -> np.uint64:
    """As `streams.core.hashing.mix`."""
    z = a * np.uint64(0x94D049BB133111EB) + b
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@kernel
def pair_keys(owners: _Longs, touched: Touched, pairs: Pairs) -> None:
    """Write the pairs that the events contain into `pairs`. owners: int64 [k], the users' numbers.

    Keys contain the user's number, not the id. So a user who comes back after an erasure has
    another number and starts from zero, and keys that remain can't be matched with an id.
    """
    n = 0
    for part in range(2):
        hashes = touched.item if part == 0 else touched.category
        for i in range(len(touched.event)):
            place = touched.place[touched.event[i]]
            if place >= 0 and hashes[i] != 0:
                user = np.uint64(owners[place]) << np.uint64(2)
                pairs.keys[n] = _mixed(user ^ PAIR_SALTS[part], hashes[i])
                pairs.owner[n] = place
                n += 1
        pairs.ends[part] = n
    for i in range(len(owners)):
        if touched.session[i] != 0:
            user = np.uint64(owners[i]) << np.uint64(2)
            pairs.keys[n] = _mixed(user ^ PAIR_SALTS[2], touched.session[i])
            pairs.owner[n] = i
            n += 1
    pairs.ends[2] = n


@kernel
def pair_cells(rows: _Longs, pairs: Pairs, seen: Seen, tile_ms: int, cells: Cells, n: int) -> int:
    """Write the cells of pairs, from n on: a pair counts 1 in its newest tile and leaves the one
    before. At most two per pair. rows: int64 [k]. Returns where they end.
    """
    for i in range(len(pairs.owner)):
        measure = _SESSIONS
        if i < pairs.ends[0]:
            measure = _ITEMS
        elif i < pairs.ends[1]:
            measure = _CATEGORIES
        row = rows[pairs.owner[i]]
        if seen.is_new[i]:
            n = put(cells, n, row, measure, 1, np.int64(seen.tile[i]) * tile_ms)
        elif seen.tile[i] > seen.before[i]:
            n = put(cells, n, row, measure, 1, np.int64(seen.tile[i]) * tile_ms)
            n = put(cells, n, row, measure, -1, np.int64(seen.before[i]) * tile_ms)
    return n


@kernel
def remember(times: LastTimes, batch: Batch) -> None:
    """Write when k events happened into the state: the last of each kind but orders placed
    (`streams.kernels.orders`), the last of any kind, and the first one, for which 0 means never."""
    for i in range(len(batch.rows)):
        row, kind, at = batch.rows[i], batch.kind[i], batch.ts_ms[i]
        if kind != _PLACED:
            times.last_seen_ms[row, kind] = max(times.last_seen_ms[row, kind], at)
        times.last_activity_ms[row] = max(times.last_activity_ms[row], at)
        first = times.first_seen_ms[row]
        times.first_seen_ms[row] = at if first == 0 else min(first, at)


@kernel
def newest(at_ms: _Longs, which: _Longs, ts_ms: _Longs) -> None:
    """Raise at_ms[which[i]] to ts_ms[i] if it is lower. which, ts_ms: int64 [k]."""
    for i in range(len(which)):
        at_ms[which[i]] = max(at_ms[which[i]], ts_ms[i])


@kernel
def add_decayed(
    decayed: NDArray[np.float64],
    rows: _Longs,
    faded: NDArray[np.float64],
    events: Weighted,
    orders: WeightedOrders,
    added: NDArray[np.float64],
) -> None:
    """decayed[rows] = decayed[rows] * faded + the events and orders, each by its weight.

    decayed: float64 [users, 3 H], for each half-life orders, revenue (currency) and activity. rows:
    int64 [u], the batch's users; faded: float64 [u, H]; added: zeros, float64 [u, 3 H]. All are
    summed first, in their order, and then added to the rest: replay depends on that.
    """
    halves = events.weight.shape[1]
    for i in range(len(events.user)):
        for h in range(halves):
            added[events.user[i], 3 * h + 2] += events.weight[i, h]
    for i in range(len(orders.user)):
        user: Any = orders.user[i]
        for h in range(halves):
            weight = orders.weight[i, h]
            added[user, 3 * h] += weight * orders.orders[i]
            added[user, 3 * h + 1] += weight * (orders.cents[i] / 100.0)
    for u in range(len(rows)):
        for h in range(halves):
            for j in range(3):
                kept = decayed[rows[u], 3 * h + j] * faded[u, h]
                decayed[rows[u], 3 * h + j] = kept + added[u, 3 * h + j]
