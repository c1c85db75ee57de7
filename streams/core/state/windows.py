"""Rolling windows of one kind of measure for all users of a shard, exact at tile resolution.

A window that covers the newest tiles is a running sum. An event adds to the sums of every window
that covers its tile, whenever it arrives, and is written into the log of its tile; when the clock
moves a tile out of a window, the tile's log is subtracted. So every user's windows are right at the
current clock at all times, silent users' too, and a score reads them with one gather. Sums are
integers, so adding and subtracting is exact. One event costs one log entry per tile width and one
addition and one subtraction per window, however long the window is and however short its hop.

(Subtract-on-evict, D-012: Tangwongsan, Hirzel, Schneider, "In-order sliding-window aggregation in
worst-case constant time", 2020, section 2. Tiles and sawtooth windows: Chronon.)

Memory: sums begin at half the width that they may need, and all are widened when one of them would
overflow. A user's sums lie side by side, all windows of a measure next to each other. Logs keep a
cell in 4 bytes and a delta in as few as fit; a tile that time has passed is sorted, and keeps its
cells as gaps of 2 bytes.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import WINDOWS
from streams.kernels.arrays import grown, zeros
from streams.kernels.cells import DIGITS, Entries, combine_cells
from streams.kernels.sums import add_events, take_from_window

__all__ = ["Chunk", "WindowSums", "begins_ms", "join_chunks", "oldest_tile"]

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
_OF_HOP = {hop: np.array([w.hop_seconds * 1000 == hop for w in WINDOWS]) for hop in _HOPS_MS}
_MAX_CHUNKS = 32  # per tile, before they are joined; keeps evicting from walking many small arrays
_SEALED_FROM_MS = 3_600_000  # shorter tiles are gone before sorting them would pay
_NARROW: Final[dict[Any, Any]] = {
    np.dtype(np.int32): np.dtype(np.int16),
    np.dtype(np.int64): np.dtype(np.int32),
}
_WIDTHS: Final = (np.int8, np.int16, np.int32)


def oldest_tile(now_ms: int, tiles: int, hop_ms: int) -> int:
    """The oldest tile that a window of so many tiles covers at `now_ms`.

    >>> oldest_tile(10 * 86_400_000 + 5, 7, 86_400_000)
    4
    """
    return now_ms // hop_ms - tiles + 1


def begins_ms(now_ms: int, length_seconds: int, hop_seconds: int) -> int:
    """The first time that a window covers at `now_ms`."""
    hop_ms = hop_seconds * 1000
    return oldest_tile(now_ms, length_seconds // hop_seconds, hop_ms) * hop_ms


def _all_begin_ms(now_ms: int) -> NDArray[np.int64]:
    """The first time that each window covers at `now_ms`; int64 [windows]."""
    begins = [begins_ms(now_ms, w.length_seconds, w.hop_seconds) for w in WINDOWS]
    return np.array(begins, np.int64)


@dataclass(slots=True, eq=False)
class Chunk:
    """A part of one tile's log: what was added to which cells. It never changes once made.

    cells: uint32 [k], cell index (row * measures + measure); or, with `gaps`, uint16 [k], the
    differences of ascending indices, the first from 0. deltas: [k], as narrow as they fit. `number`
    is its name in checkpoints, once it has one, and `written` what checkpoints write of it.
    """

    cells: NDArray[Any]
    deltas: NDArray[Any]
    gaps: bool = False
    number: int = -1
    written: tuple[tuple[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def nbytes(self) -> int:
        return self.cells.nbytes + self.deltas.nbytes

    @property
    def index(self) -> NDArray[np.uint32]:
        """The cells' indices, uint32 [k]."""
        return np.cumsum(self.cells, dtype=np.uint32) if self.gaps else self.cells


class WindowSums:
    """Window sums of `measures` integer measures, int32 or int64.

    `table` is [rows, measures, windows], in the order of `schemas.features.WINDOWS`, of that dtype
    or of half its width.

    `counted_from_ms`, int64 [measures, windows]: a sum has no events before this time, because the
    build of that time did not have the sum. `short`, bool [measures, windows]: sums that lack
    events of their window for this reason; None, the usual case, if there are none.
    """

    def __init__(self, measures: int, dtype: type[np.int32] | type[np.int64]) -> None:
        self.measures = measures
        self.dtype = np.dtype(dtype)
        self.now_ms = 0
        self.table: NDArray[Any] = np.zeros((0, measures, len(WINDOWS)), _NARROW[self.dtype])
        self.counted_from_ms = np.zeros((measures, len(WINDOWS)), np.int64)
        self.short: NDArray[np.bool_] | None = None
        self._begins_ms = _all_begin_ms(0)
        self.numbers = count()
        self._left_behind: deque[tuple[int, int]] = deque()  # (hop, tile), to be packed
        self._logs: dict[int, dict[int, list[Chunk]]] = {  # hop -> tile -> chunks
            hop: defaultdict(list) for hop in _HOPS_MS
        }

    def reserve(self, rows: int) -> None:
        """Make room for `rows` users; new rows are zero, and take no memory until they are used."""
        if rows * self.measures > np.iinfo(np.uint32).max:
            raise OverflowError(f"{rows} users are too many for one shard: use more partitions")
        if rows > len(self.table):
            self.table = grown(self.table, rows)

    def trim(self, rows: int) -> None:
        """Keep room for so many rows only; those beyond are zero."""
        self.table = grown(self.table[:rows], rows)

    def advance(self, now_ms: int) -> None:
        """Move the clock forward: tiles that a window no longer covers leave its sums."""
        for hop in _HOPS_MS:
            logs = self._logs[hop]
            if logs and now_ms // hop != self.now_ms // hop:
                for tiles, w in _WINDOWS_BY_HOP[hop]:
                    before = oldest_tile(self.now_ms, tiles, hop)
                    after = oldest_tile(now_ms, tiles, hop)
                    for tile in sorted(t for t in logs if before <= t < after):
                        for chunk in logs[tile]:
                            self._leave(w, chunk.index, chunk.deltas)
                # the last window is the longest: what it dropped nobody covers
                for tile in [t for t in logs if t < after]:
                    del logs[tile]
                if hop >= _SEALED_FROM_MS:
                    first, stop = self.now_ms // hop, now_ms // hop
                    self._left_behind.extend((hop, t) for t in logs if first <= t < stop)
        self.now_ms = max(self.now_ms, now_ms)
        self._begins_ms = _all_begin_ms(self.now_ms)
        if self.short is not None:
            self._see_what_is_short()
        self._seal()

    def _see_what_is_short(self) -> None:
        short: NDArray[np.bool_] = self.counted_from_ms > self._begins_ms
        self.short = short if short.any() else None

    def _seal(self) -> None:
        """Sort and pack a tile that the clock has left behind; only late events go there now. One
        with every step: a day of a million users takes tens of milliseconds."""
        while self._left_behind:
            hop, tile = self._left_behind.popleft()
            if chunks := self._logs[hop].get(tile):
                chunks[:] = [join_chunks(chunks)]
                return

    def seal_past(self) -> None:
        """Sort and pack all that the clock has passed: after much was added to the past at once."""
        for hop, logs in self._logs.items():
            if hop >= _SEALED_FROM_MS:
                for tile, chunks in logs.items():
                    if tile < self.now_ms // hop and chunks:
                        chunks[:] = [join_chunks(chunks)]

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
        cells = (rows * self.measures + measure).astype(np.uint32)
        self._add_all(cells, delta, ts_ms)
        delta = _narrowed(delta)
        first_ms, last_ms = int(ts_ms.min()), int(ts_ms.max())
        for hop in _HOPS_MS:
            oldest = oldest_tile(self.now_ms, _WINDOWS_BY_HOP[hop][-1][0], hop)
            lowest, highest = first_ms // hop, last_ms // hop
            if lowest == highest:  # as mostly, when events come as they happen
                if lowest >= oldest:
                    _append(self._logs[hop][lowest], Chunk(cells, delta))
                continue
            tile = ts_ms // hop
            covered = tile >= oldest
            if covered.all():
                self._log(hop, tile, cells, delta)
            elif covered.any():
                self._log(hop, tile[covered], cells[covered], delta[covered])

    def _log(
        self,
        hop: int,
        tile: NDArray[np.int64],
        cells: NDArray[np.uint32],
        delta: NDArray[Any],
    ) -> None:
        """Write into the logs of tiles what will leave the windows with them."""
        lowest, highest = int(tile.min()), int(tile.max())
        logs = self._logs[hop]
        # numpy sorts 16-bit numbers by counting digits, wider ones by comparing them
        few = highest - lowest <= np.iinfo(np.uint16).max
        order = np.argsort((tile - lowest).astype(np.uint16) if few else tile, kind="stable")
        sorted_tiles = tile[order]
        starts = np.flatnonzero(np.r_[True, sorted_tiles[1:] != sorted_tiles[:-1]])
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            part = order[start:stop]
            _append(logs[int(sorted_tiles[start])], Chunk(cells[part], delta[part]))

    def _add_all(
        self,
        cells: NDArray[np.uint32],
        deltas: NDArray[Any],
        ts_ms: NDArray[np.int64],
        windows: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add to all windows that cover each time; or to those among `windows`, bool [windows]."""
        begins = self._begins_ms
        if windows is not None:
            begins = np.where(windows, begins, np.iinfo(np.int64).max)
        entries, done = Entries(cells, deltas.astype(self.dtype, copy=False)), 0
        while done < len(cells):
            table, most = self._flat()
            done = add_events(table, entries, ts_ms, begins, done, most)
            if done < len(cells):
                self._widen()

    def _leave(self, w: int, cells: NDArray[np.uint32], deltas: NDArray[Any]) -> None:
        """Take from the sums of window w."""
        entries, done = Entries(cells, deltas.astype(self.dtype, copy=False)), 0
        while done < len(cells):
            table, most = self._flat()
            done = take_from_window(table, w, entries, done, most)
            if done < len(cells):
                self._widen()

    def _flat(self) -> tuple[NDArray[Any], int]:
        """The sums as [cells, windows], and the largest one that there is room for."""
        return self.table.reshape(-1, len(WINDOWS)), int(np.iinfo(self.table.dtype).max)

    def _widen(self) -> None:
        """One sum has become too large for half the width: give all of them all of it."""
        if self.table.dtype == self.dtype:
            raise OverflowError(f"a window's sum is beyond {self.dtype}")
        wider = zeros(self.table.shape, self.dtype)
        wider[:] = self.table
        self.table = wider

    def drop_row(self, row: int) -> None:
        """Make one user's windows as empty as a new row's, now and at every later clock."""
        self.table[row] = 0
        first, stop = row * self.measures, (row + 1) * self.measures
        for logs in self._logs.values():
            for chunks in logs.values():
                for i, chunk in enumerate(chunks):
                    cells = chunk.index
                    others = (cells < first) | (cells >= stop)
                    if not others.all():
                        # another chunk, by another name: one that is written never changes
                        chunks[i] = Chunk(cells[others], chunk.deltas[others])

    def chunks(self) -> Iterator[tuple[int, int, Chunk]]:
        """Every part of every log: (hop, tile, chunk)."""
        for hop, logs in self._logs.items():
            for tile, chunks in logs.items():
                for chunk in chunks:
                    yield hop, tile, chunk

    def load(
        self,
        now_ms: int,
        rows: int,
        chunks: Iterable[tuple[int, int, Chunk]],
        counted_from_ms: NDArray[np.int64],
    ) -> None:
        """Fill an empty object with what `chunks` gave, and sum it up. ValueError if
        `counted_from_ms` has another size."""
        self.now_ms = now_ms
        self.reserve(rows)
        self._begins_ms = _all_begin_ms(now_ms)
        self.counted_from_ms = counted_from_ms.reshape(self.counted_from_ms.shape).copy()
        self._see_what_is_short()
        for hop, tile, chunk in chunks:
            self._logs[hop][tile].append(chunk)
            self._add_all(chunk.index, chunk.deltas, np.full(len(chunk), tile * hop), _OF_HOP[hop])

    def part(self, rows: NDArray[np.int64], room: int) -> WindowSums:
        """The windows of some users: row rows[i] (int64 [k], ascending) becomes row i. `room`: how
        many rows to allocate."""
        part = WindowSums(self.measures, np.int32 if self.dtype == np.int32 else np.int64)
        part.now_ms, part._begins_ms = self.now_ms, self._begins_ms
        part.counted_from_ms, part.short = self.counted_from_ms, self.short
        part.table = zeros((room, *self.table.shape[1:]), self.table.dtype)
        part.table[: len(rows)] = self.table[rows]
        part._left_behind = self._left_behind.copy()
        place = np.full(len(self.table), -1, np.int64)
        place[rows] = np.arange(len(rows))
        for hop, tile, chunk in self.chunks():
            row, measure = np.divmod(chunk.index, np.uint32(self.measures))
            at = place[row]
            mine = np.flatnonzero(at >= 0)
            if len(mine):
                cells = (at[mine] * self.measures + measure[mine]).astype(np.uint32)
                new = (_packed if chunk.gaps else Chunk)(cells, chunk.deltas[mine])
                part._logs[hop][tile].append(new)
        return part

    def export(self, rank: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Every tile's log in one way of the many that mean the same, to compare two objects.

        rank: int64 [rows], what to count each row as. Named `hop/tile/cells` (uint32, ascending)
        and `hop/tile/deltas`, of the sums' dtype.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for hop, logs in self._logs.items():
            for tile in sorted(logs):
                index = np.concatenate([c.index for c in logs[tile]]).astype(np.int64)
                cells = rank[index // self.measures] * self.measures + index % self.measures
                deltas = np.concatenate([c.deltas.astype(self.dtype) for c in logs[tile]])
                joined = join_chunks([Chunk(cells.astype(np.uint32), deltas)])
                if len(joined):
                    arrays[f"{hop}/{tile}/cells"] = joined.index
                    arrays[f"{hop}/{tile}/deltas"] = joined.deltas.astype(self.dtype)
        return arrays

    def nbytes(self, rows: int) -> int:
        """Memory of sums and logs of the first `rows` users, in bytes."""
        logs = sum(chunk.nbytes for _, _, chunk in self.chunks())
        return logs + self.table[:rows].nbytes


def _append(chunks: list[Chunk], chunk: Chunk) -> None:
    chunks.append(chunk)
    if len(chunks) >= _MAX_CHUNKS:
        # Join the small ones only, as in a log-structured merge: each cell is copied a few
        # times, not once per batch.
        chunks.sort(key=len, reverse=True)
        keep = 0
        total = sum(map(len, chunks))
        while keep < _MAX_CHUNKS // 2 and len(chunks[keep]) * 2 > total:
            total -= len(chunks[keep])
            keep += 1
        chunks[keep:] = [join_chunks(chunks[keep:])]


def join_chunks(chunks: list[Chunk]) -> Chunk:
    """One chunk with one entry per cell, cells ascending; entries that sum to 0 are dropped."""
    if len(chunks) == 1 and chunks[0].gaps:
        return chunks[0]
    cells = np.concatenate([chunk.index for chunk in chunks])
    deltas = np.concatenate([chunk.deltas.astype(np.int64) for chunk in chunks])
    entries = Entries(cells, deltas)
    spare = Entries(np.empty_like(cells), np.empty_like(deltas))
    left, swapped = combine_cells(entries, spare, np.empty(DIGITS, np.int64))
    cells, deltas = spare if swapped else entries
    return _packed(cells[:left].copy(), _narrowed(deltas[:left]))


def _packed(cells: NDArray[np.uint32], deltas: NDArray[Any]) -> Chunk:
    """A chunk of these. `cells` ascend; they are kept as gaps if all gaps fit into 16 bits."""
    gaps = np.diff(cells, prepend=np.uint32(0))
    if not len(gaps) or int(gaps.max()) > np.iinfo(np.uint16).max:
        return Chunk(cells, deltas)
    return Chunk(gaps.astype(np.uint16), deltas, gaps=True)


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """The same integers in the narrowest signed dtype that holds them all."""
    if not len(values):
        return values.astype(np.int8)
    low, high = int(values.min()), int(values.max())
    for dtype in _WIDTHS:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype, copy=False)
    return values
