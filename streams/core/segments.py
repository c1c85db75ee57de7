"""Which value tier and lifecycle stage a user is in now, and the rows that say what changed.

Both are the shop's own definitions: the first case whose condition is true applies. Ranks of
expected spend are read off a histogram with log-spaced bins (4.4 % wide) of the shard's live
customers. Users are spread over shards by hash, so each shard's ranks estimate the shop's. They
move only when a sweep ends, so that nobody changes tier because a neighbour was scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.lives import life_of
from schemas.segments import DIMENSIONS, LIFECYCLE, VALUE_TIERS
from streams.core.features import DAY_MS
from streams.core.memberships import Membership
from streams.core.quantities import UserQuantities, value_bin
from streams.core.state.ranks import rank_bin
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = [
    "ABSENT",
    "MEMBER",
    "count_ranks",
    "count_values",
    "cut_tiers",
    "first_true",
    "membership_rows",
    "segment_rows",
    "update_dimension",
]

_NONE: Final = VALUE_TIERS.index("none")
_NAMES: Final = {name: np.array(names, object) for name, names in DIMENSIONS.items()}
_OTHERS: Final = {"value_tier": "none", "lifecycle": "active"}  # for whom no case is true
MEMBER, ABSENT = "in", "out"
"""What `segment_changes` calls the two states of a segment of the shop's own."""
_MOVED: Final = {MEMBER: "its conditions are met", ABSENT: "its conditions are not met any more"}
_ENDED: Final = "the segment is not defined any more"


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
    swept: NDArray[np.bool_],
    now_ms: int,
    lapsed_after_ms: int,
) -> None:
    """Count the quantities whose ranks are asked for, of the `swept` (bool [k]) live customers
    among `rows` (int64 [k])."""
    if not state.ranks.counting or not swept.any():
        return
    chosen = swept & live(state, rows, now_ms, lapsed_after_ms)
    for name in state.ranks.counting:
        state.ranks.count(name, rank_bin(q.ranked(name)[chosen]))


def update_dimension(
    state: ShardState,
    rows: NDArray[np.int64],
    dimension: str,
    cases: Sequence[tuple[str, NDArray[np.bool_]]],
    lapsed_after_ms: int,
) -> TableRows:
    """Bring the tier or stage of the users in `rows` (int64 [k], distinct) up to date, by cases and
    for whom each is true (bool [k]); what changed, as a part of `segment_changes` rows."""
    column = getattr(state.columns, dimension)
    new = first_true(cases, dimension, len(rows))
    changed = np.flatnonzero(column[rows] != new)
    at = rows[changed]
    before, after = column[at], new[changed]
    column[at] = after
    names = _NAMES[dimension]
    why = _why(dimension, before, after, lapsed_after_ms)
    return _rows(state, at, dimension, names[before], names[after], why)


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


def _why(
    dimension: str, before: NDArray[np.int8], after: NDArray[np.int8], lapsed_after_ms: int
) -> NDArray[np.object_]:
    if dimension == "value_tier":
        return np.select(
            [before == _NONE, after == _NONE],
            ["enough data for a value", "not enough data for a value"],
            "expected spend moved",
        ).astype(object)
    words = {
        "visitor": "no order yet",
        "new": "first order",
        "active": "orders as expected",
        "at_risk": "churn alert opened",
        "lapsed": f"no order for {lapsed_after_ms / DAY_MS:g} days",
    }
    return np.array([words[LIFECYCLE[code]] for code in after.tolist()], object)


def membership_rows(
    state: ShardState, rows: NDArray[np.int64], changes: Sequence[Membership]
) -> list[TableRows]:
    """Parts of `segment_changes` rows: who of `rows` (int64 [k]) entered and left segments of the
    shop's own. Such a segment is a dimension with two states."""
    parts = []
    for each in changes:
        for moved, before, after in (
            (each.entered, ABSENT, MEMBER),
            (each.left, MEMBER, ABSENT),
        ):
            at = rows[moved]
            if not len(at):
                continue
            why = _ENDED if each.slot.ended else _MOVED[after]
            parts.append(_rows(state, at, each.slot.name, before, after, why))
    return parts


def _rows(
    state: ShardState,
    rows: NDArray[np.int64],
    dimension: str,
    before: NDArray[np.object_] | str,
    after: NDArray[np.object_] | str,
    why: NDArray[np.object_] | str,
) -> TableRows:
    """Parts of `segment_changes` rows of the users in `rows`, counted for each."""
    state.columns.segment_changes[rows] += 1
    users = state.users[rows]
    counts = state.columns.segment_changes[rows].tolist()
    life = life_of(state.meta.seq)
    # Deterministic and unique: the user's n-th change of segment in this life of the shard.
    suffix = f"@{life}" if life else ""
    ids = [f"{user}/{count}{suffix}" for user, count in zip(users, counts, strict=True)]

    def column(value: NDArray[np.object_] | str) -> NDArray[np.object_]:
        return np.full(len(rows), value, object) if isinstance(value, str) else value

    return {
        "change_id": np.array(ids, object),
        "user_id": users,
        "dimension": column(dimension),
        "from_segment": column(before),
        "to_segment": column(after),
        "why": column(why),
        "number": np.array(counts, np.uint32),
    }


def segment_rows(state: ShardState, parts: Sequence[TableRows], now_ms: int) -> TableRows:
    """`segment_changes` rows of these parts."""
    table: TableRows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    changed = len(table["user_id"])
    table["shard"] = np.full(changed, state.meta.shard, np.uint16)
    table["changed_at"] = np.full(changed, now_ms, np.int64)
    table["life"] = np.full(changed, life_of(state.meta.seq), np.uint32)
    return table
