"""Who has which row: user ids, found by hash and compared byte for byte.

A dict of str would take five times the memory, and a str for every event before it is asked. Here
an id that has been seen stays bytes; it becomes text only where a row is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.kernels.names import REMOVED, find_or_add, place
from streams.core.kernels.room import grown, zeros
from streams.core.kernels.strings import gather
from streams.core.table_columns import Strings
from streams.core.texts import Texts

__all__ = ["UserDirectory"]

_MIN_ROWS: Final = 256
_ID_BYTES: Final = 16  # room for an id at first; grows by what there is


class UserDirectory:
    """User id -> row, rows in the order in which users came. A read-only mapping, but for `rows_of`
    and `forget`."""

    def __init__(self) -> None:
        self._n = 0
        self._used = 0
        self._names = np.empty(_MIN_ROWS * _ID_BYTES, np.uint8)
        self._starts = np.zeros(_MIN_ROWS, np.int64)
        self._sizes = np.zeros(_MIN_ROWS, np.int32)
        self._hashes = np.zeros(_MIN_ROWS, np.uint64)
        self._index = np.zeros(4 * _MIN_ROWS, np.int32)

    def __len__(self) -> int:
        """Rows given out, those of forgotten users included."""
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
        row = int(self._rows(Texts.of([user]), add=False)[0])
        return row if row >= 0 else None

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order of their rows; without forgotten users."""
        return iter([user for user in self.names(slice(None)).tolist() if user])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """xxh64 of every row's id, uint64 [rows] (a view)."""
        return self._hashes[: self._n]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        arrays = (self._names, self._starts, self._sizes, self._hashes, self._index)
        return sum(a.nbytes for a in arrays)

    def rows_of(self, users: Texts) -> NDArray[np.int64]:
        """The row of each user, int64 [len(users)]; users not known yet get the next rows."""
        self._reserve(self._n + len(users), self._used + int(users.size.sum(dtype=np.int64)))
        return self._rows(users, add=True)

    def _rows(self, users: Texts, *, add: bool) -> NDArray[np.int64]:
        # One buffer is read-only and another is not; to the compiler these are different types.
        data = users.data.view()
        data.flags.writeable = False
        rows = np.empty(len(users), np.int64)
        self._n, self._used = find_or_add(
            data, users.at, users.size, users.hashed,
            self._index, self._hashes, self._starts, self._sizes, self._names,
            self._n, self._used, add, rows,
        )  # fmt: skip
        return rows

    def names(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """The ids of some rows, object [k]; "" for forgotten users."""
        starts, sizes = self._starts[: self._n][rows], self._sizes[: self._n][rows]
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
        """As `names`, as a column for ClickHouse."""
        starts, sizes = self._starts[rows], self._sizes[rows]
        data = np.empty(int(sizes.sum(dtype=np.int64)), np.uint8)
        gather(self._names, starts, sizes, data)
        return Strings(data, sizes)

    def forget(self, row: int) -> None:
        """Remove a user's id; the row stays, and is nobody's."""
        size = int(self._sizes[row])
        if not size:
            return
        mask = len(self._index) - 1
        slot = int(self._hashes[row]) & mask
        while self._index[slot] != row + 1:
            slot = (slot + 1) & mask
        self._index[slot] = REMOVED
        start = int(self._starts[row])
        self._names[start : start + size] = 0
        self._sizes[row] = 0
        self._hashes[row] = 0

    def load(self, users: Texts) -> None:
        """Fill an empty directory: row i is user i's; empty ids are forgotten users' rows."""
        n, used = len(users), int(users.size.sum(dtype=np.int64))
        self._reserve(n, used)
        pieces = zip(users.at.tolist(), users.size.tolist(), strict=True)
        joined = b"".join(users.data[start : start + size].tobytes() for start, size in pieces)
        self._names[:used] = np.frombuffer(joined, np.uint8)
        self._sizes[:n] = users.size
        self._starts[:n] = np.cumsum(users.size, dtype=np.int64) - users.size
        self._hashes[:n] = users.hashed
        self._n, self._used = n, used
        self._rebuild(n)

    def _reserve(self, rows: int, used: int) -> None:
        if rows > len(self._starts):
            room = max(rows, 2 * len(self._starts))
            self._starts, self._sizes, self._hashes = (
                grown(a, room) for a in (self._starts, self._sizes, self._hashes)
            )
        if used > len(self._names):
            self._names = grown(self._names, max(used, 2 * len(self._names)))
        if 2 * rows > len(self._index):
            self._rebuild(rows)

    def _rebuild(self, rows: int) -> None:
        """An index at most half full with so many rows, and without traces of removed ones."""
        slots = len(self._index)
        while slots < 2 * rows:
            slots *= 2
        self._index = zeros(slots, np.int32)
        place(self._index, self._hashes[: self._n], self._sizes[: self._n])
