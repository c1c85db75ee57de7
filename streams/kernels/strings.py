"""Copies short texts between buffers: from the directory of user ids, into ClickHouse rows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = ["MOST_DIGITS", "Pieces", "gather", "length_prefixed", "numbered"]

MOST_DIGITS: Final = 10
"""Of a number below 2^31."""


class Pieces(NamedTuple):
    """n pieces of one buffer: piece i is data[at[i] : at[i] + size[i]].

    data: uint8 [bytes]; at: int64 [n]; size: int32 [n], bytes. What a negative size means is up to
    the function that takes the pieces.
    """

    data: NDArray[np.uint8]
    at: NDArray[np.int64]
    size: NDArray[np.int32]


@kernel
def gather(pieces: Pieces, packed: NDArray[np.uint8]) -> None:
    """Copy the pieces, of sizes of 0 or more, into `packed`, one after the other: uint8 [sum of
    their sizes]."""
    used = 0
    for i in range(len(pieces.at)):
        start = pieces.at[i]
        for byte in range(pieces.size[i]):
            packed[used + byte] = pieces.data[start + byte]
        used += pieces.size[i]


@kernel
def length_prefixed(
    data: NDArray[np.uint8], sizes: NDArray[np.int32], packed: NDArray[np.uint8]
) -> int:
    """Write each text after its length in bytes, an unsigned LEB128 number, into `packed`.

    data: uint8 [sum of sizes], the texts one after the other; sizes: int32 [n], bytes; packed:
    uint8, with room for 5 bytes more per text. Returns the bytes written.
    """
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


@kernel
def numbered(
    pieces: Pieces,
    numbers: NDArray[np.int32],
    suffix: NDArray[np.uint8],
    packed: NDArray[np.uint8],
    sizes: NDArray[np.int32],
) -> int:
    """Write each piece, a slash, its number in decimal digits, and the suffix into `packed`.

    numbers: int32 [n], 0 or more; suffix: uint8 [s]; packed: uint8, with room for
    1 + MOST_DIGITS + s bytes more per piece; sizes: int32 [n], the bytes of each. Returns the bytes
    written.
    """
    used = 0
    for i in range(len(pieces.at)):
        began = used
        for byte in range(pieces.size[i]):
            packed[used + byte] = pieces.data[pieces.at[i] + byte]
        used += pieces.size[i]
        packed[used] = np.uint8(47)  # "/"
        digits, left = 1, np.int64(numbers[i])
        while left > 9:
            digits += 1
            left //= 10
        left = np.int64(numbers[i])
        for place in range(digits):
            packed[used + digits - place] = np.uint8(48 + left % 10)
            left //= 10
        used += 1 + digits
        for byte in range(len(suffix)):
            packed[used + byte] = suffix[byte]
        used += len(suffix)
        sizes[i] = used - began
    return used
