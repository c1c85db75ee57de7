"""Decides the partition of a key, as Kafka's own clients do, for many keys at once.

The hash is murmur2 of the Java client (`org.apache.kafka.common.utils.Utils.murmur2`). Clickstream
and orders are co-partitioned because both are sent through it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Partitioner", "murmur2"]

_M: Final = np.uint32(0x5BD1E995)
_SEED: Final = 0x9747B28C


class Partitioner:
    """Remembers the partition of each key; hashes the unknown ones of a block together."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._known: dict[bytes, int] = {}
        self._keyless = 0

    def assign(self, keys: Sequence[bytes | None]) -> list[int]:
        """The partition of each key; records without one go round robin."""
        known = self._known
        fresh = set(keys).difference(known)
        fresh.discard(None)
        if fresh:
            unknown = [key for key in fresh if key is not None]
            hashes = murmur2(unknown) & np.uint32(0x7FFFFFFF)
            known.update(zip(unknown, (hashes % self.partitions).tolist(), strict=True))
        if None not in keys:
            return list(map(known.__getitem__, keys))  # type: ignore[arg-type]
        return [self._next() if key is None else known[key] for key in keys]

    def _next(self) -> int:
        self._keyless += 1
        return self._keyless % self.partitions


def murmur2(keys: Iterable[bytes]) -> NDArray[np.uint32]:
    """The 32-bit hash of each key, uint32 [n].

    >>> murmur2([b"21", b"foobar"]).astype("int32").tolist()
    [-973932308, -790332482]
    """
    keys = list(keys)
    out = np.empty(len(keys), np.uint32)
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        by_length[len(key)].append(i)
    for length, rows in by_length.items():
        flat = np.frombuffer(b"".join([keys[i] for i in rows]), np.uint8)
        out[rows] = _same_length(flat.reshape(len(rows), length))
    return out


def _same_length(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """`data`: uint8 [n, length]. uint32 arithmetic wraps around, as the algorithm wants."""
    n, length = data.shape
    h = np.full(n, (_SEED ^ length) & 0xFFFFFFFF, np.uint32)
    whole = length // 4 * 4
    words = np.ascontiguousarray(data[:, :whole]).view("<u4") if whole else data[:, :0]
    for column in range(whole // 4):
        k = words[:, column] * _M
        k = (k ^ (k >> np.uint32(24))) * _M
        h = (h * _M) ^ k
    if length > whole:
        for i in range(length - whole):
            h ^= data[:, whole + i].astype(np.uint32) << np.uint32(8 * i)
        h *= _M
    h = (h ^ (h >> np.uint32(13))) * _M
    result: NDArray[np.uint32] = h ^ (h >> np.uint32(15))
    return result
