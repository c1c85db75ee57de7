"""Reads Kafka's record batches (format v2) straight into columns, without an object per record.

Layout: https://kafka.apache.org/documentation/#recordbatch. Lengths and deltas of a record are
zigzag varints. Record headers are skipped: nothing uses them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.kernels.jit import kernel
from streams.kernels.memory import address, load8

__all__ = ["Batch", "RecordColumns", "read_batch"]

_FAILED: Final = -1
_MAX_VARINT_BITS: Final = 63


class Batch(NamedTuple):
    """Where a batch's records lie, bytes [start, stop) of the data, and what its header says:
    offset and time (ms) of its first record, and the time (ms) of all of them if the log sets it,
    else -1."""

    start: int
    stop: int
    base_offset: int
    base_ms: int
    appended_ms: int


class RecordColumns(NamedTuple):
    """Columns of n records: offsets; timestamps (ms since 1970 UTC); where keys and values begin in
    the data, and their size in bytes, -1 if there is none. Positions int64 [n], sizes int32 [n]."""

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    key_at: NDArray[np.int64]
    key_bytes: NDArray[np.int32]
    value_at: NDArray[np.int64]
    value_bytes: NDArray[np.int32]


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
def read_batch(data: NDArray[np.uint8], batch: Batch, columns: RecordColumns) -> bool:
    """Read n records of a batch out of `data`, uint8 [bytes], into `columns`.

    Returns False if the batch is not exactly n records, to its last byte.
    """
    base = address(data)
    at, stop = base + batch.start, base + batch.stop
    for i in range(len(columns.offsets)):
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
        columns.key_at[i], columns.key_bytes[i] = at - base, size
        at += max(size, 0)
        at, size = _varint(at, end)
        if at < 0 or size < -1 or size > end - at:
            return False
        columns.value_at[i], columns.value_bytes[i] = at - base, size
        columns.offsets[i] = batch.base_offset + delta
        own_ms = batch.base_ms + delta_ms
        columns.timestamps_ms[i] = own_ms if batch.appended_ms < 0 else batch.appended_ms
        at = end
    return at == stop
