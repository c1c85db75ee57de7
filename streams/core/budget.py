"""A daily budget of alerts: of all candidates about the N with the most at stake, never more.

A stream can't wait for the day's end to see who was worth most. So an alert opens if its value at
stake is not below a floor, which the shard learns: at the end of the shop's day it becomes the
value that N are not below, of those who wait and those who come on a usual day. If fewer come, it
falls into those who wait, and more open; if more come, it rises. Nobody opens above N: who finds no
room stays a candidate, is counted, and is looked at again when the next day begins. Until a sweep
has looked at everybody nothing is known, and no alert opens.

Each shard has its share of N. The shares of all shards add up to N on each day; which shard has
one more than another changes from day to day, so that few alerts for many shards reach them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import AlertRules
from schemas.lives import life_of
from streams.core.features import DAY_MS
from streams.core.local_time import local_day
from streams.core.state.candidates import (
    FADE,
    NO_FLOOR,
    Budget,
    Candidates,
    bins_of,
    days_of,
    mark,
    was_over,
)
from streams.core.state.ranks import RANK_BINS, bin_edge, rank_bin
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["Chosen", "begin_day", "choose", "learn_first_floor", "share_of_day"]


def share_of_day(per_day: int, partitions: int, shard: int, day: int) -> int:
    """How many of the shop's alerts a shard may open on a day.

    >>> [[share_of_day(5, 3, shard, day) for shard in range(3)] for day in range(3)]
    [[1, 2, 2], [2, 2, 1], [2, 1, 2]]
    """
    place = (shard + day) % partitions
    return per_day * (place + 1) // partitions - per_day * place // partitions


def begin_day(state: ShardState, rules: AlertRules, now_ms: int) -> TableRows | None:
    """Let the budget of the day that `now_ms` is in apply. Returns the `alert_budget` row of the
    day that has ended, None if none has."""
    meta = state.meta
    budget = meta.budget
    if not rules.per_day:
        if budget is not None:  # the account is kept: who has a budget again today goes on with it
            budget.per_day = 0
        return None
    found = local_day(rules, now_ms)
    if budget is None or (not budget.per_day and found > budget.day):
        meta.budget = Budget(rules.per_day, found, _share(state, rules.per_day, found))
        state.candidates = Candidates()
        return None
    if budget.per_day != rules.per_day:
        budget.per_day = rules.per_day
        budget.share = _share(state, rules.per_day, budget.day)
    if found <= budget.day:
        return None
    row = _row(state, budget)
    _end_day(state, budget)
    budget.day_before = budget.day
    budget.day, budget.share = found, _share(state, rules.per_day, found)
    budget.opened = budget.candidates = budget.over = 0
    return row


def learn_first_floor(state: ShardState) -> None:
    """A sweep has looked at everybody: the first floor follows from who it met."""
    budget = state.meta.budget
    if budget is not None and budget.per_day and budget.floor_bin == NO_FLOOR:
        budget.floor_bin = _floor(state, budget)


def _end_day(state: ShardState, budget: Budget) -> None:
    candidates = state.candidates
    if budget.day_before:  # on the first day everybody seemed to arrive
        candidates.arrivals = candidates.arrivals * FADE + candidates.arrived
        budget.days = budget.days * FADE + 1
    if budget.floor_bin != NO_FLOOR:
        budget.floor_bin = _floor(state, budget)
    candidates.waiting = np.zeros_like(candidates.waiting)
    candidates.arrived = np.zeros_like(candidates.arrived)


def _floor(state: ShardState, budget: Budget) -> int:
    """The highest bin that as many candidates are not below as the shard may alert on a day; 0 if
    there are not as many."""
    wanted = budget.per_day / (state.meta.partitions or 1)
    counted = state.candidates.waiting + state.candidates.arrivals / (budget.days or 1.0)
    not_below = np.cumsum(counted[::-1])[::-1]
    enough = np.flatnonzero(not_below >= wanted)
    return int(enough[-1]) if len(enough) else 0


@dataclass(frozen=True)
class Chosen:
    """What became of k candidates."""

    worth: NDArray[np.bool_]
    """bool [k]: not below the floor."""
    room: NDArray[np.bool_]
    """bool [k]: worth it, and there is room today."""
    over: int
    """How many were passed over for lack of room, for the first time today."""


def choose(
    state: ShardState, rows: NDArray[np.int64], value: NDArray[np.float64], *, quiet: bool
) -> Chosen:
    """Choose among the candidates in `rows` (int64 [k]) by their value at stake (float64 [k], in
    currency units): the most valuable first, and none beyond the budget. `quiet`: no alert can open
    now, so that nobody finds or lacks room."""
    budget, marks = state.meta.budget, state.columns.alert_day
    if budget is None or not budget.per_day:
        everybody = np.ones(len(rows), np.bool_)
        return Chosen(everybody, everybody, 0)
    bins = rank_bin(value)
    _count(state, budget, rows, bins)
    worth = (bins >= budget.floor_bin) & (budget.floor_bin != NO_FLOOR)
    room = np.zeros(len(rows), np.bool_)
    if quiet:
        return Chosen(worth, room, 0)
    at = np.flatnonzero(worth)
    # by hash where values are the same: not by row, which says who came first
    at = at[np.lexsort((state.columns.user_hash[rows[at]], -value[at]))]
    room[at[: max(0, budget.share - budget.opened)]] = True
    budget.opened += int(room.sum())
    candidates = state.candidates
    candidates.waiting -= np.bincount(bins_of(marks[rows[room]]), minlength=RANK_BINS)
    left = rows[worth & ~room]
    first = left[~was_over(marks[left])]
    marks[first] += 1
    budget.over += len(first)
    return Chosen(worth, room, len(first))


def _count(
    state: ShardState, budget: Budget, rows: NDArray[np.int64], bins: NDArray[np.int64]
) -> None:
    """Count those of the candidates in `rows` (int64 [k]) who are new on this day."""
    marks, candidates = state.columns.alert_day, state.candidates
    days = days_of(marks[rows])
    new, arrived = days != budget.day, days < budget.day_before
    candidates.waiting += np.bincount(bins[new], minlength=RANK_BINS)
    candidates.arrived += np.bincount(bins[new & arrived], minlength=RANK_BINS)
    budget.candidates += int(new.sum())
    marks[rows[new]] = mark(budget.day, bins[new])


def _share(state: ShardState, per_day: int, day: int) -> int:
    return share_of_day(per_day, state.meta.partitions or 1, state.meta.shard, day)


def _row(state: ShardState, budget: Budget) -> TableRows:
    row = {
        "shard": np.uint16(state.meta.shard),
        "day": np.int64(budget.day * DAY_MS),
        "per_day": np.uint32(budget.per_day),
        "share": np.uint32(budget.share),
        "candidates": np.uint32(budget.candidates),
        "opened": np.uint32(budget.opened),
        "over_budget": np.uint32(budget.over),
        "floor": np.float32(bin_edge(budget.floor_bin)),
        "life": np.uint32(life_of(state.meta.seq)),
    }
    return {name: np.array([value]) for name, value in row.items()}
