"""Features of many rows, held column by column in as few bytes as keep every bit.

They are by far the largest part of a training. Order files know nothing of clicks, so nearly half
of their columns are unknown in every row, and counts fit into 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureColumns", "Features", "parts"]

_READ: Final = 1 << 12
"""Rows that are read at a time: as float32 they stay in the processor's cache."""
_PART: Final = 1 << 15
_UNKNOWN: Final = np.float32(np.nan)

Rows = NDArray[np.bool_] | NDArray[np.int64] | slice


class FeatureColumns:
    """Rows of features, which read as float32 [n, columns], bit for bit as they were added.

    A column takes nothing while it is unknown (NaN) in all rows; then 2 bytes a row while all its
    values are float16's, and 4 from the first on that is not. Unused room takes no memory.
    """

    def __init__(self, columns: int, room: int) -> None:
        self._held: list[NDArray[Any] | None] = [None] * columns
        self._room = room
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._n, len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows so far."""
        return sum(self._n * held.itemsize for held in self._held if held is not None)

    def add(self, x: NDArray[np.float32]) -> None:
        """More rows, float32 [k, columns]; beyond the room there is room for an eighth more."""
        n, stop = self._n, self._n + len(x)
        if stop > self._room:
            self._grow(stop + stop // 8)
        with np.errstate(over="ignore", invalid="ignore"):  # what doesn't fit is held as it is
            short = x.astype(np.float16)
        exact, unknown = _alike(short.astype(np.float32), x), _alike(_UNKNOWN, x)
        for i, held in enumerate(self._held):
            if held is None:
                if unknown[i]:
                    continue
                held = np.empty(self._room, np.float16)  # noqa: PLW2901
                held[:n] = _UNKNOWN
            if held.dtype == np.float16 and not exact[i]:
                held = _copied(held[:n], self._room, np.float32)  # noqa: PLW2901
            held[n:stop] = (short if held.dtype == np.float16 else x)[:, i]
            self._held[i] = held
        self._n = stop

    def _grow(self, room: int) -> None:
        self._room = room
        for i, held in enumerate(self._held):
            if held is not None:
                self._held[i] = _copied(held[: self._n], room, held.dtype)

    def __getitem__(self, at: Rows | tuple[Rows, int]) -> NDArray[np.float32]:
        """As of an array, but always a copy: `x[rows]`, float32 [k, columns], or one column of
        them, `x[rows, column]`, float32 [k]."""
        if isinstance(at, tuple):
            return self._column(*at)
        rows = np.arange(self._n)[at]
        found = np.full((len(rows), len(self._held)), _UNKNOWN)
        known = [(i, held[: self._n]) for i, held in enumerate(self._held) if held is not None]
        for start in range(0, len(rows), _READ):
            some, part = rows[start : start + _READ], found[start : start + _READ]
            for i, held in known:
                part[:, i] = held[some]
        return found

    def _column(self, rows: Rows, column: int) -> NDArray[np.float32]:
        held = self._held[column]
        if held is None:
            return np.full(len(np.arange(self._n)[rows]), _UNKNOWN)
        return held[: self._n][rows].astype(np.float32)

    def __array__(
        self, dtype: type | np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """All rows, for what wants an array: as float32 a large copy."""
        if copy is False:
            raise ValueError("Rows that are held by column are an array only as a copy")
        return self[:].astype(np.float32 if dtype is None else dtype, copy=False)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> FeatureColumns:
        """Only these rows, bool [n] or int64 [k], held in the same way."""
        held = [held if held is None else held[: self._n][rows] for held in self._held]
        found = FeatureColumns(len(held), len(np.arange(self._n)[rows]))
        found._held, found._n = held, found._room
        return found


Features = NDArray[np.float32] | FeatureColumns
"""float32 [n, F]: few rows as an array, or many by column. Both are read alike: by rows, `x[rows]`,
or one column, `x[rows, column]`."""


def parts(x: Features, at: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """The rows `at` int64 [k], some at a time: all of them at once would be a large copy."""
    for start in range(0, len(at), _PART):
        yield x[at[start : start + _PART]]


def _alike(held: NDArray[np.float32] | np.float32, x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which columns of x [k, columns] have the same bits in both, bool [columns]."""
    same: NDArray[np.bool_] = (held.view(np.uint32) == x.view(np.uint32)).all(axis=0)
    return same


def _copied(held: NDArray[Any], room: int, dtype: np.dtype[Any] | type) -> NDArray[Any]:
    """The same values at the beginning of a longer column."""
    longer = np.empty(room, dtype)
    longer[: len(held)] = held
    return longer
