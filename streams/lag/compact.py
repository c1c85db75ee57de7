"""Keeps a matrix of integers in half the memory, exactly: as distances from the newest.

A window of offsets or of times holds large numbers that lie near each other. The newest of each row
is kept whole, the others as int32 distances from it. Where one distance does not fit, as after a
rewind by billions of records, the matrix is kept as int64 until all fit again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Compact", "shared"]

Ints = NDArray[np.int64]
_FITS = np.iinfo(np.int32)


class Compact:
    """int64 [rows, columns], the newest on the right; 4 bytes per number and 8 per row.

    Any int64 comes back as it was put in.
    """

    __slots__ = ("_distance", "_newest")

    def __init__(self, values: Ints) -> None:
        self._newest: Ints | None = None
        self._distance: NDArray[np.int32 | np.int64] = np.zeros((0, 0), np.int32)
        self.put(values)

    def put(self, values: Ints) -> None:
        """Hold these in place of the others; in the same memory where they fit, so that windows
        that are put once in a look do not scatter the heap."""
        newest = values[:, -1]
        # Wraps round only where the true distance is 2**63 or more; then it has the other sign.
        distance = values - newest[:, None]
        wrapped = (distance > 0) != (values > newest[:, None])
        fits = not (wrapped | (distance < _FITS.min) | (distance > _FITS.max)).any()
        kept, width = (distance, np.int32) if fits else (values, np.int64)
        if self._distance.shape != kept.shape or self._distance.dtype != width:
            self._distance = np.empty(kept.shape, width)
            self._newest = np.empty(len(kept), np.int64) if fits else None
        self._distance[:] = kept
        if self._newest is not None:
            self._newest[:] = newest

    def values(self) -> Ints:
        """A copy, to change at will."""
        if self._newest is None:
            return self._distance.astype(np.int64)
        return self._newest[:, None] + self._distance

    @property
    def nbytes(self) -> int:
        return self._distance.nbytes + (0 if self._newest is None else self._newest.nbytes)


def shared(new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
    """`old` if it has the same bits, else `new`. Neither may be changed in place."""
    same = new.dtype == old.dtype and new.shape == old.shape and new.tobytes() == old.tobytes()
    return old if same else new
