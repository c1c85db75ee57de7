"""Who has which row: user ids, found by hash and compared byte for byte.

A dict of str would take five times the memory, and a str for every event before it is looked up.
Here an id that has been seen stays bytes; it becomes text only where a row is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.texts import Strings, Texts
from streams.kernels.arrays import grown, zeros
from streams.kernels.names import Directory, fill_index, find_or_add, release
from streams.kernels.strings import MOST_DIGITS, Pieces, gather, numbered

__all__ = ["UserDirectory"]

_MIN_ROWS: Final = 256
_ID_BYTES: Final = 16  # room for an id at first; grows with the ids
_FORGOTTEN: Final = -1  # the size of a row that is given to nobody any more


class UserDirectory:
    """User id -> row. Who is new gets the lowest row that is nobody's. A read-only mapping, but for
    `rows_of`, `release` and `forget`."""

    def __init__(self) -> None:
        self._n = 0
        self._used = 0
        self._unused = 0  # bytes among those in use of ids that are gone
        self._free = 0  # no row below this one is free
        self._known = 0
        self._names = np.empty(_MIN_ROWS * _ID_BYTES, np.uint8)
        self._starts = np.zeros(_MIN_ROWS, np.int64)
        self._sizes = np.zeros(_MIN_ROWS, np.int32)
        self._hashes = np.zeros(_MIN_ROWS, np.uint64)
        self._index = np.zeros(4 * _MIN_ROWS, np.int32)

    def __len__(self) -> int:
        """One more than the highest row that is not free."""
        return self._n

    def __contains__(self, user: object) -> bool:
        return isinstance(user, str) and self.get(user) is not None

    def __getitem__(self, user: str) -> int:
        row = self.get(user)
        if row is None:
            raise KeyError(user)
        return row

    def get(self, user: str) -> int | None:
        """The row of a user, or None."""
        row = int(self._find(Texts.of([user]), add=False)[0][0])
        return row if row >= 0 else None

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order of their rows."""
        return iter([user for user in self.names(slice(0, self._n)).tolist() if user])

    @property
    def known(self) -> int:
        """Users who have a row."""
        return self._known

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """xxh64 of every row's id, uint64 [rows] (a view); 0 for nobody's."""
        return self._hashes[: self._n]

    @property
    def forgotten(self) -> NDArray[np.int64]:
        """Rows that are given to nobody any more, ascending."""
        return np.flatnonzero(self._sizes[: self._n] == _FORGOTTEN)

    def named(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows belong to a user; bool [k]."""
        taken: NDArray[np.bool_] = self._sizes[rows] > 0
        return taken

    @property
    def _directory(self) -> Directory:
        return Directory(self._index, self._hashes, self._starts, self._sizes, self._names)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        arrays = (self._names, self._starts, self._sizes, self._hashes, self._index)
        return sum(a.nbytes for a in arrays)

    def rows_of(self, users: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row of each user, int64 [len(users)], and the rows of those who were not known yet,
        in the order in which they came."""
        self._reserve(self._n + len(users), self._used + int(users.size.sum(dtype=np.int64)))
        return self._find(users, add=True)

    def next_rows(self, users: Texts) -> NDArray[np.int64]:
        """The rows that `rows_of` would give to those of `users` who are not known yet; some more
        if one of these is there twice."""
        new = int(np.count_nonzero(self._find(users, add=False)[0] < 0))
        free = self._free + np.flatnonzero(self._sizes[self._free : self._n] == 0)[:new]
        return np.concatenate([free, np.arange(self._n, self._n + new - len(free))])

    def _find(self, users: Texts, *, add: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # One buffer is read-only and another is not; to the compiler these are different types.
        data = users.data.view()
        data.flags.writeable = False
        rows, added = np.empty(len(users), np.int64), np.empty(len(users) if add else 0, np.int64)
        self._n, self._used, self._free, new = find_or_add(
            self._directory, (self._n, self._used, self._free),
            Pieces(data, users.at, users.size), users.hashed, add, rows, added,
        )  # fmt: skip
        self._known += new
        return rows, added[:new]

    def texts(self, rows: NDArray[np.int64]) -> Texts:
        """The ids of some rows, as pieces of a view: good until the directory changes."""
        return Texts(self._names, self._starts[rows], self._sizes[rows], self._hashes[rows])

    def names(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """The ids of some rows, object [k]; "" for rows that are nobody's."""
        starts, sizes = self._starts[rows], np.maximum(self._sizes[rows], 0)
        found = np.empty(len(starts), object)
        if len(starts):
            # one copy of the stretch that holds them all, unless they are few and far apart
            first, last = int(starts.min()), int((starts + sizes).max())
            if last - first <= 64 * _ID_BYTES * len(starts):
                data = self._names[first:last].tobytes()
                starts = starts - first
            else:
                data = b"".join(
                    self._names[start : start + size].tobytes()
                    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
                )
                starts = np.cumsum(sizes, dtype=np.int64) - sizes
            found[:] = [
                data[start:stop].decode()
                for start, stop in zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
            ]
        return found

    def strings(self, rows: NDArray[np.int64]) -> Strings:
        """As `names`, as a column for ClickHouse; each of these rows belongs to a user."""
        starts, sizes = self._starts[rows], self._sizes[rows]
        data = np.empty(int(sizes.sum(dtype=np.int64)), np.uint8)
        gather(Pieces(self._names, starts, sizes), data)
        return Strings(data, sizes)

    def numbered(self, rows: NDArray[np.int64], numbers: NDArray[np.int32], suffix: str) -> Strings:
        """`strings`, each followed by a slash, its number (int32 [k], 0 or more) and a suffix."""
        starts, sizes = self._starts[rows], self._sizes[rows]
        end = np.frombuffer(suffix.encode(), np.uint8)
        room = int(sizes.sum(dtype=np.int64)) + len(rows) * (1 + MOST_DIGITS + len(end))
        packed, written = np.empty(room, np.uint8), np.empty(len(rows), np.int32)
        used = numbered(Pieces(self._names, starts, sizes), numbers, end, packed, written)
        return Strings(packed[:used], written)

    def release(self, rows: NDArray[np.int64]) -> None:
        """Remove the ids of `rows` (int64 [k], distinct, each a user's): others may get them."""
        self._release(rows, 0)

    def forget(self, row: int) -> None:
        """Remove a user's id; the row stays, and is given to nobody any more."""
        self._release(np.array([row], np.int64), _FORGOTTEN)

    def _release(self, rows: NDArray[np.int64], left: int) -> None:
        self._n, self._free, given_back = release(self._directory, rows, left, self._n, self._free)
        self._unused += given_back
        self._known -= len(rows)

    def load(self, users: Texts, forgotten: NDArray[np.int64]) -> None:
        """Fill an empty directory: row i is user i's; empty ids are rows that are nobody's, some of
        them for ever."""
        n, used = len(users), int(users.size.sum(dtype=np.int64))
        self._reserve(n, used)
        self._names[:used] = np.frombuffer(b"".join(users.pieces()), np.uint8)
        self._sizes[:n] = users.size
        self._starts[:n] = np.cumsum(users.size, dtype=np.int64) - users.size
        self._hashes[:n] = users.hashed
        self._known = int(np.count_nonzero(users.size))
        self._sizes[forgotten] = _FORGOTTEN
        self._n, self._used = n, used
        self._rebuild(n)

    def trim(self, rows: int) -> None:
        """Keep room for so many rows only, if these are enough."""
        rows = max(rows, self._n, _MIN_ROWS)
        if rows < len(self._starts):
            self._starts, self._sizes, self._hashes = (
                grown(a[:rows], rows) for a in (self._starts, self._sizes, self._hashes)
            )
            self._gather(2 * (self._used - self._unused))
            self._index = self._index[:0]
            self._rebuild(rows)

    def _reserve(self, rows: int, used: int) -> None:
        if rows > len(self._starts):
            room = max(rows, 2 * len(self._starts))
            self._starts, self._sizes, self._hashes = (
                grown(a, room) for a in (self._starts, self._sizes, self._hashes)
            )
        if used > len(self._names):
            more = used - self._used
            left = self._used - self._unused
            self._gather(max(left + more, 2 * left))
        if 2 * rows > len(self._index):
            self._rebuild(rows)

    def _gather(self, room: int) -> None:
        """The ids that there are, one behind the other in a buffer of so many bytes."""
        sizes = np.maximum(self._sizes[: self._n], 0)
        names = np.empty(max(room, _MIN_ROWS * _ID_BYTES), np.uint8)
        gather(Pieces(self._names, self._starts[: self._n], sizes), names)
        ends = np.cumsum(sizes, dtype=np.int64)
        self._starts[: self._n] = ends - sizes
        self._names, self._used, self._unused = names, int(ends[-1]) if self._n else 0, 0

    def _rebuild(self, rows: int) -> None:
        """An index at most half full with so many rows."""
        slots = max(len(self._index), 4 * _MIN_ROWS)
        while slots < 2 * rows:
            slots *= 2
        self._index = zeros(slots, np.int32)
        fill_index(self._directory, self._n)
