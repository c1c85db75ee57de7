"""What a batch of events adds to a state, worked out in one pass over the events each.

`streams.core.apply` says what it means. Cells are (row, measure, delta, time), written one behind
the other into four arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = [
    "Cells",
    "Measures",
    "add_decayed",
    "event_cells",
    "group",
    "newest",
    "pair_cells",
    "pair_keys",
    "remember",
]

_Longs = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


class Measures(NamedTuple):
    """Which count measure is which."""

    order_lines: int
    coupon_orders: int
    rating_tenths: int
    ratings: int
    items: int
    categories: int
    sessions: int


class Cells(NamedTuple):
    """Room for cells: rows, measures and times int64 [m], deltas int32 [m]."""

    rows: _Longs
    measures: _Longs
    deltas: NDArray[np.int32]
    ts_ms: _Longs


@kernel
def _put(cells: Cells, n: int, row: int, measure: int, delta: int, ts_ms: Any) -> int:
    cells.rows[n] = row
    cells.measures[n] = measure
    cells.deltas[n] = delta
    cells.ts_ms[n] = ts_ms
    return n + 1


@kernel
def group(rows: _Longs, marks: NDArray[np.int32], distinct: _Longs, which: _Longs) -> int:
    """Number the distinct rows in the order of their first place: which[i] is rows[i]'s number and
    distinct[number] the row. Returns how many there are.

    marks: int32, one place for every row there can be; all 0 before and after.
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
    rows: _Longs,
    kind: NDArray[np.int8],
    ts_ms: _Longs,
    rating_tenths: NDArray[np.int32],
    order_lines: NDArray[np.int32],
    coupon: NDArray[np.bool_],
    placed: int,
    measures: Measures,
    cells: Cells,
) -> int:
    """The cells of k events themselves: one of its kind's measure (which is the kind), and what
    orders and ratings add. At most four each. Returns how many were written."""
    n = 0
    for i in range(len(rows)):
        row, at = rows[i], ts_ms[i]
        n = _put(cells, n, row, kind[i], 1, at)
        if rating_tenths[i] != 0:
            n = _put(cells, n, row, measures.rating_tenths, rating_tenths[i], at)
        if rating_tenths[i] > 0:
            n = _put(cells, n, row, measures.ratings, 1, at)
        if kind[i] == placed:
            if order_lines[i] != 0:
                n = _put(cells, n, row, measures.order_lines, order_lines[i], at)
            if coupon[i]:
                n = _put(cells, n, row, measures.coupon_orders, 1, at)
    return n


@kernel
def _mixed(a: np.uint64, b: np.uint64) -> np.uint64:
    """As `streams.core.hashing.mix`."""
    z = a * np.uint64(0x94D049BB133111EB) + b
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(z ^ (z >> np.uint64(31)))


@kernel
def pair_keys(
    rows: _Longs,
    of_event: _Longs,
    line_event: NDArray[np.int32],
    item: _Hashes,
    category: _Hashes,
    session: _Hashes,
    salts: _Hashes,
    keys: _Hashes,
    owner: _Longs,
    ends: _Longs,
) -> None:
    """Keys of (user, item), then of (user, category), then of (user, session): what is 0 is not
    there. owner: whose each is, as a place in `rows`. ends: int64 [3], where each kind's keys end.

    rows: int64 [k] of the events that count; of_event: place in it of each event, or -1;
    line_event, item, category: [m]; session: [k]. keys and owner have room for 2 m + k.

    Keys are made of rows, not names: who comes back after an erasure has another row and starts
    from zero, and nobody can ask what is left here about a name.
    """
    n = 0
    for part in range(2):
        hashes = item if part == 0 else category
        for i in range(len(line_event)):
            place = of_event[line_event[i]]
            if place >= 0 and hashes[i] != 0:
                user = np.uint64(rows[place]) << np.uint64(2)
                keys[n], owner[n] = _mixed(user ^ salts[part], hashes[i]), place
                n += 1
        ends[part] = n
    for i in range(len(rows)):
        if session[i] != 0:
            user = np.uint64(rows[i]) << np.uint64(2)
            keys[n], owner[n] = _mixed(user ^ salts[2], session[i]), i
            n += 1
    ends[2] = n


@kernel
def pair_cells(
    rows: _Longs,
    owner: _Longs,
    ends: _Longs,
    tile: NDArray[np.int32],
    before: NDArray[np.int32],
    is_new: NDArray[np.bool_],
    tile_ms: int,
    measures: Measures,
    cells: Cells,
    n: int,
) -> int:
    """A pair's one goes to its newest tile, away from the one where it was `before`. Written from n
    on, two cells a pair at most; returns where they end."""
    for i in range(len(owner)):
        measure = measures.sessions
        if i < ends[0]:
            measure = measures.items
        elif i < ends[1]:
            measure = measures.categories
        row = rows[owner[i]]
        if is_new[i]:
            n = _put(cells, n, row, measure, 1, np.int64(tile[i]) * tile_ms)
        elif tile[i] > before[i]:
            n = _put(cells, n, row, measure, 1, np.int64(tile[i]) * tile_ms)
            n = _put(cells, n, row, measure, -1, np.int64(before[i]) * tile_ms)
    return n


@kernel
def remember(
    last_seen_ms: _Longs,
    last_activity_ms: _Longs,
    first_seen_ms: _Longs,
    rows: _Longs,
    kind: NDArray[np.int8],
    ts_ms: _Longs,
) -> None:
    """When k events happened, into the columns of the state: by kind, of any kind, and the first
    one, for which 0 means never."""
    for i in range(len(rows)):
        row, at = rows[i], ts_ms[i]
        last_seen_ms[row, kind[i]] = max(last_seen_ms[row, kind[i]], at)
        last_activity_ms[row] = max(last_activity_ms[row], at)
        first = first_seen_ms[row]
        first_seen_ms[row] = at if first == 0 else min(first, at)


@kernel
def newest(at_ms: _Longs, which: _Longs, ts_ms: _Longs) -> None:
    """Raise at_ms[which[i]] to ts_ms[i]."""
    for i in range(len(which)):
        at_ms[which[i]] = max(at_ms[which[i]], ts_ms[i])


@kernel
def add_decayed(
    decayed: NDArray[np.float64],
    users: _Longs,
    faded: NDArray[np.float64],
    which: _Longs,
    weight: NDArray[np.float64],
    placed: NDArray[np.bool_],
    cents: _Longs,
    added: NDArray[np.float64],
) -> None:
    """decayed[users] = decayed[users] * faded + the events, each by its weight.

    Per half-life: orders, revenue and activity. faded: float64 [users, H]; weight: float64 [k, H];
    added: zeros [users, 3 H]. The events are added up first, in their order, and then to what
    there was: replay depends on that.
    """
    halves = weight.shape[1]
    for i in range(len(which)):
        user: Any = which[i]
        for h in range(halves):
            if placed[i]:
                added[user, 3 * h] += weight[i, h]
                added[user, 3 * h + 1] += weight[i, h] * (cents[i] / 100.0)
            added[user, 3 * h + 2] += weight[i, h]
    for u in range(len(users)):
        for h in range(halves):
            for j in range(3):
                kept = decayed[users[u], 3 * h + j] * faded[u, h]
                decayed[users[u], 3 * h + j] = kept + added[u, 3 * h + j]
