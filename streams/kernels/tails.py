"""Keeps the newest events of each user in a ring, and reads them as tables.

`streams.core.state.tails` says what they mean. A ring holds the greatest events in the order of
time, kind, category and amount, so what it holds does not depend on the order of arrival.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.tails import TAIL_EVENTS
from streams.kernels.jit import kernel

__all__ = ["Rings", "TailEvents", "read_tails", "remember_events"]

_LAST: Final = TAIL_EVENTS - 1
_DAY_SECONDS: Final = 86_400.0


class Rings(NamedTuple):
    """Rings of `TAIL_EVENTS` events by user, [n, TAIL_EVENTS]; a user's oldest event is at `first`
    int32 [n] and there are `filled` int32 [n]. second: uint32, since 1970 UTC."""

    second: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    category: NDArray[np.uint8]
    amount: NDArray[np.float32]
    first: NDArray[np.int32]
    filled: NDArray[np.int32]


class TailEvents(NamedTuple):
    """k events, each of the ring at `ring` int64 [k]; the others as in `Rings`, [k]."""

    ring: NDArray[np.int64]
    second: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    category: NDArray[np.uint8]
    amount: NDArray[np.float32]


@kernel
def remember_events(rings: Rings, events: TailEvents) -> None:
    """Let events into their rings, one after the other; a full ring loses its oldest event."""
    for i in range(len(events.ring)):
        r = events.ring[i]
        second, kind = events.second[i], events.kind[i]
        category, amount = events.category[i], events.amount[i]
        first, count = rings.first[r], rings.filled[r]
        if count == TAIL_EVENTS:
            if not _before(rings, r, first, second, kind, category, amount):
                continue
            first = (first + 1) & _LAST
            rings.first[r] = first
        else:
            count += 1
            rings.filled[r] = count
        at = count - 1
        while at > 0:
            older = (first + at - 1) & _LAST
            if _before(rings, r, older, second, kind, category, amount):
                break
            to = (first + at) & _LAST
            rings.second[r, to] = rings.second[r, older]
            rings.kind[r, to] = rings.kind[r, older]
            rings.category[r, to] = rings.category[r, older]
            rings.amount[r, to] = rings.amount[r, older]
            at -= 1
        to = (first + at) & _LAST
        rings.second[r, to] = second
        rings.kind[r, to] = kind
        rings.category[r, to] = category
        rings.amount[r, to] = amount


@kernel
def _before(
    rings: Rings, r: int, at: int, second: int, kind: int, category: int, amount: float
) -> bool:
    """Whether the event at a place of a ring is before another one, or the same. An unknown amount
    is before any other."""
    if rings.second[r, at] != second:
        return bool(rings.second[r, at] < second)
    if rings.kind[r, at] != kind:
        return bool(rings.kind[r, at] < kind)
    if rings.category[r, at] != category:
        return bool(rings.category[r, at] < category)
    held = rings.amount[r, at]
    return bool(held != held or held <= amount)  # noqa: PLR0124  (NaN)


@kernel
def read_tails(
    x: NDArray[np.float32], rings: Rings, ring: NDArray[np.int64], now_second: float
) -> None:
    """Write the rings at `ring` int64 [k] (below 0: there is none) into x float32 [k, TAIL_EVENTS,
    channels], all 0 before, as `schemas.tails` says; now_second: since 1970 UTC."""
    for i in range(len(ring)):
        r = ring[i]
        if r < 0:
            continue
        latest = 0  # the category of the newest event so far that has one
        before = np.float64(0.0)
        for j in range(rings.filled[r]):
            at = (rings.first[r] + j) & _LAST
            second = np.float64(rings.second[r, at])
            x[i, j, 0] = rings.kind[r, at]
            x[i, j, 1] = (second - before) / _DAY_SECONDS if j else np.nan
            x[i, j, 2] = max(now_second - second, 0.0) / _DAY_SECONDS
            x[i, j, 3] = rings.amount[r, at]
            category = rings.category[r, at]
            x[i, j, 4] = category
            x[i, j, 5] = np.nan
            if category:
                if latest:
                    x[i, j, 5] = 1.0 if category == latest else 0.0
                latest = category
            before = second
