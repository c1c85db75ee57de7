"""Moves short texts between buffers: out of the directory of names, into rows for ClickHouse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = ["gather", "length_prefixed"]


@kernel
def gather(
    names: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    data: NDArray[np.uint8],
) -> None:
    """Copy the pieces of `names` into `data`, which has just room for them, one after the other."""
    used = 0
    for i in range(len(starts)):
        start = starts[i]
        for byte in range(sizes[i]):
            data[used + byte] = names[start + byte]
        used += sizes[i]


@kernel
def length_prefixed(
    data: NDArray[np.uint8], sizes: NDArray[np.int32], packed: NDArray[np.uint8]
) -> int:
    """Write each piece after its length (unsigned LEB128); returns the bytes that this took."""
    at, used = 0, 0
    for i in range(len(sizes)):
        left = np.int64(sizes[i])
        while left > 127:
            packed[used] = np.uint8(left & 127 | 128)
            used += 1
            left >>= 7
        packed[used] = np.uint8(left)
        used += 1
        for byte in range(sizes[i]):
            packed[used + byte] = data[at + byte]
        used += sizes[i]
        at += sizes[i]
    return used
