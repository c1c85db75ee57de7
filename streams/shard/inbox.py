"""Holds fetched records of a shard's two topics until a step takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from streams.core.events.records import SOURCES, Records
from streams.core.plan import Pending, Plan

__all__ = ["Inbox"]

_NONE = np.empty(0, np.int64)


class Inbox:
    """Contiguous records per topic, from the shard's next offset on."""

    def __init__(self, offsets: tuple[int, int]) -> None:
        self._chunks: tuple[deque[Records], deque[Records]] = (deque(), deque())
        self._skipped: tuple[deque[tuple[int, int]], deque[tuple[int, int]]] = (deque(), deque())
        self._next = list(offsets)

    def has_passed(self, source: int, stop: int) -> bool:
        """Whether all of a fetched batch, which ends before `stop`, is known already."""
        return stop <= self._next[source]

    def missing_before(self, source: int, start: int) -> tuple[int, int] | None:
        """The offsets [start, stop) between what is known and a fetched batch, if there are any."""
        expected = self._next[source]
        return (expected, start) if start > expected else None

    def offer(
        self,
        source: int,
        records: Records,
        stop: int,
        skipped: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take in all that the log holds up to `stop`; what is known already is dropped.

        The caller must have asked `missing_before` and offered what the log has there. `skipped`
        are ranges of offsets that are known to have no record.
        """
        expected = self._next[source]
        if stop <= expected:
            return
        if len(records) and records.offsets[0] < expected:
            records = records[int(np.searchsorted(records.offsets, expected)) :]
        if len(records):
            self._chunks[source].append(records)
        self._skipped[source].extend(
            (max(first, expected), end) for first, end in skipped if end > expected
        )
        self._next[source] = stop

    def __len__(self) -> int:
        return sum(self.waiting(source) for source in SOURCES)

    def waiting(self, source: int) -> int:
        """Records of one topic that wait."""
        return sum(map(len, self._chunks[source]))

    def pending(self, log_ends: Sequence[int | None]) -> tuple[Pending, Pending]:
        """What a plan can choose from. `log_ends` says where each topic ends, None: not known."""
        views = []
        for source in SOURCES:
            chunks = self._chunks[source]
            log_end = log_ends[source]
            views.append(
                Pending(
                    np.concatenate([c.offsets for c in chunks]) if chunks else _NONE,
                    np.concatenate([c.timestamps_ms for c in chunks]) if chunks else _NONE,
                    log_end is not None and self._next[source] >= log_end,
                    self._next[source],
                    tuple(self._skipped[source]),
                )
            )
        return views[0], views[1]

    def take(self, plan: Plan) -> tuple[Records, Records]:
        """The records of a plan's ranges; they leave the inbox."""
        return self._take(0, plan.stop[0]), self._take(1, plan.stop[1])

    def _take(self, source: int, stop: int) -> Records:
        skipped = self._skipped[source]
        while skipped and skipped[0][1] <= stop:
            skipped.popleft()
        chunks = self._chunks[source]
        taken = []
        while chunks and chunks[0].offsets[-1] < stop:
            taken.append(chunks.popleft())
        if chunks and chunks[0].offsets[0] < stop:
            cut = int(np.searchsorted(chunks[0].offsets, stop))
            taken.append(chunks[0][:cut])
            chunks[0] = chunks[0][cut:]
        return Records.concat(taken)
