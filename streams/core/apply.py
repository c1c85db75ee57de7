"""Lets decoded events into the state: drops duplicates, sets late ones aside, counts the rest.

Everything here but the decayed sums is independent of the order in which events arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.events import CLICK_TYPES
from schemas.features import COUNT_MEASURES, GAP_ORDERS, MONEY_MEASURES
from streams.core.events import KIND_PLACED, Events
from streams.core.features import DAY_MS, HALF_LIVES_MS
from streams.core.hashing import mix
from streams.core.state import DECAYED, ShardState

__all__ = ["Applied", "admit", "apply", "forget", "forget_some"]

PAIR_TILE_MS: Final = 300_000  # the finest tile: from it every window's tile follows
_CANCELLED, _RETURNED = KIND_PLACED + 1, KIND_PLACED + 2
_COUNT: Final = {name: i for i, name in enumerate(COUNT_MEASURES)}
_MONEY: Final = {name: i for i, name in enumerate(MONEY_MEASURES)}
# event kind -> its count measure: clicks come first in both, then orders, cancellations, returns
_KIND_MEASURE: Final = np.arange(len(CLICK_TYPES) + 3)
_MONEY_OF_KIND: Final = np.array(
    [0] * KIND_PLACED + [_MONEY["revenue_cents"], _MONEY["refund_cents"], _MONEY["refund_cents"]]
)
_ITEM, _CATEGORY, _SESSION = (np.uint64(s) for s in (1, 2, 3))
_NOT_YET: Final = np.iinfo(np.int64).max  # later than any time, for a running minimum
_FORGET_PER_STEP: Final = 1 << 16  # entries looked at: about a millisecond
_FORGET_AT = 1 << 16  # entries a map must have before it is worth looking for expired ones


@dataclass(frozen=True)
class Applied:
    """What `admit` decided, by position in the events: fresh bool [n], late int64 [l]."""

    fresh: NDArray[np.int64]
    late: NDArray[np.int64]
    duplicates: int


def admit(
    state: ShardState,
    events: Events,
    lateness_ms: int,
    shut_out: NDArray[np.bool_] | None = None,
) -> Applied:
    """Which events count: not older than the watermark less `lateness_ms`, and not seen before.
    Those `shut_out` (bool [n]; None: none are) are neither fresh nor late nor remembered.

    Lateness is measured from the watermark before this batch, so it does not depend on the order
    within the batch. Ids are remembered as long as an event may still arrive.
    """
    limit = state.meta.watermark_ms - lateness_ms
    on_time = events.ts_ms >= limit
    late = ~on_time
    if shut_out is not None:
        on_time, late = on_time & ~shut_out, late & ~shut_out
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
    kind = events.kind[fresh].astype(np.int64)
    ts_ms = events.ts_ms[fresh]
    _count(state, events, fresh, rows, kind, ts_ms)
    _distinct(state, events, fresh, rows, ts_ms)
    _remember_times(state, rows, kind, ts_ms)
    placed = np.flatnonzero(kind == KIND_PLACED)
    cents = events.amount_cents[fresh]
    if len(placed):
        _orders(state, rows[placed], ts_ms[placed], cents[placed])
    _decay(state, rows, ts_ms, kind == KIND_PLACED, cents)
    state.meta.watermark_ms = max(state.meta.watermark_ms, int(ts_ms.max()))
    return rows


def _count(
    state: ShardState,
    events: Events,
    fresh: NDArray[np.int64],
    rows: NDArray[np.int64],
    kind: NDArray[np.int64],
    ts_ms: NDArray[np.int64],
) -> None:
    """Counts and money into the windows, as cells (row, measure, delta, time)."""
    one = np.ones(len(rows), np.int32)
    cells = [(rows, _KIND_MEASURE[kind], one, ts_ms)]
    extra: list[tuple[NDArray[Any], int]] = [
        (events.rating_tenths[fresh], _COUNT["rating_tenths"]),
        ((events.rating_tenths[fresh] > 0).astype(np.int32), _COUNT["ratings"]),
    ]
    is_order = kind >= KIND_PLACED
    if is_order.any():
        placed = kind == KIND_PLACED
        lines = np.where(placed, events.order_lines[fresh], 0).astype(np.int32)
        coupons = (events.coupon[fresh] & placed).astype(np.int32)
        extra += [(lines, _COUNT["order_lines"]), (coupons, _COUNT["coupon_orders"])]
        at = np.flatnonzero(is_order)
        cents, discount = events.amount_cents[fresh], events.discount_cents[fresh]
        state.money.add(rows[at], _MONEY_OF_KIND[kind[at]], cents[at], ts_ms[at])
        off = np.flatnonzero(placed & (discount > 0))
        measure = np.full(len(off), _MONEY["discount_cents"], np.int64)
        state.money.add(rows[off], measure, discount[off], ts_ms[off])
    for values, measure_index in extra:
        at = np.flatnonzero(values)
        if len(at):
            measure = np.full(len(at), measure_index, np.int64)
            cells.append((rows[at], measure, values[at], ts_ms[at]))
    state.counts.add(*(np.concatenate(parts) for parts in zip(*cells, strict=True)))


def _distinct(
    state: ShardState,
    events: Events,
    fresh: NDArray[np.int64],
    rows: NDArray[np.int64],
    ts_ms: NDArray[np.int64],
) -> None:
    """Distinct items, categories and sessions per window, exactly.

    A window reaches to the present, so it covers a (user, item) pair iff it covers the pair's
    newest tile. When a pair is seen in a newer tile its one moves there; an older sighting
    changes nothing.
    """
    # event position -> index among the fresh ones, or -1
    index = np.full(len(events), -1, np.int64)
    index[fresh] = np.arange(len(fresh))
    line_event = index[events.lines.event]
    live = line_event >= 0
    line_event = line_event[live]
    sessions = np.flatnonzero(events.session[fresh])
    parts = (
        (events.lines.item[live], line_event, _ITEM, _COUNT["distinct_items"]),
        (events.lines.category[live], line_event, _CATEGORY, _COUNT["distinct_categories"]),
        (events.session[fresh][sessions], sessions, _SESSION, _COUNT["sessions"]),
    )
    keys, owners, measures = [], [], []
    # By row, not by name: who comes back after an erasure has another row and starts from zero,
    # and nobody can ask what is left here about a name.
    user_key = rows.astype(np.uint64) << np.uint64(2)
    for hashed, event, salt, measure in parts:
        known = hashed != 0
        owner = event[known]
        keys.append(mix(user_key[owner] ^ salt, hashed[known]))
        owners.append(owner)
        measures.append(np.full(len(owner), measure, np.int64))
    key, owner, measure_of = map(np.concatenate, (keys, owners, measures))
    if not len(key):
        return
    tile = (ts_ms[owner] // PAIR_TILE_MS).astype(np.int32)
    before, is_new = state.pairs.see(key, tile)
    moved = ~is_new & (tile > before)
    counted = is_new | moved
    row = rows[owner]
    one = np.ones(len(row), np.int32)
    state.counts.add(
        np.concatenate([row[counted], row[moved]]),
        np.concatenate([measure_of[counted], measure_of[moved]]),
        np.concatenate([one[counted], -one[moved]]),
        np.concatenate([tile[counted], before[moved]]).astype(np.int64) * PAIR_TILE_MS,
    )


def _remember_times(
    state: ShardState, rows: NDArray[np.int64], kind: NDArray[np.int64], ts_ms: NDArray[np.int64]
) -> None:
    c = state.columns
    last = c.last_seen_ms.reshape(-1)
    np.maximum.at(last, rows * c.last_seen_ms.shape[1] + kind, ts_ms)
    np.maximum.at(c.last_activity_ms, rows, ts_ms)
    never = c.first_seen_ms[rows] == 0
    c.first_seen_ms[rows[never]] = _NOT_YET
    np.minimum.at(c.first_seen_ms, rows, ts_ms)


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
    asked = c.asked_ms[rows]
    open_ = (asked > 0) & (ts_ms >= asked) & (ts_ms < c.due_ms[rows])
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
    users, which = np.unique(rows, return_inverse=True)
    at = c.decayed_at_ms[users].copy()
    np.maximum.at(at, which, ts_ms)
    age = (at - c.decayed_at_ms[users])[:, None]
    sums = c.decayed[users] * np.exp2(-age / HALF_LIVES_MS)
    # per half-life: orders, revenue, activity
    weight = np.exp2(-(at[which] - ts_ms)[:, None] / HALF_LIVES_MS[::3])
    amounts = (placed.astype(np.float64), np.where(placed, cents / 100.0, 0.0), None)
    for h in range(DECAYED // 3):
        for j, amount in enumerate(amounts):
            values = weight[:, h] if amount is None else weight[:, h] * amount
            sums[:, 3 * h + j] += np.bincount(which, values, len(users))
    c.decayed[users] = sums
    c.decayed_at_ms[users] = at


def forget(state: ShardState, lateness_ms: int) -> None:
    """Begin to drop ids that can't come back and pairs that no window covers. Once per sweep."""
    oldest_day = (state.meta.watermark_ms - lateness_ms) // DAY_MS
    oldest_tile = (state.meta.clock_ms - 91 * DAY_MS) // PAIR_TILE_MS
    for table, oldest in ((state.seen_ids, oldest_day), (state.pairs, oldest_tile)):
        if len(table) >= _FORGET_AT:
            old = int((table.values < oldest).sum())
            if 4 * old > len(table):  # it must be worth the work
                table.begin_drop(oldest)


def forget_some(state: ShardState) -> None:
    """Go on with what `forget` began, a part with every step, so that none waits for it long."""
    state.seen_ids.drop_some(_FORGET_PER_STEP)
    state.pairs.drop_some(_FORGET_PER_STEP)
