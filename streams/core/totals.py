"""Counts the sizes of tiers, stages and segments with every step, and writes the rows that say so.

Sizes change with users' score rows: what a row said is taken away when the next one is written. Who
moves always gets a row, so before a step users stand where their last row has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definitions
from schemas.lives import life_of
from streams.core.segments import Moves, state_names
from streams.core.state import totals as counting
from streams.core.state.shard_state import ShardState
from streams.core.state.totals import Stands, Totals, key_of, parts_of
from streams.core.texts import TableRows

__all__ = [
    "begin_totals",
    "definition_rows",
    "discount",
    "tell_totals",
]

HOUR_MS: Final = 3_600_000
TELL_MS: Final = 10_000
"""Where nobody moved, spend is told so often at most."""
_NOT_TOLD: Final = "rfm"
"""A dimension of 125 cells: who is in which one is counted by query."""


def begin_totals(state: ShardState) -> bool:
    """Count everybody, if that was not done yet; returns whether it was needed."""
    totals = state.meta.totals
    if totals.counted:
        return False
    totals.counted = True
    # What was told before is told again, if only to say that nobody is there any more.
    totals.users, totals.cents = dict.fromkeys(totals.users, 0), dict.fromkeys(totals.users, 0)
    slots, c = state.meta.segment_slots, state.columns
    rows = np.flatnonzero(c.written_at_ms[: state.n] > 0)
    counting.add(totals, Stands.of(c, rows), c.written_spend[rows], slots, 1)
    for _, _, packed in state.parked.blocks(state.meta.horizon_since):
        there = packed[packed["written_at_ms"] > 0]
        stands = Stands(there["value_tier"], there["lifecycle"], there["segments"])
        counting.add(totals, stands, there["written_spend"], slots, 1)
    totals.untold = bool(totals.users)
    return True


def tell_totals(
    state: ShardState,
    before: Stands,
    touched: NDArray[np.int64],
    written: NDArray[np.int64],
    moves: Sequence[Moves],
    now_ms: int,
) -> dict[str, TableRows]:
    """Count a step: the score rows that it writes and who moved; returns the tables that say so.

    `written` (int64 [w]) are those of the users `touched` (int64 [k], ascending) who get a row;
    `before`: where the touched stood.
    """
    _count_written(state, before, touched, written)
    return _total_rows(state, _count_moved(state.meta.totals, moves, now_ms), now_ms)


def _count_written(
    state: ShardState, before: Stands, touched: NDArray[np.int64], written: NDArray[np.int64]
) -> None:
    """Count the users in `written` (int64 [w], among `touched`, int64 [k], ascending) as the rows
    say that they get now. `before`: where the touched stood before the step."""
    if not len(written):
        return
    c, totals, slots = state.columns, state.meta.totals, state.meta.segment_slots
    known = c.written_at_ms[written] > 0
    had = written[known]
    at = np.searchsorted(touched, had)
    counting.add(totals, before.at(at), c.written_spend[had], slots, -1)
    counting.add(totals, Stands.of(c, written), c.expected_spend[written], slots, 1)
    totals.untold = True


def discount(state: ShardState, row: int) -> None:
    """Take the user in `row` out of the totals, for good."""
    c = state.columns
    rows = np.array([row], np.int64)
    if state.meta.totals.counted and c.written_at_ms[row] > 0:
        slots = state.meta.segment_slots
        counting.add(state.meta.totals, Stands.of(c, rows), c.written_spend[rows], slots, -1)
        state.meta.totals.told_ms = 0  # at once


def _count_moved(totals: Totals, moves: Sequence[Moves], now_ms: int) -> set[str]:
    """Count moves of now; returns their keys."""
    names = state_names()
    found: dict[str, int] = {}
    for each in moves:
        if each.dimension == _NOT_TOLD or not len(each.rows):
            continue
        pairs, counts = np.unique(each.before * len(names) + each.after, return_counts=True)
        for pair, n in zip(pairs.tolist(), counts.tolist(), strict=True):
            left, entered = divmod(pair, len(names))
            key = key_of(each.dimension, names[left], names[entered])
            found[key] = found.get(key, 0) + n
    if found:
        counting.count_moves(totals, now_ms // HOUR_MS, found)
    return set(found)


def _total_rows(state: ShardState, moved: set[str], now_ms: int) -> dict[str, TableRows]:
    """Rows of `segment_moves` for these keys, and of `segment_totals` if somebody moved, the hour
    is another one, or the spend has not been told for a while. Each says all there is: the newest
    row of a shard counts."""
    totals, tables = state.meta.totals, dict[str, TableRows]()
    if moved:
        tables["segment_moves"] = _move_rows(state, sorted(moved))
    tells = moved or now_ms // HOUR_MS != totals.told_ms // HOUR_MS
    if totals.users and (tells or (totals.untold and now_ms - totals.told_ms >= TELL_MS)):
        tables["segment_totals"] = _size_rows(state, now_ms)
        totals.told_ms, totals.untold = now_ms, False
        counting.keep(totals, state.meta.segment_slots)
    return tables


def _size_rows(state: ShardState, now_ms: int) -> TableRows:
    totals = state.meta.totals
    keys = [parts_of(key) for key in totals.users]
    n = len(keys)
    return {
        "dimension": [dimension for dimension, _ in keys],
        "segment": [segment for _, segment in keys],
        **_whose(state, n),
        "as_of": np.full(n, now_ms, np.int64),
        "users": np.array(list(totals.users.values()), np.int64),
        "spend_cents": np.array(list(totals.cents.values()), np.int64),
    }


def _move_rows(state: ShardState, keys: Sequence[str]) -> TableRows:
    totals, parts = state.meta.totals, [parts_of(key) for key in keys]
    n = len(keys)
    return {
        "hour": np.full(n, totals.hour * HOUR_MS, np.int64),
        "dimension": [dimension for dimension, _, _ in parts],
        "from_segment": [left for _, left, _ in parts],
        "to_segment": [entered for _, _, entered in parts],
        **_whose(state, n),
        "moves": np.array([totals.moves[key] for key in keys], np.uint32),
    }


def _whose(state: ShardState, n: int) -> TableRows:
    meta = state.meta
    return {
        "shard": np.full(n, meta.shard, np.uint16),
        "seq": np.full(n, meta.seq, np.uint64),
        "life": np.full(n, life_of(meta.seq), np.uint32),
    }


def definition_rows(state: ShardState, taken: Definitions | None, now_ms: int) -> TableRows:
    """A row of `definitions_taken` for definitions that this step took; {} for None."""
    if taken is None:
        return {}
    return {
        "number": np.array([taken.number], np.uint32),
        "version": [taken.version],
        **_whose(state, 1),
        "taken_at": np.array([now_ms], np.int64),
        "applied_at": np.array([taken.applied_at_ms], np.int64),
        "applied_by": [taken.applied_by],
        "note": [taken.note],
        "document": [msgspec.json.encode(taken).decode()],
    }
