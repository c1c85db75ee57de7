"""Memory for arrays that live as long as a state and have room to grow.

malloc gives them memory that others have used. To be zeros it must be written over then, the room
that is not needed yet included; and what they leave when they grow lies in pieces that nothing
fits into. So large ones are asked of the system directly: it gives zeros that take no memory until
they are used, and has all of it back at once. A million users took 1,410 bytes each with that and
1,550 without. What a step needs for a moment comes from malloc, which has it at hand.
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
_HUGE: Final = 1 << 22  # from here on in pages of 2 MiB where there are some, as numpy's own


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As `numpy.zeros`."""
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def grown(array: NDArray[Any], length: int, used: int | None = None) -> NDArray[Any]:
    """A longer array: the first `used` items (all) of this one, and zeros."""
    used = len(array) if used is None else used
    longer = zeros((length, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer
