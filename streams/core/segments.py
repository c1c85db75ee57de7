"""Which value tier and lifecycle stage a user is in now, and the rows that say what changed.

Both are the shop's own definitions: the first case whose condition is true applies. Ranks of
expected spend are read off a histogram with log-spaced bins (4.4 % wide) of the shard's live
customers. Users are spread over shards by hash, so each shard's ranks estimate the shop's. They
move only when a sweep ends, so that nobody changes tier because a neighbour was scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.lives import life_of
from schemas.segments import DIMENSIONS, LIFECYCLE, RFM_CELLS, VALUE_TIERS
from streams.core.features import DAY_MS
from streams.core.memberships import Membership
from streams.core.quantities import UserQuantities, value_bin
from streams.core.rfm import rfm_cells
from streams.core.state.ranks import rank_bin
from streams.core.state.shard_state import ShardState
from streams.core.state.totals import MEMBER
from streams.core.texts import Coded, TableRows

__all__ = [
    "ABSENT",
    "MEMBER",
    "Moves",
    "count_ranks",
    "count_values",
    "cut_tiers",
    "first_true",
    "live",
    "membership_moves",
    "segment_names",
    "segment_rows",
    "state_names",
    "update_dimension",
    "update_rfm",
]

_NONE: Final = VALUE_TIERS.index("none")
_OTHERS: Final = {"value_tier": "none", "lifecycle": "active"}  # for whom no case is true
ABSENT: Final = "out"
"""What `segment_changes` calls the other state of a segment of the shop's own, beside `MEMBER`."""
_STATES: Final = (*VALUE_TIERS, *LIFECYCLE, ABSENT, MEMBER, *RFM_CELLS[1:])
_FIRST_STATE: Final = {"value_tier": 0, "lifecycle": len(VALUE_TIERS)}
_ABSENT, _MEMBER = _STATES.index(ABSENT), _STATES.index(MEMBER)
_STAGE_WHYS: Final = {
    "visitor": "no order yet",
    "new": "first order",
    "active": "orders as expected",
    "at_risk": "churn alert opened",
    "lapsed": "no order for {lapsed_days} days",
}
_WHYS: Final = (
    "enough data for a value",
    "not enough data for a value",
    "expected spend moved",
    "its conditions are met",
    "its conditions are not met any more",
    "the segment is not defined any more",
    "ranks among live customers moved",
    *(_STAGE_WHYS[stage] for stage in LIFECYCLE),
)
_ENOUGH_DATA, _TOO_LITTLE, _SPEND_MOVED, _ENTERED, _LEFT, _ENDED, _RANKS_MOVED, _FIRST_STAGE_WHY = (
    range(8)
)
_CELL_STATES: Final = np.array([_STATES.index(cell) for cell in RFM_CELLS], np.int64)


def live(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, lapsed_after_ms: int
) -> NDArray[np.bool_]:
    """Which users (rows int64 [k]) are live customers: they have ordered, and not too long ago."""
    c = state.columns
    recent: NDArray[np.bool_] = now_ms - c.recent_orders_ms[rows, 0] < lapsed_after_ms
    return recent & (c.orders[rows] > 0)


def cut_tiers(state: ShardState) -> None:
    """Let ranks of expected spend be those among the live customers of now, if there are any."""
    total = int(state.value_histogram.sum())
    if total:
        state.values_in_force, state.meta.tier_total = state.value_histogram.copy(), total


def count_values(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, lapsed_after_ms: int
) -> None:
    """Count the expected spend of the users in `rows` (int64 [k]), if they are live customers."""
    c = state.columns
    customers = live(state, rows, now_ms, lapsed_after_ms)
    counted = customers & ~np.isnan(c.expected_spend[rows])
    before = c.value_bin[rows]
    after = np.where(counted, value_bin(c.expected_spend[rows]), np.int16(-1)).astype(np.int16)
    moved = before != after
    np.subtract.at(state.value_histogram, before[moved & (before >= 0)].astype(np.int64), 1)
    np.add.at(state.value_histogram, after[moved & (after >= 0)].astype(np.int64), 1)
    c.value_bin[rows] = after
    if int(state.value_histogram.sum()) >= 2 * state.meta.tier_total:
        cut_tiers(state)  # a young shard: its first ranks mean little


def count_ranks(
    state: ShardState,
    q: UserQuantities,
    rows: NDArray[np.int64],
    swept: NDArray[np.int64],
    now_ms: int,
    lapsed_after_ms: int,
) -> None:
    """Count the quantities whose ranks are asked for, of the live customers among `rows` (int64
    [k]) who are among the `swept` (int64 [s]) as well."""
    if not state.ranks.counting or not len(swept):
        return
    chosen = np.isin(rows, swept) & live(state, rows, now_ms, lapsed_after_ms)
    for name in state.ranks.counting:
        state.ranks.count(name, rank_bin(q.ranked(name)[chosen]))


def state_names() -> tuple[str, ...]:
    """What `Moves.before` and `Moves.after` are places in."""
    return _STATES


@dataclass(frozen=True)
class Moves:
    """Who moved in one dimension: n users, in any order."""

    rows: NDArray[np.int64]
    numbers: NDArray[np.int32]
    """Which move of the user it is, in this life of the shard."""
    dimension: str
    before: NDArray[np.int64]
    """Places in `_STATES`."""
    after: NDArray[np.int64]
    why: NDArray[np.int64]
    """Places in `_whys`."""


def update_dimension(
    state: ShardState,
    rows: NDArray[np.int64],
    dimension: str,
    cases: Sequence[tuple[str, NDArray[np.bool_]]],
) -> Moves:
    """Bring the tier or stage of the users in `rows` (int64 [k], distinct) up to date, by cases and
    for whom each is true (bool [k])."""
    column = getattr(state.columns, dimension)
    new = first_true(cases, dimension, len(rows))
    changed = np.flatnonzero(column[rows] != new)
    at = rows[changed]
    before, after = column[at].astype(np.int64), new[changed].astype(np.int64)
    column[at] = after
    first = _FIRST_STATE[dimension]
    if dimension == "value_tier":
        lacked, lacks = before == _NONE, after == _NONE
        why = np.select([lacked, lacks], [_ENOUGH_DATA, _TOO_LITTLE], _SPEND_MOVED)
    else:
        why = _FIRST_STAGE_WHY + after
    return _moves(state, at, dimension, first + before, first + after, why.astype(np.int64))


def update_rfm(
    state: ShardState, rows: NDArray[np.int64], q: UserQuantities, live_: NDArray[np.bool_]
) -> Moves:
    """Bring the RFM cells of the users in `rows` (int64 [k], distinct) up to date; `live_`: which
    of them are live customers, bool [k]."""
    c, new = state.columns, rfm_cells(q, live_)
    changed = np.flatnonzero(c.rfm[rows] != new)
    at = rows[changed]
    before, after = _CELL_STATES[c.rfm[at]], _CELL_STATES[new[changed]]
    c.rfm[at] = new[changed]
    return _moves(state, at, "rfm", before, after, np.full(len(at), _RANKS_MOVED, np.int64))


def first_true(
    cases: Sequence[tuple[str, NDArray[np.bool_]]], dimension: str, k: int
) -> NDArray[np.int8]:
    """The place in `DIMENSIONS[dimension]` of the first case that is true for each of k users (bool
    [k] each), int8 [k]; `none` and `active` for whom no case is."""
    names = DIMENSIONS[dimension]
    codes = np.full(k, names.index(_OTHERS[dimension]), np.int8)
    free = np.ones(k, np.bool_)
    for name, true in cases:
        codes[free & true] = names.index(name)
        free &= ~true
    return codes


def membership_moves(state: ShardState, rows: NDArray[np.int64], change: Membership) -> list[Moves]:
    """Who of `rows` (int64 [k]) entered and who left a segment of the shop's own. Such a segment is
    a dimension with two states."""
    moves = []
    for moved, before, after, why in (
        (change.entered, _ABSENT, _MEMBER, _ENTERED),
        (change.left, _MEMBER, _ABSENT, _ENDED if change.slot.ended else _LEFT),
    ):
        at = rows[moved]
        if len(at):
            states = (np.full(len(at), each, np.int64) for each in (before, after, why))
            moves.append(_moves(state, at, change.slot.name, *states))
    return moves


def _moves(
    state: ShardState,
    rows: NDArray[np.int64],
    dimension: str,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    why: NDArray[np.int64],
) -> Moves:
    """Moves of the users in `rows`, counted for each."""
    state.columns.segment_changes[rows] += 1
    return Moves(rows, state.columns.segment_changes[rows], dimension, before, after, why)


def segment_rows(
    state: ShardState, moves: Sequence[Moves], now_ms: int, lapsed_after_ms: int
) -> TableRows:
    """`segment_changes` rows of these moves."""
    rows = np.concatenate([each.rows for each in moves])
    numbers = np.concatenate([each.numbers for each in moves])
    dimensions = tuple(dict.fromkeys(each.dimension for each in moves))
    codes = [np.full(len(m.rows), dimensions.index(m.dimension), np.int64) for m in moves]
    life = life_of(state.meta.seq)

    def states(name: str, names: Sequence[str]) -> Coded:
        return Coded(np.concatenate([getattr(each, name) for each in moves]), names)

    return {
        # Deterministic and unique: the user's n-th change of segment in this life of the shard.
        "change_id": state.rows_by_user.numbered(rows, numbers, f"@{life}" if life else ""),
        "user_id": state.users.strings(rows),
        "dimension": Coded(np.concatenate(codes), dimensions),
        "from_segment": states("before", _STATES),
        "to_segment": states("after", _STATES),
        "why": states("why", _whys(lapsed_after_ms)),
        "number": numbers.astype(np.uint32),
        "shard": np.full(len(rows), state.meta.shard, np.uint16),
        "changed_at": np.full(len(rows), now_ms, np.int64),
        "life": np.full(len(rows), life, np.uint32),
    }


def segment_names(state: ShardState, rows: NDArray[np.int64]) -> Coded:
    """The segments of the shop's own that each user in `rows` (int64 [k]) is in: their names in
    alphabetical order, with commas between."""
    slots = state.meta.segment_slots
    if not any(slots):
        return Coded.same("", len(rows))
    different, codes = np.unique(state.columns.segments[rows], return_inverse=True)
    named = [
        ",".join(sorted(s.name for bit, s in enumerate(slots) if s is not None and bits >> bit & 1))
        for bits in different.tolist()
    ]
    return Coded(codes.reshape(-1), named)


def _whys(lapsed_after_ms: int) -> tuple[str, ...]:
    return tuple(
        why.format(lapsed_days=f"{lapsed_after_ms / DAY_MS:g}") if "{" in why else why
        for why in _WHYS
    )
