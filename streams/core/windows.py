"""Rolling windows of one kind of measure for all users of a shard, exact at tile resolution.

A window that covers the newest tiles is a running sum. An event adds to the sums of every window
that covers its tile, whenever it arrives, and is written into the log of its tile; when the clock
moves a tile out of a window, the tile's log is subtracted. So every user's windows are right at the
current clock at all times, silent users' too, and a score reads them with one gather. Sums are
integers, so adding and subtracting is exact. One event costs one log entry per tile width and one
addition and one subtraction per window, however long the window is and however short its hop.

(Subtract-on-evict: Tangwongsan, Hirzel, Schneider, "In-order sliding-window aggregation in
worst-case constant time", 2020, section 2. Tiles and sawtooth windows: Chronon.)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.features import WINDOWS

__all__ = ["WindowSums", "oldest_tile"]

_HOPS_MS = sorted({w.hop_seconds * 1000 for w in WINDOWS})
_WINDOWS_BY_HOP = {
    hop: sorted(
        (
            (w.length_seconds * 1000 // hop, i)
            for i, w in enumerate(WINDOWS)
            if w.hop_seconds * 1000 == hop
        )
    )
    for hop in _HOPS_MS
}
_MAX_CHUNKS = 32  # per tile, before they are joined; keeps evicting from walking many small arrays


def oldest_tile(now_ms: int, tiles: int, hop_ms: int) -> int:
    """The oldest tile that a window of so many tiles covers at `now_ms`.

    >>> oldest_tile(10 * 86_400_000 + 5, 7, 86_400_000)
    4
    """
    return now_ms // hop_ms - tiles + 1


class WindowSums:
    """Window sums of `measures` integer measures, int32 or int64.

    `sums[w]` is [rows, measures] for window w of `schemas.features.WINDOWS`.
    """

    def __init__(self, measures: int, dtype: type[np.int32] | type[np.int64]) -> None:
        self.measures = measures
        self.dtype = np.dtype(dtype)
        self.now_ms = 0
        self.sums: list[NDArray[Any]] = [np.zeros((0, measures), dtype) for _ in WINDOWS]
        # hop -> tile -> chunks of (cell index = row * measures + measure, delta)
        self._logs: dict[int, dict[int, list[tuple[NDArray[np.int64], NDArray[Any]]]]] = {
            hop: defaultdict(list) for hop in _HOPS_MS
        }

    def reserve(self, rows: int) -> None:
        """Make room for `rows` users; new rows are zero."""
        for w, old in enumerate(self.sums):
            if rows > len(old):
                grown = np.zeros((rows, self.measures), self.dtype)
                grown[: len(old)] = old
                self.sums[w] = grown

    def advance(self, now_ms: int) -> None:
        """Move the clock forward: tiles that a window no longer covers leave its sums."""
        for hop in _HOPS_MS:
            logs = self._logs[hop]
            if logs and now_ms // hop != self.now_ms // hop:
                for tiles, w in _WINDOWS_BY_HOP[hop]:
                    before = oldest_tile(self.now_ms, tiles, hop)
                    after = oldest_tile(now_ms, tiles, hop)
                    flat = self.sums[w].reshape(-1)
                    for tile in sorted(t for t in logs if before <= t < after):
                        for cells, deltas in logs[tile]:
                            np.subtract.at(flat, cells, deltas)
                # the last window is the longest: what it dropped nobody covers
                for tile in [t for t in logs if t < after]:
                    del logs[tile]
        self.now_ms = max(self.now_ms, now_ms)

    def add(
        self,
        rows: NDArray[np.int64],
        measure: NDArray[np.int64],
        delta: NDArray[Any],
        ts_ms: NDArray[np.int64],
    ) -> None:
        """Add `delta` to one measure of one user at an event time, for k such cells at once.

        rows, measure, ts_ms: int64 [k]; delta: [k] of the sums' dtype. Cells may repeat.
        """
        if not len(rows):
            return
        cells = rows * self.measures + measure
        for hop in _HOPS_MS:
            tile = ts_ms // hop
            oldest = oldest_tile(self.now_ms, _WINDOWS_BY_HOP[hop][-1][0], hop)
            covered = tile >= oldest
            if covered.all():
                self._add_family(hop, tile, cells, delta)
            elif covered.any():
                self._add_family(hop, tile[covered], cells[covered], delta[covered])

    def _add_family(
        self,
        hop: int,
        tile: NDArray[np.int64],
        cells: NDArray[np.int64],
        delta: NDArray[Any],
    ) -> None:
        lowest = int(tile.min())
        for tiles, w in _WINDOWS_BY_HOP[hop]:
            flat = self.sums[w].reshape(-1)
            oldest = oldest_tile(self.now_ms, tiles, hop)
            if lowest >= oldest:
                np.add.at(flat, cells, delta)
            else:
                covered = tile >= oldest
                np.add.at(flat, cells[covered], delta[covered])
        logs = self._logs[hop]
        if lowest == int(tile.max()):
            self._append(logs[lowest], cells, delta)
            return
        order = np.argsort(tile, kind="stable")
        sorted_tiles = tile[order]
        starts = np.flatnonzero(np.r_[True, sorted_tiles[1:] != sorted_tiles[:-1]])
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            part = order[start:stop]
            self._append(logs[int(sorted_tiles[start])], cells[part], delta[part])

    def _append(
        self,
        chunks: list[tuple[NDArray[np.int64], NDArray[Any]]],
        cells: NDArray[np.int64],
        delta: NDArray[Any],
    ) -> None:
        chunks.append((cells, delta))
        if len(chunks) >= _MAX_CHUNKS:
            # Join the small ones only, as in a log-structured merge: each cell is copied a few
            # times, not once per batch.
            chunks.sort(key=lambda c: -len(c[0]))
            keep = 0
            total = sum(len(c[0]) for c in chunks)
            while keep < _MAX_CHUNKS // 2 and len(chunks[keep][0]) * 2 > total:
                total -= len(chunks[keep][0])
                keep += 1
            chunks[keep:] = [_join(chunks[keep:])]

    def export(self) -> dict[str, NDArray[Any]]:
        """Every tile's log as flat arrays, named `hop/tile/cells` and `hop/tile/deltas`.

        The sums are not exported: they follow from the logs.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for hop, logs in self._logs.items():
            for tile, chunks in logs.items():
                if len(chunks) > 1:
                    chunks[:] = [_join(chunks)]
                arrays[f"{hop}/{tile}/cells"], arrays[f"{hop}/{tile}/deltas"] = chunks[0]
        return arrays

    def load(self, now_ms: int, rows: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Rebuild an empty object from `export`: logs as they were, sums recomputed."""
        self.now_ms = now_ms
        self.reserve(rows)
        for name, cells in arrays.items():
            if not name.endswith("/cells"):
                continue
            hop, tile = map(int, name.split("/")[:2])
            deltas = arrays[f"{hop}/{tile}/deltas"]
            self._logs[hop][tile].append((cells, deltas))
            for tiles, w in _WINDOWS_BY_HOP[hop]:
                if tile >= oldest_tile(now_ms, tiles, hop):
                    np.add.at(self.sums[w].reshape(-1), cells, deltas)

    @property
    def nbytes(self) -> int:
        """Memory of sums and logs, in bytes."""
        logs = sum(
            cells.nbytes + deltas.nbytes
            for family in self._logs.values()
            for chunks in family.values()
            for cells, deltas in chunks
        )
        return logs + sum(s.nbytes for s in self.sums)


def _join(
    chunks: list[tuple[NDArray[np.int64], NDArray[Any]]],
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """One chunk with one entry per cell, cells ascending; entries that sum to 0 are dropped."""
    cells = np.concatenate([c for c, _ in chunks])
    deltas = np.concatenate([d for _, d in chunks])
    order = np.argsort(cells, kind="stable")
    cells, deltas = cells[order], deltas[order]
    if not len(cells):
        return cells, deltas
    starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
    summed = np.add.reduceat(deltas, starts).astype(deltas.dtype)
    left = summed != 0
    return cells[starts][left], summed[left]
