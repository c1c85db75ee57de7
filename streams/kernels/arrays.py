"""Memory for arrays that live as long as a state and have room to grow.

malloc reuses memory. To be zeros, all of it must then be overwritten, including spare capacity; and
the gaps that arrays leave when they grow fit nothing else. So large arrays are mapped directly: the
system's pages are zeros, take no memory until they are used, and go back to it at once. A million
users took 1,410 bytes each with that and 1,550 without. Short-lived arrays of a step come from
malloc, which is faster.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["grown", "zeros"]

_LARGE: Final = 1 << 20  # bytes
_HUGE: Final = 1 << 22  # from here on in pages of 2 MiB if the system has them, as numpy does


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `numpy.zeros`: an array of that shape and dtype, all 0."""
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system that has none
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def grown(array: NDArray[Any], length: int, used: int | None = None) -> NDArray[Any]:
    """An array of `length` items: the first `used` (None: all) of this one, then zeros."""
    used = len(array) if used is None else used
    longer = zeros((length, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer
