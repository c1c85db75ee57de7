"""Reads Kafka's record batches (format v2) straight into columns, without an object per record.

Layout: https://kafka.apache.org/documentation/#recordbatch. Lengths and deltas of a record are
zigzag varints. Headers are passed over: nothing here uses them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, load8

__all__ = ["read_batch"]

_FAILED: Final = -1
_MAX_VARINT_BITS: Final = 63


@kernel
def _varint(at: int, end: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits: (address after it, value)."""
    raw, shift = np.uint64(0), 0
    while at < end and shift <= _MAX_VARINT_BITS:
        byte = load8(at)
        at += 1
        raw |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            half, sign = np.int64(raw >> np.uint64(1)), np.int64(raw & np.uint64(1))
            return at, half ^ -sign  # type: ignore[return-value]
        shift += 7
    return _FAILED, 0


@kernel
def read_batch(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    base_offset: int,
    base_ms: int,
    appended_ms: int,
    offsets: NDArray[np.int64],
    timestamps_ms: NDArray[np.int64],
    key_at: NDArray[np.int64],
    key_bytes: NDArray[np.int32],
    value_at: NDArray[np.int64],
    value_bytes: NDArray[np.int32],
) -> bool:
    """Read len(offsets) records out of data[start:stop] into the six columns of `Records`.

    `appended_ms` is the time of all records if the log sets it, else -1. False: the bytes are not
    that many records, to the last byte.
    """
    base = address(data)
    at, stop = base + start, base + stop
    for i in range(len(offsets)):
        at, length = _varint(at, stop)
        if at < 0 or length < 0 or length > stop - at:
            return False
        end = at + length
        at += 1  # attributes: unused
        at, delta_ms = _varint(at, end)
        if at < 0:
            return False
        at, delta = _varint(at, end)
        if at < 0:
            return False
        at, size = _varint(at, end)
        if at < 0 or size < -1 or size > end - at:
            return False
        key_at[i], key_bytes[i] = at - base, size
        at += max(size, 0)
        at, size = _varint(at, end)
        if at < 0 or size < -1 or size > end - at:
            return False
        value_at[i], value_bytes[i] = at - base, size
        offsets[i] = base_offset + delta
        timestamps_ms[i] = base_ms + delta_ms if appended_ms < 0 else appended_ms
        at = end
    return at == stop
