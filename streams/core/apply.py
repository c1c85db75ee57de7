"""Lets decoded events into the state: drops duplicates, sets late ones aside, counts the rest.

What is counted is independent of the order in which events arrive, to the bit but for the decayed
sums. `streams.core.orders` says where orders are an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import MAX_CONTACT_DAYS
from schemas.events import CLICK_TYPES
from schemas.features import COUNT_MEASURES, MONEY_MEASURES
from streams.core.events.events import KIND_PLACED, Events
from streams.core.features import DAY_MS, HALF_LIVES_MS
from streams.core.orders import History, apply_orders
from streams.core.state.columns import DECAYED
from streams.core.state.exposures import NEVER
from streams.core.state.known_orders import oldest_known_day
from streams.core.state.shard_state import ShardState
from streams.kernels.counting import (
    Batch,
    Cells,
    LastTimes,
    Pairs,
    Seen,
    Touched,
    Weighted,
    WeightedOrders,
    add_decayed,
    event_cells,
    newest,
    pair_cells,
    pair_keys,
    remember,
)
from streams.kernels.orders import Changes, order_cells

__all__ = [
    "Applied",
    "Counted",
    "admit",
    "apply",
    "forget",
    "forget_some",
    "set_back_watermark",
]

PAIR_TILE_MS: Final = 300_000  # the finest tile: from it every window's tile follows
_MONEY: Final = {name: i for i, name in enumerate(MONEY_MEASURES)}
# An event's kind is its count measure: clicks come first in both, then the three kinds of orders.
assert COUNT_MEASURES[: KIND_PLACED + 3] == (*CLICK_TYPES, "orders", "cancellations", "returns")  # noqa: S101
_NOTHING_LEFT: Final = 1e-9  # of a decayed sum that something was taken from: rounding
_FORGET_PER_STEP: Final = 1 << 16  # entries looked at: about a millisecond
_TIDIED_PER_STEP: Final = 8  # blocks of parked users: a millisecond again
_FORGET_AT = 1 << 16  # entries a map must have before it is worth looking for expired ones


@dataclass(frozen=True)
class Applied:
    """What `admit` decided: fresh and late, int64 [k] and [l], are positions in the events.
    `oldest_known_day`: orders whose newest event was before this day (since 1970) are forgotten."""

    fresh: NDArray[np.int64]
    late: NDArray[np.int64]
    duplicates: int
    oldest_known_day: int


@dataclass(frozen=True)
class Counted:
    """What `apply` counted: rows, int64 [k], of the events that say something new; and which do
    not, being repeats of an order that is known, under another event id: `repeated`, int64 [r], of
    the fresh ones."""

    rows: NDArray[np.int64]
    repeated: NDArray[np.int64]
    unknown: int = 0
    """Contacts with people who have no row: they count, and have no score."""

    @property
    def events(self) -> int:
        """How many say something new."""
        return len(self.rows) + self.unknown

    @property
    def repeats(self) -> int:
        """How many say nothing new."""
        return len(self.repeated)


def set_back_watermark(state: ShardState, clock_ms: int, max_future_ms: int) -> int:
    """Heal a watermark that no plausible event can have moved; returns by how much, 0 usually.

    No event is accepted further ahead of the worker's clock `clock_ms` than `max_future_ms`, so a
    watermark beyond that comes from a clock that was wrong, or from a build that trusted the
    producers'. Left there, all that comes would be late until time has caught up. Events that were
    late meanwhile are dead letters: replayed, they count. clock_ms 0: time comes from the events,
    and nothing can be compared.
    """
    if not clock_ms:
        return 0
    plausible_ms = clock_ms + max_future_ms
    lead_ms = max(0, state.meta.watermark_ms - plausible_ms)
    state.meta.watermark_ms -= lead_ms
    return lead_ms


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
        oldest_known_day=_oldest_known_day(state, lateness_ms),
    )


def apply(
    state: ShardState, events: Events, admitted: Applied, history: History = "none"
) -> Counted:
    """Count the events that were admitted.

    The windows' clock must have been advanced to the step's clock before. `history`: what the
    events are of.
    """
    fresh = admitted.fresh
    if not len(fresh):
        return Counted(fresh, fresh)
    users = events.users
    if len(fresh) != len(users):
        users = users[fresh]
    rows = state.rows_of(users)
    changes, repeats = apply_orders(state, events, fresh, rows, admitted.oldest_known_day, history)
    if len(repeats):
        fresh, rows = np.delete(fresh, repeats), np.delete(rows, repeats)
    kind = events.kind[fresh]
    ts_ms = events.ts_ms[fresh]
    batch = Batch(rows, kind, ts_ms)
    _count(state, events, fresh, batch, changes)
    if state.tails is not None:
        state.tails.remember(state.rows_by_user.hashes[rows], events, fresh)
    c = state.columns
    remember(LastTimes(c.last_seen_ms, c.last_activity_ms, c.first_seen_ms), batch)
    _decay(state, batch, changes)
    state.meta.watermark_ms = max(state.meta.watermark_ms, int(ts_ms.max(initial=0)))
    state.meta.active_ms = state.meta.clock_ms
    return Counted(rows, repeats)


def _oldest_known_day(state: ShardState, lateness_ms: int) -> int:
    meta = state.meta
    return oldest_known_day(meta.clock_ms, meta.active_ms, meta.watermark_ms, lateness_ms)


def _count(
    state: ShardState,
    events: Events,
    fresh: NDArray[np.int64],
    batch: Batch,
    changes: Changes,
) -> None:
    """Counts and money into the windows; distinct items, categories and sessions exactly.

    A window reaches to the present, so it covers a (user, item) pair iff it covers the pair's
    newest tile. When a pair is seen in a newer tile its one moves there; an older sighting
    changes nothing.
    """
    rows, kind, ts_ms = batch
    for name, cents in (
        ("revenue_cents", changes.cents), ("discount_cents", changes.discount_cents),
    ):  # fmt: skip
        at = np.flatnonzero(cents)
        measure = np.full(len(at), _MONEY[name], np.int64)
        state.money.add(changes.rows[at], measure, cents[at], changes.ts_ms[at])
    at = np.flatnonzero(kind > KIND_PLACED)
    measure = np.full(len(at), _MONEY["refund_cents"], np.int64)
    state.money.add(rows[at], measure, events.amount_cents[fresh[at]], ts_ms[at])
    pairs = _pairs(events, fresh, state.columns.pair_owner[rows].astype(np.int64))
    tile = (ts_ms // PAIR_TILE_MS).astype(np.int32)[pairs.owner]
    seen = Seen(tile, *state.pairs.see(pairs.keys, tile))
    room = 3 * (len(rows) + len(changes.rows)) + 2 * len(pairs.keys)
    cells = Cells(
        np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty(room, np.int32), np.empty(room, np.int64),
    )  # fmt: skip
    n = event_cells(batch, events.rating_tenths[fresh], cells)
    if len(changes.rows):
        n = order_cells(changes, cells, n)
    n = pair_cells(rows, pairs, seen, PAIR_TILE_MS, cells, n)
    state.counts.add(cells.rows[:n], cells.measures[:n], cells.deltas[:n], cells.ts_ms[:n])


def _pairs(events: Events, fresh: NDArray[np.int64], owners: NDArray[np.int64]) -> Pairs:
    """The pairs that the fresh events contain; owners: int64 [k], the users' `pair_owner`."""
    place = np.full(len(events), -1, np.int64)
    place[fresh] = np.arange(len(fresh))
    lines = events.lines
    room = 2 * len(lines.event) + len(owners)
    pairs = Pairs(np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(3, np.int64))
    session = events.session[fresh]
    pair_keys(owners, Touched(place, lines.event, lines.item, lines.category, session), pairs)
    used = pairs.ends[2]
    return Pairs(pairs.keys[:used], pairs.owner[:used], pairs.ends)


def _decay(state: ShardState, batch: Batch, changes: Changes) -> None:
    """Exponentially decayed sums: bring each to its newest event's time, then add the batch."""
    rows, kind, ts_ms = batch
    c = state.columns
    k = len(rows)
    both = np.concatenate([rows, changes.rows]) if len(changes.rows) else rows
    users, which = state.grouped(both)
    before = c.decayed_at_ms[users]
    at = before.copy()
    newest(at, which[:k], ts_ms)
    # numpy's own powers: others round differently
    faded = np.exp2(-(at - before)[:, None] / HALF_LIVES_MS[::3])
    weight = np.exp2(-(at[which[:k]] - ts_ms)[:, None] / HALF_LIVES_MS[::3])
    order_weight = np.exp2(-(at[which[k:]] - changes.ts_ms)[:, None] / HALF_LIVES_MS[::3])
    added = np.zeros((len(users), DECAYED))
    add_decayed(
        c.decayed, users, faded, Weighted(which[:k], weight),
        WeightedOrders(which[k:], order_weight, changes.orders, changes.cents), added,
    )  # fmt: skip
    c.decayed_at_ms[users] = at
    less = changes.rows[(changes.orders < 0) | (changes.cents < 0)]
    if len(less) or (kind > KIND_PLACED).any():
        _without_rounding(state, np.unique(np.concatenate([less, rows[kind > KIND_PLACED]])))


def _without_rounding(state: ShardState, rows: NDArray[np.int64]) -> None:
    """What is left of decayed sums when all was taken that had been added is 0, not about 0."""
    c = state.columns
    sums = c.decayed[rows].reshape(len(rows), -1, 3)
    orders, revenue = sums[:, :, 0], sums[:, :, 1]
    orders[(orders < _NOTHING_LEFT) | (c.orders[rows] == 0)[:, None]] = 0.0
    revenue[(revenue < _NOTHING_LEFT) | (c.revenue_cents[rows] == 0)[:, None]] = 0.0
    c.decayed[rows] = sums.reshape(len(rows), -1)


def forget(state: ShardState, lateness_ms: int) -> None:
    """Begin to drop ids that can't come back, pairs that no window covers, orders that are
    forgotten, and waits and exposures that are over. Once per sweep."""
    oldest_day = (state.meta.watermark_ms - lateness_ms) // DAY_MS
    oldest_tile = (state.meta.clock_ms - 91 * DAY_MS) // PAIR_TILE_MS
    for table, oldest in (
        (state.seen_ids, oldest_day),
        (state.pairs, oldest_tile),
        (state.known_orders, _oldest_known_day(state, lateness_ms)),
        (state.contacts, state.meta.clock_ms // DAY_MS - MAX_CONTACT_DAYS - 1),
        (state.holds, NEVER + 1),  # those that are done
        (state.exposures, NEVER + 1),
    ):
        if len(table) >= _FORGET_AT:
            old = np.count_nonzero(table.values < oldest)
            if 4 * old > len(table):  # it must be worth the work
                table.begin_drop(oldest)
    state.parked.forget()


def forget_some(state: ShardState) -> None:
    """Go on with what `forget` began, a part with every step, so that none waits for it long."""
    state.seen_ids.drop_some(_FORGET_PER_STEP)
    state.pairs.drop_some(_FORGET_PER_STEP)
    state.known_orders.drop_some(_FORGET_PER_STEP)
    state.contacts.drop_some(_FORGET_PER_STEP)
    state.holds.drop_some(_FORGET_PER_STEP)
    state.exposures.drop_some(_FORGET_PER_STEP)
    state.parked.forget_some(_FORGET_PER_STEP)
    state.parked.tidy(_TIDIED_PER_STEP)
