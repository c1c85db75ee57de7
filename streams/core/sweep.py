"""The sweep: every user is scored by the clock, a slice with every step, parked users first.

Who has been silent for longer than any window, and than anything else looks back, is parked once
their slice is done (`streams.core.state.parked`). A sweep gives each of these a row again for a
step.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import WINDOWS
from streams.core.apply import forget
from streams.core.config import CoreConfig
from streams.core.features import DAY_MS
from streams.core.segments import cut_tiers
from streams.core.standing import end_rules_sweep
from streams.core.state.shard_state import ShardState

__all__ = ["end_slice", "next_sweep_ms", "restart_sweep", "take_slice"]

_PARKED_AT_ONCE: Final = 1 << 16
_LONGEST_WINDOW_MS: Final = max(w.length_seconds for w in WINDOWS) * 1000


def take_slice(state: ShardState, places: int) -> NDArray[np.int64]:
    """Move the sweep's cursor on by about so many places; the rows of who is there, int64 [k]."""
    meta = state.meta
    rows = np.empty(0, np.int64)
    if (left := min(places, meta.sweep_parked - meta.sweep_row)) > 0:
        rows, taken = state.unpark_oldest(left)
        meta.sweep_row += taken
        places -= taken
    if places > 0:
        first = meta.sweep_row - meta.sweep_parked
        turn = np.arange(first, min(first + places, state.n))
        rows = np.union1d(rows, turn[state.rows_by_user.named(turn)])
        meta.sweep_row += places
    state.will_change(rows)
    return rows


def end_slice(state: ShardState, rows: NDArray[np.int64], now_ms: int, config: CoreConfig) -> None:
    """Park those of the swept `rows` (int64 [k]) who have long been silent; at the end of a sweep,
    set the tier cuts and forget what expired."""
    meta = state.meta
    state.park(rows[_long_silent(state, rows, now_ms, config)])
    if meta.sweep_row >= state.sweep_places:
        meta.sweep_row, meta.sweep_parked = 0, state.parked.entries
        meta.sweep_started_ms = now_ms
        meta.next_sweep_ms = next_sweep_ms(now_ms, config.sweep_interval_ms)
        cut_tiers(state)
        end_rules_sweep(state)
        forget(state, config.lateness_ms)
        state.trim()  # not after each slice: the next one may need the room again


def restart_sweep(state: ShardState, config: CoreConfig) -> None:
    """Park all who have long been silent, and let a sweep of everybody begin. By a wall clock it
    takes a slice with every step until it is done, since an interval has passed since 1970."""
    meta = state.meta
    for first in range(0, state.n, _PARKED_AT_ONCE):
        turn = np.arange(first, min(first + _PARKED_AT_ONCE, state.n))
        rows = turn[state.rows_by_user.named(turn)]
        state.park(rows[_long_silent(state, rows, meta.clock_ms, config)])
    meta.sweep_row, meta.sweep_parked, meta.sweep_started_ms = 0, state.parked.entries, 0
    state.ranks.start_sweep()
    state.trim()


def next_sweep_ms(now_ms: int, interval_ms: int) -> int:
    """When a sweep is due after this time."""
    return (now_ms // interval_ms + 1) * interval_ms


def _long_silent(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, config: CoreConfig
) -> NDArray[np.bool_]:
    """Who has nothing in a window and no open question, and nothing to expect from silence before
    the sweep comes again: an alert closes when its customer isn't `active_within_ms` any more."""
    c = state.columns
    # a day more: the oldest tile of a window begins before it
    least_ms = max(_LONGEST_WINDOW_MS, config.lateness_ms, config.active_within_ms)
    silent = now_ms - c.last_activity_ms[rows] > least_ms + DAY_MS
    due_ms = c.rules_due_ms[rows]
    soon = (due_ms > 0) & (due_ms <= now_ms + 2 * config.sweep_interval_ms)
    free: NDArray[np.bool_] = silent & (c.asked_ms[rows] == 0) & ~soon
    return free
