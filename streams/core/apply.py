"""Lets decoded events into the state: drops duplicates, sets late ones aside, counts the rest.

Everything here but the decayed sums is independent of the order in which events arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.events import CLICK_TYPES
from schemas.features import COUNT_MEASURES, GAP_ORDERS, MONEY_MEASURES
from streams.core.events.events import KIND_PLACED, Events
from streams.core.features import DAY_MS, HALF_LIVES_MS
from streams.core.state.columns import DECAYED
from streams.core.state.shard_state import ShardState
from streams.kernels.counting import (
    Batch,
    Cells,
    LastTimes,
    Pairs,
    Seen,
    Touched,
    Weighted,
    add_decayed,
    event_cells,
    newest,
    pair_cells,
    pair_keys,
    remember,
)

__all__ = ["Applied", "admit", "apply", "forget", "forget_some"]

PAIR_TILE_MS: Final = 300_000  # the finest tile: from it every window's tile follows
_MONEY: Final = {name: i for i, name in enumerate(MONEY_MEASURES)}
# An event's kind is its count measure: clicks come first in both, then the three kinds of orders.
assert COUNT_MEASURES[: KIND_PLACED + 3] == (*CLICK_TYPES, "orders", "cancellations", "returns")  # noqa: S101
_MONEY_OF_KIND: Final = np.array(
    [0] * KIND_PLACED + [_MONEY["revenue_cents"], _MONEY["refund_cents"], _MONEY["refund_cents"]]
)
_NOT_YET: Final = np.iinfo(np.int64).max  # later than any time, for a running minimum
_FORGET_PER_STEP: Final = 1 << 16  # entries looked at: about a millisecond
_TIDIED_PER_STEP: Final = 8  # blocks of parked users: a millisecond again
_FORGET_AT = 1 << 16  # entries a map must have before it is worth looking for expired ones


@dataclass(frozen=True)
class Applied:
    """What `admit` decided, by position in the events: fresh int64 [k], late int64 [l]."""

    fresh: NDArray[np.int64]
    """Those that count: in time, and not seen before."""
    late: NDArray[np.int64]
    duplicates: int


def admit(
    state: ShardState,
    events: Events,
    lateness_ms: int,
    excluded: NDArray[np.bool_] | None = None,
) -> Applied:
    """Which events count: not older than the watermark less `lateness_ms`, and not seen before.
    Those `excluded` (bool [n]; None: none are) are neither fresh nor late nor remembered.

    Lateness is measured from the watermark before this batch, so it does not depend on the order
    within the batch. Ids are remembered as long as an event may still arrive.
    """
    limit = state.meta.watermark_ms - lateness_ms
    on_time = events.ts_ms >= limit
    late = ~on_time
    if excluded is not None:
        on_time, late = on_time & ~excluded, late & ~excluded
    candidates = np.flatnonzero(on_time)
    days = (events.ts_ms[candidates] // DAY_MS).astype(np.int32)
    _, is_new = state.seen_ids.find_or_add(events.id_hash[candidates], days)
    return Applied(
        fresh=candidates[is_new],
        late=np.flatnonzero(late),
        duplicates=int(len(candidates) - is_new.sum()),
    )


def apply(state: ShardState, events: Events, fresh: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the `fresh` events (positions, int64 [k]); returns each one's row, int64 [k].

    The windows' clock must have been advanced to the step's clock before.
    """
    if not len(fresh):
        return fresh
    users = events.users
    if len(fresh) != len(users):
        users = users[fresh]
    rows = state.rows_of(users)
    kind = events.kind[fresh]
    ts_ms = events.ts_ms[fresh]
    batch = Batch(rows, kind, ts_ms)
    _count(state, events, fresh, batch)
    c = state.columns
    remember(LastTimes(c.last_seen_ms, c.last_activity_ms, c.first_seen_ms), batch)
    placed = kind == KIND_PLACED
    cents = events.amount_cents[fresh]
    ordered = np.flatnonzero(placed)
    if len(ordered):
        _orders(state, rows[ordered], ts_ms[ordered], cents[ordered])
    _decay(state, rows, ts_ms, placed, cents)
    state.meta.watermark_ms = max(state.meta.watermark_ms, int(ts_ms.max()))
    return rows


def _count(state: ShardState, events: Events, fresh: NDArray[np.int64], batch: Batch) -> None:
    """Counts and money into the windows; distinct items, categories and sessions exactly.

    A window reaches to the present, so it covers a (user, item) pair iff it covers the pair's
    newest tile. When a pair is seen in a newer tile its one moves there; an older sighting
    changes nothing.
    """
    rows, kind, ts_ms = batch
    at = np.flatnonzero(kind >= KIND_PLACED)
    if len(at):
        cents, discount = events.amount_cents[fresh[at]], events.discount_cents[fresh[at]]
        state.money.add(rows[at], _MONEY_OF_KIND[kind[at]], cents, ts_ms[at])
        off = np.flatnonzero((kind[at] == KIND_PLACED) & (discount > 0))
        measure = np.full(len(off), _MONEY["discount_cents"], np.int64)
        state.money.add(rows[at[off]], measure, discount[off], ts_ms[at[off]])
    pairs = _pairs(events, fresh, rows)
    tile = (ts_ms // PAIR_TILE_MS).astype(np.int32)[pairs.owner]
    seen = Seen(tile, *state.pairs.see(pairs.keys, tile))
    room = 4 * len(rows) + 2 * len(pairs.keys)
    cells = Cells(
        np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty(room, np.int32), np.empty(room, np.int64),
    )  # fmt: skip
    n = event_cells(
        batch, events.rating_tenths[fresh], events.order_lines[fresh], events.coupon[fresh], cells
    )
    n = pair_cells(rows, pairs, seen, PAIR_TILE_MS, cells, n)
    state.counts.add(cells.rows[:n], cells.measures[:n], cells.deltas[:n], cells.ts_ms[:n])


def _pairs(events: Events, fresh: NDArray[np.int64], rows: NDArray[np.int64]) -> Pairs:
    """The pairs that the fresh events contain."""
    place = np.full(len(events), -1, np.int64)
    place[fresh] = np.arange(len(fresh))
    lines = events.lines
    room = 2 * len(lines.event) + len(rows)
    pairs = Pairs(np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(3, np.int64))
    session = events.session[fresh]
    pair_keys(rows, Touched(place, lines.event, lines.item, lines.category, session), pairs)
    used = pairs.ends[2]
    return Pairs(pairs.keys[:used], pairs.owner[:used], pairs.ends)


def _orders(
    state: ShardState,
    rows: NDArray[np.int64],
    ts_ms: NDArray[np.int64],
    cents: NDArray[np.int64],
) -> None:
    """Lifetime totals, the newest order times, and the answers to open questions."""
    c = state.columns
    # exactly [asked, asked + H): a sweep runs before the records of its own time, so an order of
    # that very time (date-only orders, midnight sweeps) was not known when the question was asked
    asked_ms = c.asked_ms[rows]
    open_ = (asked_ms > 0) & (ts_ms >= asked_ms) & (ts_ms < c.due_ms[rows])
    np.add.at(c.question_orders, rows[open_], np.int32(1))
    np.add.at(c.question_cents, rows[open_], cents[open_])

    np.add.at(c.orders, rows, np.int32(1))
    np.add.at(c.revenue_cents, rows, cents)
    never = c.first_order_ms[rows] == 0
    c.first_order_ms[rows[never]] = _NOT_YET
    np.minimum.at(c.first_order_ms, rows, ts_ms)

    order = np.lexsort((-ts_ms, rows))  # by user, newest first
    rows, ts_ms = rows[order], ts_ms[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    users = rows[starts]
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    batch = np.zeros((len(users), GAP_ORDERS), np.int64)
    of_user = np.repeat(np.arange(len(users)), np.diff(np.r_[starts, len(rows)]))
    newest = rank < GAP_ORDERS
    batch[of_user[newest], rank[newest]] = ts_ms[newest]
    both = np.concatenate([c.recent_orders_ms[users], batch], axis=1)
    both.sort(axis=1)
    c.recent_orders_ms[users] = both[:, ::-1][:, :GAP_ORDERS]


def _decay(
    state: ShardState,
    rows: NDArray[np.int64],
    ts_ms: NDArray[np.int64],
    placed: NDArray[np.bool_],
    cents: NDArray[np.int64],
) -> None:
    """Exponentially decayed sums: bring each to its newest event's time, then add the batch."""
    c = state.columns
    users, which = state.grouped(rows)
    before = c.decayed_at_ms[users]
    at = before.copy()
    newest(at, which, ts_ms)
    # numpy's own powers: others round differently
    faded = np.exp2(-(at - before)[:, None] / HALF_LIVES_MS[::3])
    weight = np.exp2(-(at[which] - ts_ms)[:, None] / HALF_LIVES_MS[::3])
    added = np.zeros((len(users), DECAYED))
    add_decayed(c.decayed, users, faded, Weighted(which, weight, placed, cents), added)
    c.decayed_at_ms[users] = at


def forget(state: ShardState, lateness_ms: int) -> None:
    """Begin to drop ids that can't come back and pairs that no window covers. Once per sweep."""
    oldest_day = (state.meta.watermark_ms - lateness_ms) // DAY_MS
    oldest_tile = (state.meta.clock_ms - 91 * DAY_MS) // PAIR_TILE_MS
    for table, oldest in ((state.seen_ids, oldest_day), (state.pairs, oldest_tile)):
        if len(table) >= _FORGET_AT:
            old = np.count_nonzero(table.values < oldest)
            if 4 * old > len(table):  # it must be worth the work
                table.begin_drop(oldest)
    state.parked.forget()


def forget_some(state: ShardState) -> None:
    """Go on with what `forget` began, a part with every step, so that none waits for it long."""
    state.seen_ids.drop_some(_FORGET_PER_STEP)
    state.pairs.drop_some(_FORGET_PER_STEP)
    state.parked.forget_some(_FORGET_PER_STEP)
    state.parked.tidy(_TIDIED_PER_STEP)
