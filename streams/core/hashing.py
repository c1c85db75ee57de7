"""Hashes that are the same on every machine and in every run (Python's `hash` is not): D-006."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = ["hashes", "key_pseudonym", "mix", "stable_id", "stable_share"]

_hash64: Callable[[bytes], int] = xxhash.xxh64_intdigest
_EMPTY: Final = np.uint64(_hash64(b""))
_C1: Final = np.uint64(0xBF58476D1CE4E5B9)
_C2: Final = np.uint64(0x94D049BB133111EB)
_PSEUDONYM_DIGITS: Final = 12


def hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """xxh64 of each text's UTF-8; the empty text becomes 0, which stands for "none".

    >>> hashes(["a", ""]).tolist()
    [15154266338359012955, 0]
    """
    # map over C functions: a generator would cost as much again as the hashing
    found = np.fromiter(map(_hash64, map(str.encode, texts)), np.uint64, len(texts))
    found[found == _EMPTY] = 0
    return found


def mix(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One well-mixed uint64 of each pair (the finaliser of splitmix64 over a combination).

    >>> one, two = np.array([1], np.uint64), np.array([2], np.uint64)
    >>> bool(mix(one, two) == mix(two, one))
    False
    """
    z = a * _C2 + b  # wraps around, silently for arrays
    z = (z ^ (z >> np.uint64(30))) * _C1
    z = (z ^ (z >> np.uint64(27))) * _C2
    return z ^ (z >> np.uint64(31))


def stable_id(*parts: str | int) -> str:
    """32 hex digits that only depend on the parts (BLAKE2b-128 over their length-prefixed text).

    >>> stable_id("user", 1) == stable_id("user", 1) != stable_id("user1")
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()


def key_pseudonym(key: bytes | None) -> str:
    """A short hash of a record's key, by which a log names a customer.

    >>> key_pseudonym(b"u-42")
    'ff3dabaa8cfe'
    """
    digest = hashlib.sha256(b"tideline log\0" + (key or b"")).hexdigest()
    return digest[:_PSEUDONYM_DIGITS]


def stable_share(*parts: str | int) -> float:
    """A number in [0, 1) that only depends on the parts, uniform over them."""
    return int(stable_id(*parts)[:8], 16) / 2**32
