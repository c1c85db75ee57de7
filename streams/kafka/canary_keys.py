"""A key for each partition, so that a canary passes the workers' check of partitions.

The lag monitor needs a few keys and little memory: these are the hashes of
`streams.kernels.partitioners` in plain Python, without the compiler that the kernels bring along. A
test compares the two.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from kafka.partitioner.default import murmur2

from schemas.canary import CANARY_KEYS

__all__ = ["HASHES", "canary_keys"]


def _murmur2(key: bytes, partitions: int) -> int:
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _crc32(key: bytes, partitions: int) -> int:
    return zlib.crc32(key) % partitions


def _fnv1a(key: bytes, partitions: int) -> int:
    """Sarama takes the remainder of the signed hash, and its absolute value."""
    h = 2166136261
    for byte in key:
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    return abs(h - (1 << 32) if h >> 31 else h) % partitions


HASHES: Final[Mapping[str, Callable[[bytes, int], int]]] = MappingProxyType(
    {"murmur2": _murmur2, "crc32": _crc32, "fnv1a": _fnv1a, "unchecked": _murmur2}
)
"""The setting `[kafka] partitioner` -> the partition of a key among so many."""


def canary_keys(partitioner: str, partitions: int) -> list[bytes]:
    """The first key that belongs to each of the partitions, in their order.

    >>> canary_keys("murmur2", 2)
    [b'tideline-canary-0', b'tideline-canary-2']
    """
    place, found = HASHES[partitioner], dict[int, bytes]()
    for number in itertools.count():
        if len(found) == partitions:
            return [found[partition] for partition in range(partitions)]
        key = CANARY_KEYS + str(number).encode()
        found.setdefault(place(key, partitions), key)
    raise AssertionError
