"""Who is in which of the owners' segments: enters, leaves, waits, and when time alone changes that.

A user enters a segment once its `when` has been true for `hold`, and leaves it once `leave` is
true and `when` is not; without `leave`, as soon as `when` is not true. A condition that is unknown
is not true. A condition on elapsed time is looked at again when its time has come: each user has
the earliest of those times, and a step with `wake_rows` looks at those for whom it has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.core.features import DAY_MS
from streams.core.hashing import hashes, mix
from streams.core.state.exposures import NEVER
from streams.core.state.shard_state import ShardState
from streams.core.state.slots import SegmentSlot
from streams.rules import Outcome

__all__ = [
    "NO_TIME",
    "TIMER_MS",
    "Membership",
    "forget_waits",
    "is_member",
    "leave_ended",
    "note",
    "set_due",
    "update_membership",
    "wake",
]

TIMER_MS: Final = 1_000
"""Times are rounded up to the second, so that a shard looks for due users once a second at most."""
_EPOCH_S: Final = 1_577_836_800  # 2020: seconds since then fit into int32 until 2088
NO_TIME: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Membership:
    """What a step changed in one segment, of the k users that it looks at."""

    slot: SegmentSlot
    entered: NDArray[np.bool_]
    """bool [k]."""
    left: NDArray[np.bool_]


def update_membership(
    state: ShardState,
    rows: NDArray[np.int64],
    bit: int,
    when: Outcome,
    leave: Outcome | None,
    now_ms: int,
    hold_ms: int,
    due_ms: NDArray[np.int64],
) -> Membership:
    """Bring one segment of the users in `rows` (int64 [k], distinct) up to date. Lowers `due_ms`
    (int64 [k]) to when a wait for `hold_ms` is over."""
    slot = state.meta.segment_slots[bit]
    assert slot is not None  # noqa: S101  (a segment in force has a bit)
    member = is_member(state, rows, bit)
    enters, leaves = when.true & ~member, member & ~when.true
    if hold_ms:
        enters, entry_ms = _held(state, rows, slot, enters, now_ms, hold_ms)
        np.minimum(due_ms, entry_ms, out=due_ms)
    if leave is not None:
        leaves &= leave.true
    mask = np.uint64(1 << bit)
    state.columns.segments[rows[enters]] |= mask
    state.columns.segments[rows[leaves]] &= ~mask
    return Membership(slot, enters, leaves)


def is_member(state: ShardState, rows: NDArray[np.int64], bit: int) -> NDArray[np.bool_]:
    """Which of the users in `rows` (int64 [k]) are members of the segment with this bit."""
    member: NDArray[np.bool_] = (state.columns.segments[rows] & np.uint64(1 << bit)) != 0
    return member


def leave_ended(state: ShardState, rows: NDArray[np.int64]) -> list[Membership]:
    """Let the users in `rows` (int64 [k], distinct) leave segments that have ended."""
    changes = []
    for bit, slot in enumerate(state.meta.segment_slots):
        if slot is not None and slot.ended:
            member = is_member(state, rows, bit)
            state.columns.segments[rows[member]] &= ~np.uint64(1 << bit)
            changes.append(Membership(slot, np.zeros(len(rows), np.bool_), member))
    return changes


def note(due_ms: NDArray[np.int64], flips_in_days: NDArray[np.float64], now_ms: int) -> None:
    """Lower `due_ms` to the times of these flips (days from now, inf: never), rounded up."""
    soon = np.flatnonzero(np.isfinite(flips_in_days))
    if len(soon):
        after_ms = np.ceil(flips_in_days[soon] * DAY_MS)
        at_ms = now_ms + np.minimum(after_ms, float(1 << 50)).astype(np.int64)
        due_ms[soon] = np.minimum(due_ms[soon], at_ms)


def _held(
    state: ShardState,
    rows: NDArray[np.int64],
    slot: SegmentSlot,
    true: NDArray[np.bool_],
    now_ms: int,
    hold_ms: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Who has waited long enough: bool [k]; and when the others will have, int64 [k].

    `true` (bool [k]): for whom the condition holds who are no members. The time since when is kept
    as long as it does; a second's part counts as a whole one.
    """
    keys = _keys(state, rows, slot)
    now_s = np.int32(-(-now_ms // 1000) - _EPOCH_S)
    at = state.holds.find(keys)
    known = np.flatnonzero(at >= 0)
    waiting = np.zeros(len(rows), np.bool_)
    waiting[known] = state.holds.values[at[known]] != NEVER
    begins = np.flatnonzero(true & ~waiting)
    since_s = np.full(len(rows), now_s, np.int64)
    since_s[waiting] = state.holds.values[at[waiting]]
    enters = true & (now_ms >= (since_s + _EPOCH_S) * 1000 + hold_ms)
    ends = np.flatnonzero(waiting & (enters | ~true))
    if len(ends):
        state.holds.put(keys[ends], np.full(len(ends), NEVER, np.int32))
    begins = begins[~enters[begins]]
    if len(begins):
        state.holds.put(keys[begins], np.full(len(begins), now_s, np.int32))
    entry_ms = np.where(true & ~enters, (since_s + _EPOCH_S) * 1000 + hold_ms, NO_TIME)
    return enters, entry_ms


def _keys(state: ShardState, rows: NDArray[np.int64], slot: SegmentSlot) -> NDArray[np.uint64]:
    """Keys of the users' waits for a segment."""
    segment = hashes([f"{slot.name}/{slot.taken}"])
    return mix(state.columns.user_hash[rows], np.repeat(segment, len(rows)))


def forget_waits(state: ShardState, row: int) -> None:
    """Let the user in `row` wait for nothing."""
    rows = np.array([row], np.int64)
    for slot in state.meta.segment_slots:
        if slot is not None and state.holds.find(keys := _keys(state, rows, slot))[0] >= 0:
            state.holds.put(keys, np.array([NEVER], np.int32))


def set_due(state: ShardState, rows: NDArray[np.int64], due_ms: NDArray[np.int64]) -> None:
    """Set when to look at the users in `rows` again (int64 [k], the largest number: never)."""
    meta = state.meta
    never = due_ms == NO_TIME
    rounded = np.where(never, 0, -(-np.maximum(due_ms, meta.clock_ms + 1) // TIMER_MS) * TIMER_MS)
    state.columns.rules_due_ms[rows] = rounded
    if not never.all():
        first = int(rounded[~never].min())
        meta.rules_due_ms = min(meta.rules_due_ms or first, first)


def wake(state: ShardState, most: int, now_ms: int) -> NDArray[np.int64]:
    """The rows of users whose time has come, at most so many, int64 [k]."""
    if not most:
        return np.empty(0, np.int64)
    # A user's columns lie side by side, so each pass over one of them costs; a copy is one pass.
    times = np.ascontiguousarray(state.columns.rules_due_ms[: state.n])
    due = np.flatnonzero((times > 0) & (times <= now_ms))
    later = times[times > now_ms]
    first = int(later.min()) if len(later) else 0
    # What is left over is due already, so that the next step looks again.
    state.meta.rules_due_ms = first if len(due) <= most else now_ms
    due = due[:most]
    state.will_change(due)
    return due
