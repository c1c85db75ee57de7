"""XXH64 over bytes in memory (xxHash, https://github.com/Cyan4973/xxHash, seed 0).

A test checks that it gives the same numbers as `xxhash.xxh64_intdigest`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streams.kernels.jit import kernel
from streams.kernels.memory import load8, load64, word

__all__ = ["xxh64"]

_P1: Final = np.uint64(0x9E3779B185EBCA87)
_P2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_P3: Final = np.uint64(0x165667B19E3779F9)
_P4: Final = np.uint64(0x85EBCA77C2B2AE63)
_P5: Final = np.uint64(0x27D4EB2F165667C5)
_START1: Final = np.uint64(0x60EA27EEADC0B5D6)  # P1 + P2
_START4: Final = np.uint64(0x61C8864E7A143579)  # -P1


@kernel
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return np.uint64((x << np.uint64(bits)) | (x >> np.uint64(64 - bits)))


@kernel
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return np.uint64(_rotate(lane + word * _P2, 31) * _P1)


@kernel
def _merge(h: np.uint64, lane: np.uint64) -> np.uint64:
    return np.uint64((h ^ _round(np.uint64(0), lane)) * _P1 + _P4)


@kernel
def xxh64(at: int, length: int) -> np.uint64:
    """Hash of `length` bytes from an address on."""
    end = at + length
    if length >= 32:
        a, b, c, d = _START1, _P2, np.uint64(0), _START4
        while at + 32 <= end:
            a = _round(a, load64(at))
            b = _round(b, load64(at + 8))
            c = _round(c, load64(at + 16))
            d = _round(d, load64(at + 24))
            at += 32
        h = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        h = _merge(_merge(_merge(_merge(h, a), b), c), d)
    else:
        h = _P5
    h += np.uint64(length)
    while at + 8 <= end:
        h = _rotate(h ^ _round(np.uint64(0), load64(at)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        h = _rotate(h ^ (word(at, 4) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        h = _rotate(h ^ (np.uint64(load8(at)) * _P5), 11) * _P1
        at += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return np.uint64(h ^ (h >> np.uint64(32)))
