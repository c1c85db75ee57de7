"""Fetched bytes of one topic partition to `Records`: batch headers, checksums, decompression, and
the batches of transactions that were aborted left out."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from crc32c import crc32c
from numpy.typing import NDArray

from streams.core.events.records import Records
from streams.kernels.record_batches import Batch, RecordColumns, read_batch

__all__ = ["is_v2", "read_batches"]

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LENGTH_ENDS: Final = 12  # the batch's length counts what follows it
_MAGIC_AT: Final = 16
_CRC_ENDS: Final = 21  # what follows the checksum is what it covers
_CODECS: Final = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


class _Header(NamedTuple):
    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_ms: int
    max_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def codec(self) -> int:
        return self.attributes & 0x07

    @property
    def appended_ms(self) -> int:
        """The log's own time of all records, or -1 when each has its producer's."""
        return self.max_ms if self.attributes & 0x08 else -1

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & 0x10)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & 0x20)


def is_v2(fetched: bytes) -> bool:
    """Whether the batches are of format v2; brokers convert, so all of a fetch are, or none."""
    return len(fetched) > _MAGIC_AT and fetched[_MAGIC_AT] == 2


class _Aborted:
    """Which producers' transactions were aborted, batch by batch (KIP-98, "read_committed").

    The broker lists aborted transactions as (producer id, first offset). A listed producer's
    transactional batches from that offset on are left out until its control batch ends them; the
    list has only aborted ones, so any control batch of that producer is the abort marker.
    """

    def __init__(self, transactions: Iterable[tuple[int, int]]) -> None:
        self._to_come = sorted(transactions, key=lambda each: each[1], reverse=True)
        self._producers: set[int] = set()

    def leaves_out(self, header: _Header) -> bool:
        """Whether this batch belongs to an aborted transaction. Call for each batch in order."""
        while self._to_come and self._to_come[-1][1] <= header.base_offset:
            self._producers.add(self._to_come.pop()[0])
        if not self._producers or not header.is_transactional:
            return False
        if header.is_control:
            self._producers.discard(header.producer_id)
            return False
        return header.producer_id in self._producers


def read_batches(
    fetched: bytes,
    first_wanted: int,
    *,
    check_crcs: bool,
    aborted: Iterable[tuple[int, int]] = (),
) -> tuple[Records, int, tuple[tuple[int, int], ...]]:
    """The records from offset `first_wanted` on, the next offset to fetch, and the ranges
    [first, last + 1) of offsets that markers and aborted transactions take.

    A fetch may begin before the wanted offset and end within a batch. `aborted` lists the aborted
    transactions in it as (producer id, first offset); their records are left out. Raises ValueError
    for bytes that are damaged, unless good batches come before them: then these are returned, and
    the next fetch begins at the damage.
    """
    whole = np.frombuffer(fetched, np.uint8)
    left_out = _Aborted(aborted)
    parts: list[Records] = []
    skipped: list[tuple[int, int]] = []
    at, next_offset = 0, first_wanted
    try:
        while at + _HEADER.size <= len(fetched):
            header = _Header(*_HEADER.unpack_from(fetched, at))
            start, stop = at + _HEADER.size, at + _LENGTH_ENDS + header.length
            if stop > len(fetched):
                break
            _check(fetched, at, stop, header, check_crcs)
            behind = header.base_offset + header.last_offset_delta + 1
            if left_out.leaves_out(header) or header.is_control:
                if behind > first_wanted:
                    skipped.append((max(header.base_offset, first_wanted), behind))
            elif header.codec:
                unpacked = np.frombuffer(_unpack(fetched[start:stop], header.codec), np.uint8)
                parts.append(_read(unpacked, 0, len(unpacked), header))
            else:
                parts.append(_read(whole, start, stop, header))
            at = stop
            next_offset = max(next_offset, behind)
    except ValueError:
        if not parts:
            raise
    records = _joined(parts)
    if len(records) and records.offsets[0] < first_wanted:
        records = records[int(records.offsets.searchsorted(first_wanted)) :]
    return records, next_offset, tuple(skipped)


def _check(fetched: bytes, at: int, stop: int, header: _Header, check_crcs: bool) -> None:
    if stop < at + _HEADER.size or header.magic != 2:
        raise ValueError(f"no record batch at byte {at}")
    if check_crcs and crc32c(memoryview(fetched)[at + _CRC_ENDS : stop]) != header.crc:
        raise ValueError(f"wrong checksum of the batch at offset {header.base_offset}")
    if header.records < 0:
        raise ValueError(f"the batch at offset {header.base_offset} says it has no record count")


def _unpack(packed: bytes, codec: int) -> bytes:
    if codec not in _CODECS:
        raise ValueError(f"unknown compression {codec}")
    try:
        return bytes(_CODECS[codec](packed))
    except Exception as why:  # each codec raises different errors
        raise ValueError(f"a batch can't be unpacked: {why}") from why


def _read(data: NDArray[np.uint8], start: int, stop: int, header: _Header) -> Records:
    n = min(header.records, stop - start)  # a record takes more than a byte
    columns = RecordColumns(
        np.empty(n, np.int64), np.empty(n, np.int64),
        np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int32),
    )  # fmt: skip
    batch = Batch(start, stop, header.base_offset, header.base_ms, header.appended_ms)
    if not read_batch(data, batch, columns):
        raise ValueError(f"the batch at offset {header.base_offset} can't be read")
    return Records(
        columns.offsets, columns.timestamps_ms, data,
        columns.key_at, columns.key_bytes, columns.value_at, columns.value_bytes,
    )  # fmt: skip


def _joined(parts: list[Records]) -> Records:
    """One run of all parts. Those of one buffer keep it: nothing is copied but the columns."""
    if not parts or any(part.data is not parts[0].data for part in parts):
        return Records.concat(parts)
    return Records(
        np.concatenate([p.offsets for p in parts]),
        np.concatenate([p.timestamps_ms for p in parts]),
        parts[0].data,
        np.concatenate([p.key_at for p in parts]),
        np.concatenate([p.key_bytes for p in parts]),
        np.concatenate([p.value_at for p in parts]),
        np.concatenate([p.value_bytes for p in parts]),
    )
