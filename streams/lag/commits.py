"""The last commits of a group's partitions: windows that fill from the right, in few bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.lag.compact import Compact
from streams.lag.evaluator import Commit

__all__ = ["Commits", "KeptCommits"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Commits:
    """The last commits of each partition, the newest on the right. They change in place.

    offset, at_ms, lag: int64 [partitions, commits]; lag is -1 where it was not known. used: int64
    [partitions]; so many of the newest are filled, and the others mean nothing.
    """

    offset: Ints
    at_ms: Ints
    lag: Ints
    used: Ints

    @staticmethod
    def none(partitions: int, commits: int) -> Commits:
        offset, at_ms = (np.zeros((partitions, commits), np.int64) for _ in range(2))
        lag = np.full((partitions, commits), -1, np.int64)
        return Commits(offset, at_ms, lag, np.zeros(partitions, np.int64))

    def add(self, offsets: Ints, lags: Ints, now_ms: int, min_distance_ms: int) -> None:
        """Take in what is committed now; a negative offset is none, and one that has not moved is
        no new commit. One that comes too soon after the one before replaces it, and keeps its
        time."""
        moved = (offsets >= 0) & ((self.used == 0) | (offsets != self.offset[:, -1]))
        soon = moved & (self.used > 0)
        soon &= now_ms - self.at_ms[:, -1] < min_distance_ms
        new = np.flatnonzero(moved & ~soon)
        for column in (self.offset, self.at_ms, self.lag):
            column[new, :-1] = column[new, 1:]
        self.at_ms[new, -1] = now_ms
        self.offset[moved, -1] = offsets[moved]
        self.lag[moved, -1] = lags[moved]
        # What means nothing lies near what does: far from it, it would not fit in `Compact`.
        first = np.flatnonzero(moved & (self.used == 0))
        for column in (self.offset, self.at_ms, self.lag):
            column[first] = column[first, -1:]
        self.used[new] = np.minimum(self.used[new] + 1, self.offset.shape[1])

    def of(self, row: int) -> list[Commit]:
        """A partition's commits, oldest first."""
        since = self.offset.shape[1] - int(self.used[row])
        return [
            Commit(offset, at_ms, None if lag < 0 else lag)
            for offset, at_ms, lag in zip(
                self.offset[row, since:].tolist(),
                self.at_ms[row, since:].tolist(),
                self.lag[row, since:].tolist(),
                strict=True,
            )
        ]

    def moved(self, to: Ints, of: Ints, partitions: int) -> Commits:
        """So many partitions, whose rows `to` are the rows `of` here; the others have none."""
        wider = Commits.none(partitions, self.offset.shape[1])
        wider.offset[to], wider.at_ms[to] = self.offset[of], self.at_ms[of]
        wider.lag[to], wider.used[to] = self.lag[of], self.used[of]
        return wider


class KeptCommits:
    """Commits between two looks, in about half of their memory."""

    __slots__ = ("_at_ms", "_lag", "_offset", "_used")

    def __init__(self, commits: Commits) -> None:
        self._offset, self._at_ms = Compact(commits.offset), Compact(commits.at_ms)
        self._lag, self._used = Compact(commits.lag), commits.used

    def put(self, commits: Commits) -> None:
        """Keep these in place of the others."""
        self._offset.put(commits.offset)
        self._at_ms.put(commits.at_ms)
        self._lag.put(commits.lag)
        self._used = commits.used

    def open(self) -> Commits:
        """A copy, to change at will."""
        return Commits(
            self._offset.values(), self._at_ms.values(), self._lag.values(), self._used.copy()
        )
