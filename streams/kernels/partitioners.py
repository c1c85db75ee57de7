"""The hashes by which producers choose the partition of a key.

murmur2   Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), aiokafka,
          kafka-python, kafkajs 2, librdkafka's `murmur2` and `murmur2_random`
crc32     librdkafka's `consistent` and `consistent_random`, its default (zlib's CRC-32)
fnv1a     Sarama's hash partitioner, librdkafka's `fnv1a` and `fnv1a_random`

All arithmetic is on uint64 that holds 32 bits, so that it is the same compiled and as plain Python.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel

__all__ = ["CRC32", "FNV1A", "MURMUR2", "crc32_table", "key_partitions"]

MURMUR2: Final = 0
CRC32: Final = 1
FNV1A: Final = 2

_MASK: Final = np.uint64(0xFFFFFFFF)
_M: Final = np.uint64(0x5BD1E995)
_SEED: Final = np.uint64(0x9747B28C)
_FNV_PRIME: Final = np.uint64(16777619)
_FNV_START: Final = np.uint64(2166136261)


def crc32_table() -> NDArray[np.uint64]:
    """uint64 [256]: the remainders of CRC-32 (polynomial 0xEDB88320, reflected), by byte."""
    table = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint64(1)) ^ np.uint64(0xEDB88320), table >> 1)
    return table


@kernel
def _murmur2(data: NDArray[np.uint8], at: int, size: int) -> np.uint64:
    h = _SEED ^ np.uint64(size)
    whole = at + size // 4 * 4
    while at < whole:
        k = np.uint64(data[at]) | (np.uint64(data[at + 1]) << np.uint64(8))
        k |= (np.uint64(data[at + 2]) << np.uint64(16)) | (np.uint64(data[at + 3]) << np.uint64(24))
        k = (k * _M) & _MASK
        k = ((k ^ (k >> np.uint64(24))) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
        at += 4
    left = size & 3
    if left:
        for i in range(left):
            h ^= np.uint64(data[at + i]) << np.uint64(8 * i)
        h = (h * _M) & _MASK
    h = ((h ^ (h >> np.uint64(13))) * _M) & _MASK
    return np.uint64(h ^ (h >> np.uint64(15)))


@kernel
def _crc32(data: NDArray[np.uint8], at: int, size: int, table: NDArray[np.uint64]) -> np.uint64:
    crc = _MASK
    for i in range(size):
        low = np.int64((crc ^ np.uint64(data[at + i])) & np.uint64(255))
        crc = (crc >> np.uint64(8)) ^ table[low]
    return np.uint64(crc ^ _MASK)


@kernel
def _fnv1a(data: NDArray[np.uint8], at: int, size: int) -> np.uint64:
    h = _FNV_START
    for i in range(size):
        h = ((h ^ np.uint64(data[at + i])) * _FNV_PRIME) & _MASK
    return np.uint64(h)


@kernel
def key_partitions(
    data: NDArray[np.uint8],
    key_at: NDArray[np.int64],
    key_bytes: NDArray[np.int32],
    which: int,
    partitions: int,
    table: NDArray[np.uint64],
    found: NDArray[np.int32],
) -> None:
    """Write each key's partition into `found`, int32 [n]; -1 for a record without a key.

    Key i is data[key_at[i] : key_at[i] + key_bytes[i]]. `which` is MURMUR2, CRC32 or FNV1A; `table`
    is `crc32_table()`.
    """
    for i in range(len(key_at)):
        size = key_bytes[i]
        if size < 0:
            found[i] = -1
            continue
        if which == MURMUR2:
            # Kafka's `toPositive` drops the sign
            h = _murmur2(data, key_at[i], size) & np.uint64(0x7FFFFFFF)
            found[i] = np.int64(h) % partitions
        elif which == CRC32:
            found[i] = np.int64(_crc32(data, key_at[i], size, table)) % partitions
        else:
            # Sarama takes the remainder of the signed hash, and its absolute value
            signed = np.int64(_fnv1a(data, key_at[i], size))
            if signed >= 1 << 31:
                signed -= 1 << 32
            found[i] = abs(signed) % partitions
