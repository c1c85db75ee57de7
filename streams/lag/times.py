"""When the record at an offset was written: a table of (end offset, time) per partition.

An end offset E that was seen at time t is a bracket for records: those below E were written by t,
the one at E was written after t. So the record at offset x was written

    after   the last time at which the end was seen at or below x
    before  the first time at which the end was seen above x

and in between, records are taken as evenly spread. A point keeps both the first and the last time
of its end offset. A table that kept only the last one would stretch a burst over the silence after
it, and the lag in seconds would rise while the burst is read.

There is no extrapolation: without a point on both sides there is no time, but a reason.
All times are milliseconds since 1970.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["POINTS", "REASONS", "OffsetTimes", "Reason"]

Reason = Literal["", "uncommitted", "no_answer", "no_bracket", "expired"]
REASONS: Final[tuple[Reason, ...]] = ("", "uncommitted", "no_answer", "no_bracket", "expired")
"""Why a partition has no lag in seconds; '': it has. no_bracket: no time is known from before the
record was written. expired: retention has deleted the record."""

POINTS: Final = 24
"""Per partition. Once they are full, every second of the older ones is dropped: so the table
reaches ever further back, with wider brackets there."""
_RECENT: Final = 8  # these are never thinned out

Ints = NDArray[np.int64]


class OffsetTimes:
    """The tables of all partitions of one topic. Memory: 576 bytes per partition."""

    def __init__(self, partitions: int) -> None:
        self._offset = np.zeros((partitions, POINTS), np.int64)
        self._first_ms = np.zeros((partitions, POINTS), np.int64)
        self._last_ms = np.zeros((partitions, POINTS), np.int64)
        self._used = np.zeros(partitions, np.int64)

    @property
    def partitions(self) -> int:
        return len(self._used)

    def grow(self, partitions: int) -> None:
        """Make room for partitions that were added to the topic."""
        more = partitions - self.partitions
        if more > 0:
            wider = np.zeros((more, POINTS), np.int64)
            self._offset = np.concatenate((self._offset, wider))
            self._first_ms = np.concatenate((self._first_ms, wider))
            self._last_ms = np.concatenate((self._last_ms, wider))
            self._used = np.concatenate((self._used, np.zeros(more, np.int64)))

    def is_empty(self, partition: int) -> bool:
        return not self._used[partition]

    def first_offset(self, partition: int) -> int:
        """The offset from which on there are brackets."""
        return int(self._offset[partition, 0])

    def begin(self, partition: int, offset: int, written_ms: int) -> None:
        """Add the time of one record as an older point: of the earliest, or of the newest record.

        Refused without a word if it does not fit before the table: clocks of producers differ.
        """
        used = int(self._used[partition])
        if used and (
            offset >= self._offset[partition, 0] or written_ms > self._first_ms[partition, 0]
        ):
            return
        if used == POINTS:
            self._thin(np.array([partition]))
            used = int(self._used[partition])
        for column in (self._offset, self._first_ms, self._last_ms):
            column[partition, 1 : used + 1] = column[partition, :used].copy()
        self._offset[partition, 0] = offset
        self._first_ms[partition, 0] = self._last_ms[partition, 0] = written_ms
        self._used[partition] = used + 1

    def saw(self, partitions: Ints, ends: Ints, now_ms: int) -> None:
        """Add what a poll saw. A smaller end than before is another log: its table begins again.

        partitions, ends: int64 [n], each partition once.
        """
        last = np.maximum(self._used[partitions] - 1, 0)
        known = self._used[partitions] > 0
        before = self._offset[partitions, last]
        restarted = known & (ends < before)
        self._used[partitions[restarted]] = 0
        # A clock that was set back must not make a table that runs backwards.
        stale = known & ~restarted & (self._last_ms[partitions, last] > now_ms)
        same = known & ~stale & (ends == before)
        self._last_ms[partitions[same], last[same]] = now_ms
        new = ~same & ~stale
        rows = partitions[new]
        self._thin(rows[self._used[rows] == POINTS])
        at = self._used[rows]
        self._offset[rows, at] = ends[new]
        self._first_ms[rows, at] = self._last_ms[rows, at] = now_ms
        self._used[rows] = at + 1

    def written_ms(self, partition: int, offset: int, after_ms: int = 0) -> int | None:
        """When the record at `offset` was written; None without a point on both sides of it.

        after_ms: a time before which it was surely not written, such as that of the record before
        it; 0: none.
        """
        used = int(self._used[partition])
        right = int(np.searchsorted(self._offset[partition, :used], offset, side="right"))
        if right == used:
            return None
        until_ms = int(self._first_ms[partition, right])
        if right == 0:
            return min(after_ms, until_ms) if after_ms else None
        left = right - 1
        start, end = (int(self._offset[partition, i]) for i in (left, right))
        since_ms = int(self._last_ms[partition, left])
        if after_ms > since_ms:  # the record before it: no share of the bracket lies between
            return min(after_ms, until_ms)
        return since_ms + (until_ms - since_ms) * (offset - start) // (end - start)

    def records_per_second(self, partition: int, window_ms: int) -> float | None:
        """How fast the log grew within about the last `window_ms`; None: not seen for long."""
        used = int(self._used[partition])
        if used < 1:
            return None
        now_ms = int(self._last_ms[partition, used - 1])
        begin_ms = now_ms - window_ms
        first_ms = self._first_ms[partition, :used]
        left = max(0, int(np.searchsorted(first_ms, begin_ms, side="right")) - 1)
        since_ms = min(int(self._last_ms[partition, left]), max(begin_ms, int(first_ms[left])))
        seconds = (now_ms - since_ms) / 1000
        if seconds <= 0:
            return None
        return float(self._offset[partition, used - 1] - self._offset[partition, left]) / seconds

    def _thin(self, rows: Ints) -> None:
        """Drop every second of the older points of full rows."""
        if not len(rows):
            return
        keep = np.r_[np.arange(0, POINTS - _RECENT, 2), np.arange(POINTS - _RECENT, POINTS)]
        for column in (self._offset, self._first_ms, self._last_ms):
            column[np.ix_(rows, np.arange(len(keep)))] = column[np.ix_(rows, keep)]
        self._used[rows] = len(keep)
