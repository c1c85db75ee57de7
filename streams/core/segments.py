"""Which segment a user is in now, and the rows that say it changed.

Value tiers are quantiles of expected spend among the shard's live customers, read off a histogram
with log-spaced bins (4.4 % wide). Users are spread over shards by hash, so each shard's quantiles
estimate the shop's. The cuts move only when a sweep ends, so that nobody changes tier because a
neighbour was scored.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.lives import life_of
from schemas.segments import DIMENSIONS, LIFECYCLE, VALUE_TIERS
from streams.core.features import DAY_MS
from streams.core.state.shard_state import VALUE_BINS, ShardState
from streams.core.texts import TableRows

__all__ = ["HIGH_SHARE", "LIVE_MS", "MEDIUM_SHARE", "cut_tiers", "update_segments"]

LIVE_MS: Final = 90 * DAY_MS
HIGH_SHARE: Final = 0.10
MEDIUM_SHARE: Final = 0.40  # the next 30 % below the high ones
_BINS_PER_OCTAVE: Final = 16
_VISITOR, _NEW, _ACTIVE, _AT_RISK, _LAPSED = range(len(LIFECYCLE))
_NONE, _LOW, _MEDIUM, _HIGH = range(len(VALUE_TIERS))
_TIER_NAMES: Final = np.array(VALUE_TIERS, object)
_LIFECYCLE_NAMES: Final = np.array(LIFECYCLE, object)


def value_bin(spend: NDArray[np.float32]) -> NDArray[np.int16]:
    """The histogram bin of an expected spend (currency units >= 0).

    >>> value_bin(np.array([0.0, 1.0, 1e12], np.float32)).tolist()
    [0, 16, 511]
    """
    bins = np.floor(np.log2(1.0 + np.nan_to_num(spend.astype(np.float64))) * _BINS_PER_OCTAVE)
    clipped: NDArray[np.int16] = np.minimum(bins, VALUE_BINS - 1).astype(np.int16)
    return clipped


def cut_tiers(state: ShardState) -> None:
    """Set the cuts so that at most 10 % are above the high one and 40 % above the medium one."""
    total = int(state.value_histogram.sum())
    if total:
        above = total - np.cumsum(state.value_histogram)  # live customers above each bin
        cuts = [int(np.argmax(above <= share * total)) for share in (MEDIUM_SHARE, HIGH_SHARE)]
        state.meta.tier_cuts, state.meta.tier_total = cuts, total


def update_segments(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, shard: int
) -> TableRows:
    """Bring both dimensions of the users in `rows` up to date; returns `segment_changes` rows."""
    c = state.columns
    orders = c.orders[rows]
    live = (orders > 0) & (now_ms - c.recent_orders_ms[rows, 0] < LIVE_MS)
    scored = ~np.isnan(c.expected_spend[rows]) & (orders > 0)  # tiers are of customers
    _count_values(state, rows, live & scored)
    if int(state.value_histogram.sum()) >= 2 * state.meta.tier_total:
        cut_tiers(state)  # a young shard: its first cuts mean little
    medium, high = state.meta.tier_cuts
    bins = c.value_bin[rows]
    tier = np.full(len(rows), _LOW, np.int8)
    tier[bins > medium] = _MEDIUM
    tier[bins > high] = _HIGH
    tier[~scored] = _NONE
    lifecycle = np.full(len(rows), _ACTIVE, np.int8)
    lifecycle[orders == 1] = _NEW
    lifecycle[c.at_risk[rows]] = _AT_RISK
    lifecycle[~live] = _LAPSED
    lifecycle[orders == 0] = _VISITOR
    changes = [
        _change(state, rows, c.value_tier, tier, "value_tier", _TIER_NAMES),
        _change(state, rows, c.lifecycle, lifecycle, "lifecycle", _LIFECYCLE_NAMES),
    ]
    table: TableRows = {
        name: np.concatenate([change[name] for change in changes]) for name in changes[0]
    }
    changed = len(table["user_id"])
    table["shard"] = np.full(changed, shard, np.uint16)
    table["changed_at"] = np.full(changed, now_ms, np.int64)
    table["life"] = np.full(changed, life_of(state.meta.seq), np.uint32)
    return table


def _count_values(state: ShardState, rows: NDArray[np.int64], counted: NDArray[np.bool_]) -> None:
    c = state.columns
    before = c.value_bin[rows]
    after = np.where(counted, value_bin(c.expected_spend[rows]), np.int16(-1)).astype(np.int16)
    moved = before != after
    np.subtract.at(state.value_histogram, before[moved & (before >= 0)].astype(np.int64), 1)
    np.add.at(state.value_histogram, after[moved & (after >= 0)].astype(np.int64), 1)
    c.value_bin[rows] = after


def _change(
    state: ShardState,
    rows: NDArray[np.int64],
    column: NDArray[np.int8],
    new: NDArray[np.int8],
    dimension: str,
    names: NDArray[np.object_],
) -> TableRows:
    changed = np.flatnonzero(column[rows] != new)
    at = rows[changed]
    before, after = column[at], new[changed]
    column[at] = after
    state.columns.segment_changes[at] += 1
    users = state.users[at]
    counts = state.columns.segment_changes[at].tolist()
    life = life_of(state.meta.seq)
    # Deterministic and unique: the user's n-th change of segment in this life of the shard.
    suffix = f"@{life}" if life else ""
    ids = [f"{user}/{count}{suffix}" for user, count in zip(users, counts, strict=True)]
    return {
        "change_id": np.array(ids, object),
        "user_id": users,
        "dimension": np.full(len(at), dimension, object),
        "from_segment": names[before],
        "to_segment": names[after],
        "why": _why(dimension, before, after),
    }


def _why(dimension: str, before: NDArray[np.int8], after: NDArray[np.int8]) -> NDArray[np.object_]:
    if dimension == "value_tier":
        return np.select(
            [before == _NONE, after == _NONE],
            ["enough data for a value", "not enough data for a value"],
            "expected spend moved",
        ).astype(object)
    words = {
        _VISITOR: "no order yet",
        _NEW: "first order",
        _ACTIVE: "orders as expected",
        _AT_RISK: "churn alert opened",
        _LAPSED: "no order for 90 days",
    }
    return np.array([words[int(code)] for code in after], object)


assert tuple(DIMENSIONS) == ("value_tier", "lifecycle")  # noqa: S101  (named above)
