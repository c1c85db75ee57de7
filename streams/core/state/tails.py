"""The last 64 events of each user, for a model of sequences.

No worker keeps them (D-090): `ShardState.tails` is None unless an evaluation asks for them, and
checkpoints have none. What counts is what counts in the windows: `streams.core.apply` lets events
in, so that late ones, repeats and people who were erased are as they are there. Users are known by
the hash of their id, so parking changes nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.tails import CATEGORIES, TAIL_CHANNELS, TAIL_EVENTS
from streams.core.events.events import KIND_OF_CLICK, KIND_PLACED, Events
from streams.core.state.u64map import U64Map
from streams.kernels.arrays import grown, zeros
from streams.kernels.tails import Rings, TailEvents, read_tails, remember_events

__all__ = ["Tails"]

_LEAST: Final = 256
_REVIEW: Final = KIND_OF_CLICK["review"]


class Tails:
    """Rings of events by user."""

    def __init__(self) -> None:
        self._ring_of = U64Map()  # user hash -> 0; the position is the ring
        self._rings = _rings(_LEAST)

    def __len__(self) -> int:
        """Users who have a ring."""
        return len(self._ring_of)

    @property
    def nbytes(self) -> int:
        """Memory in use, in bytes."""
        of_one = sum(column[0].nbytes for column in self._rings)
        return int(of_one) * len(self) + self._ring_of.nbytes

    def remember(
        self, user_hash: NDArray[np.uint64], events: Events, chosen: NDArray[np.int64]
    ) -> None:
        """Let the events at `chosen` int64 [k] in, which are of the users with `user_hash` uint64
        [k]."""
        ring, _ = self._ring_of.find_or_add(user_hash, np.zeros(len(user_hash), np.int32))
        if len(self) > len(self._rings.filled):
            room = max(len(self), 2 * len(self._rings.filled))
            self._rings = Rings(*(grown(column, room) for column in self._rings))
        kind = events.kind[chosen]
        remember_events(
            self._rings,
            TailEvents(
                ring,
                (events.ts_ms[chosen] // 1000).astype(np.uint32),
                (kind + 1).astype(np.uint8),
                _categories(events)[chosen],
                _amounts(events, chosen, kind),
            ),
        )

    def of(self, user_hash: NDArray[np.uint64], now_ms: int) -> NDArray[np.float32]:
        """The tails of users as of now, float32 [k, TAIL_EVENTS, channels], of which each depends
        on its user alone; user_hash uint64 [k]."""
        x = np.zeros((len(user_hash), TAIL_EVENTS, len(TAIL_CHANNELS)), np.float32)
        read_tails(x, self._rings, self._ring_of.find(user_hash), now_ms / 1000)
        return x

    def forget(self, user_hash: int) -> None:
        """Forget what a user did."""
        ring = int(self._ring_of.find(np.array([user_hash], np.uint64))[0])
        if ring >= 0:
            for column in self._rings:
                column[ring] = 0


def _rings(room: int) -> Rings:
    wide = (room, TAIL_EVENTS)
    return Rings(
        zeros(wide, np.uint32),
        zeros(wide, np.uint8),
        zeros(wide, np.uint8),
        zeros(wide, np.float32),
        zeros(room, np.int32),
        zeros(room, np.int32),
    )


def _categories(events: Events) -> NDArray[np.uint8]:
    """Of the first line of each event that has one: 1 to 255, 0 for none; uint8 [n]."""
    found = np.zeros(len(events), np.uint8)
    known = np.flatnonzero(events.lines.category)[::-1]  # the first one is written last
    category = events.lines.category[known]
    found[events.lines.event[known]] = (category % np.uint64(CATEGORIES)).astype(np.uint8) + 1
    return found


def _amounts(
    events: Events, chosen: NDArray[np.int64], kind: NDArray[np.int8]
) -> NDArray[np.float32]:
    """As `schemas.tails.TAIL_CHANNELS` says, float32 [k]."""
    amount = np.full(len(chosen), np.nan, np.float32)
    order = kind >= KIND_PLACED
    amount[order] = events.amount_cents[chosen[order]] / 100.0
    stars = events.rating_tenths[chosen] / 10.0
    rated = (kind == _REVIEW) & (stars > 0.0)
    amount[rated] = stars[rated]
    return amount
