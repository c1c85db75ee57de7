"""Counts a history into a state: events of any age, in the state as it is between two steps.

A history is counted by the code that counts live events, but nothing in it is late, it moves no
watermark, and nobody is scored or alerted: `end` lets a sweep begin, and that scores everybody.

What the topics have as well counts once:

- an order is known by (user, order id) as long as the longest window reaches, or for as long as the
  topics reach back if nothing was read of them yet; a click by its event id as long as it might
  still be late; what this history itself has placed is known until its end;
- older events are taken to be counted if they are not older than their customer's first order (a
  click: than the first that was seen of the customer) before the backfill: they are `covered`;
- returns that a shop's export reports are an account beside the topics', matched with those that
  came before the history's newest event (`streams.kernels.orders`): the two have no id in common.

So a history that is counted twice counts once. The order of its events matters as little as it does
for live ones; a caller gives them by time, so that a return finds its order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.core import orders
from streams.core.apply import Applied, apply
from streams.core.config import CoreConfig
from streams.core.erasure import exclude_erased_events
from streams.core.events.decode import decode
from streams.core.events.events import KIND_PLACED, Events, Lines
from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.core.hashing import mix
from streams.core.state.known_orders import LONGEST_WINDOW_DAYS, oldest_known_day
from streams.core.state.shard_state import History, ShardState
from streams.core.sweep import restart_sweep

__all__ = ["FIRST_OFFSET", "Backfill"]

FIRST_OFFSET: Final = 1 << 62
"""Offsets of a history's records, so that none seems to have been in a topic."""
_RETURNED: Final = KIND_PLACED + 2
_PAIRS_DAYS: Final = LONGEST_WINDOW_DAYS + 1
_PAIR_TILE_MS: Final = 300_000
_NO_LINES: Final = Lines(
    np.empty(0, np.int32), np.empty(0, np.uint64), np.empty(0, np.uint64)
)  # fmt: skip
_EVER: Final = np.iinfo(np.int32).min


class Backfill:
    """One history on its way into one state, which changes in place.

    Args:
        state: at rest, with every person erased who is to be.
        config: the application's rules.
        name: the history's `History.name`.
        newest_ms: time of the whole history's newest event, not only this shard's.
        topics_from_ms: time of the oldest record in the shard's input topics; None: they are empty.
        wall_ms: the present; events may be ahead of it as far as live ones may.
    """

    def __init__(
        self,
        state: ShardState,
        config: CoreConfig,
        name: str,
        *,
        newest_ms: int,
        topics_from_ms: int | None,
        wall_ms: int,
    ) -> None:
        meta = state.meta
        self._state, self._config, self._name, self._wall_ms = state, config, name, wall_ms
        meta.clock_ms = max(meta.clock_ms, newest_ms)
        meta.reports_until_ms = max(meta.reports_until_ms, newest_ms)
        state.counts.advance(meta.clock_ms)
        state.money.advance(meta.clock_ms)
        unread_ms = meta.clock_ms if topics_from_ms is None else topics_from_ms
        reached_ms = meta.watermark_ms or unread_ms
        self._oldest_id_day = (reached_ms - config.lateness_ms) // DAY_MS
        self._oldest_order_day = oldest_known_day(
            meta.clock_ms, meta.clock_ms, reached_ms, config.lateness_ms
        )
        # Before the backfill, of the users that it has named so far; int64 [rows], -1: not named.
        self._first_order_ms = np.empty(0, np.int64)
        self._first_seen_ms = np.empty(0, np.int64)
        self._sums: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def add(self, records: Records, source: int, *, export: bool) -> None:
        """Count records of `source`, whose offsets are from FIRST_OFFSET on; all that have the same
        time in one call, of two versions of an order the newer one last. `export`: they are of a
        shop's export, not events as producers send them."""
        state = self._state
        events = decode(records, source, self._config.decode, self._wall_ms)
        self._dead.update(reject.reason for reject in events.rejects)
        excluded = exclude_erased_events(state, events, records, source)
        chosen = np.arange(len(events))
        if excluded is not None:
            chosen = np.flatnonzero(~excluded)
            self._sums["erased"] += len(events) - len(chosen)
        if not len(chosen):
            return
        fresh = self._not_counted_yet(events, chosen)
        begin_ms = (state.meta.clock_ms // DAY_MS - _PAIRS_DAYS) * DAY_MS
        old = events.ts_ms[fresh] < begin_ms
        for part, in_windows in ((fresh[old], False), (fresh[~old], True)):
            if len(part):
                self._count(events.at(part), in_windows, "export" if export else "events")

    def end(self) -> History:
        """Forget what nothing needs any more, park who has long been silent, and let a sweep begin.
        Returns what the state says of the history from now on."""
        state = self._state
        meta = state.meta
        state.known_orders.drop_before(self._oldest_order_day)
        state.seen_ids.drop_before(self._oldest_id_day)
        state.pairs.drop_before((meta.clock_ms - _PAIRS_DAYS * DAY_MS) // _PAIR_TILE_MS)
        for sums in (state.counts, state.money):
            sums.seal_past()
        first_ms = state.columns.first_order_ms[: state.n]
        first_ms = first_ms[first_ms > 0]
        if len(first_ms):
            first = int(first_ms.min())
            meta.first_order_ms = min(first, meta.first_order_ms or first)
        restart_sweep(state, self._config)
        done = History(self._name, **self._sums, dead=dict(self._dead), users=state.known)
        meta.histories = [*meta.histories, done]
        return done

    def _not_counted_yet(self, events: Events, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the chosen events (positions, int64 [k]) that were not counted before, for all
        that their time and their customer say; of orders the rest is told by their ids."""
        kind, ts_ms = events.kind[chosen], events.ts_ms[chosen]
        rows = self._named(events, chosen)
        is_order = kind >= KIND_PLACED
        first_ms = np.where(is_order, self._first_order_ms[rows], self._first_seen_ms[rows])
        days = ts_ms // DAY_MS
        by_id = days >= np.where(is_order, self._oldest_order_day, self._oldest_id_day)
        covered = ~by_id & (first_ms > 0) & (ts_ms >= first_ms)
        # What is said of an order that is known all the same goes with it.
        doubtful = np.flatnonzero(is_order & covered)
        if len(doubtful):
            keys = mix(events.users.hashed[chosen], events.order[chosen])
            placed_now = keys[(kind == KIND_PLACED) & ~covered]
            known = self._state.known_orders.find(keys[doubtful]) >= 0
            covered[doubtful] = ~(known | np.isin(keys[doubtful], placed_now))
            by_id[doubtful] = ~covered[doubtful]
        # Clicks and returns have no identity but their event's. Two files have the same event at
        # the same time, so in one call; a refund that grew in between counts as the larger one.
        repeated = np.zeros(len(chosen), np.bool_)
        with_id = np.flatnonzero(~is_order | (kind == _RETURNED))
        with_id = with_id[np.argsort(-events.amount_cents[chosen[with_id]], kind="stable")]
        _, first = np.unique(events.id_hash[chosen[with_id]], return_index=True)
        repeated[np.delete(with_id, first)] = True
        # That of a return is kept for as long as its order is: longer than it could be late.
        with_id = np.flatnonzero(by_id & ~repeated & (~is_order | (kind == _RETURNED)))
        kept_days = days[with_id] + np.where(is_order[with_id], LONGEST_WINDOW_DAYS, 0)
        _, is_new = self._state.seen_ids.find_or_add(
            events.id_hash[chosen[with_id]], kept_days.astype(np.int32)
        )
        repeated[with_id[~is_new]] = True
        repeated &= ~covered
        self._sums["covered"] += int(covered.sum())
        self._sums["repeats"] += int(repeated.sum())
        return chosen[~covered & ~repeated]

    def _named(self, events: Events, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each chosen event's user; what was known of these before is remembered."""
        state = self._state
        rows = state.rows_of(events.users[chosen])
        if state.n > len(self._first_order_ms):
            more = np.full(max(state.n, 2 * len(self._first_order_ms)), -1, np.int64)
            more[: len(self._first_order_ms)] = self._first_order_ms
            seen = np.zeros(len(more), np.int64)
            seen[: len(self._first_seen_ms)] = self._first_seen_ms
            self._first_order_ms, self._first_seen_ms = more, seen
        new = rows[self._first_order_ms[rows] < 0]
        self._first_order_ms[new] = state.columns.first_order_ms[new]
        self._first_seen_ms[new] = state.columns.first_seen_ms[new]
        return rows

    def _count(self, events: Events, in_windows: bool, of: orders.History) -> None:
        state, n = self._state, len(events)
        meta = state.meta
        if not in_windows:  # what they touched no window will ever ask for
            events = replace(events, lines=_NO_LINES, session=np.zeros(n, np.uint64))
        watermark_ms, active_ms = meta.watermark_ms, meta.active_ms
        every = Applied(np.arange(n), np.empty(0, np.int64), 0, _EVER)
        counted = apply(state, events, every, of)
        meta.watermark_ms, meta.active_ms = watermark_ms, active_ms
        self._tally(np.delete(events.kind, counted.repeated))
        self._sums["repeats"] += counted.repeats

    def _tally(self, kind: NDArray[np.int8]) -> None:
        kinds = np.bincount(kind, minlength=_RETURNED + 1)
        self._sums["counted"] += len(kind)
        self._sums["orders"] += int(kinds[KIND_PLACED])
        self._sums["returns"] += int(kinds[_RETURNED])
        self._sums["clicks"] += int(kinds[:KIND_PLACED].sum())
