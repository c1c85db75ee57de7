"""Raw records of one source partition, as columns: what travels from the transport to the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLICKSTREAM", "ORDERS", "SOURCES", "RecordBatch", "Records"]

CLICKSTREAM: Final = 0
ORDERS: Final = 1
SOURCES: Final = (CLICKSTREAM, ORDERS)
"""The two input topics, by the index used everywhere a pair of offsets is kept."""


@dataclass(frozen=True)
class Records:
    """A run of records of one topic partition, in offset order.

    Keys and values are pieces of one buffer, so that a fetched batch needs no object per record:
    record i's key is data[key_at[i] : key_at[i] + key_bytes[i]]. Made by `of` or by the transport.
    """

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    data: NDArray[np.uint8]
    key_at: NDArray[np.int64]
    key_bytes: NDArray[np.int32]
    """-1: the record has no key."""
    value_at: NDArray[np.int64]
    value_bytes: NDArray[np.int32]
    """-1: the record has no value."""

    def __len__(self) -> int:
        return len(self.offsets)

    def between(self, start: int, stop: int) -> Records:
        """Those with start <= offset < stop."""
        first, last = np.searchsorted(self.offsets, (start, stop)).tolist()
        return self[first:last]

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Records:
        return Records(
            self.offsets[part],
            self.timestamps_ms[part],
            self.data,
            self.key_at[part],
            self.key_bytes[part],
            self.value_at[part],
            self.value_bytes[part],
        )

    @cached_property
    def keys(self) -> list[bytes | None]:
        """The keys as objects: for a caller that needs few of them, or each by itself."""
        return self._pieces(self.key_at, self.key_bytes)

    @cached_property
    def values(self) -> list[bytes | None]:
        """The values as objects."""
        return self._pieces(self.value_at, self.value_bytes)

    def _pieces(self, at: NDArray[np.int64], size: NDArray[np.int32]) -> list[bytes | None]:
        if not len(self):
            return []
        first, last = self._used()
        data = self.data[first:last].tobytes()
        starts = at - first
        return [
            data[start:stop] if stop >= start else None
            for start, stop in zip(starts.tolist(), (starts + size).tolist(), strict=True)
        ]

    @staticmethod
    def of(
        offsets: NDArray[np.int64],
        timestamps_ms: NDArray[np.int64],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> Records:
        """Records from n keys and values. offsets, timestamps_ms: int64 [n]."""
        pieces = [piece or b"" for piece in (*keys, *values)]
        sizes = np.array([-1 if p is None else len(p) for p in (*keys, *values)], np.int32)
        ends = np.cumsum(np.maximum(sizes, 0), dtype=np.int64)
        at, n = ends - np.maximum(sizes, 0), len(keys)
        data = np.frombuffer(b"".join(pieces), np.uint8)
        return Records(offsets, timestamps_ms, data, at[:n], sizes[:n], at[n:], sizes[n:])

    @staticmethod
    def empty() -> Records:
        none = np.empty(0, np.int64)
        return Records.of(none, none, (), ())

    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        """Join runs that follow each other; one run is returned as it is."""
        parts = [part for part in parts if len(part)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Records.empty()
        used = [part._used() for part in parts]  # noqa: SLF001
        # where each part's bytes move to, less where they were
        moved = np.cumsum([0] + [stop - start for start, stop in used[:-1]])
        moved -= np.array([start for start, _ in used])
        return Records(
            np.concatenate([p.offsets for p in parts]),
            np.concatenate([p.timestamps_ms for p in parts]),
            np.concatenate([p.data[a:b] for p, (a, b) in zip(parts, used, strict=True)]),
            np.concatenate([p.key_at + by for p, by in zip(parts, moved, strict=True)]),
            np.concatenate([p.key_bytes for p in parts]),
            np.concatenate([p.value_at + by for p, by in zip(parts, moved, strict=True)]),
            np.concatenate([p.value_bytes for p in parts]),
        )

    def _used(self) -> tuple[int, int]:
        """The range of `data` that holds these records: a slice shares the whole batch's."""
        starts = min(int(self.key_at.min()), int(self.value_at.min()))
        stops = max(
            int((self.key_at + self.key_bytes).max()), int((self.value_at + self.value_bytes).max())
        )
        return starts, max(starts, stops)


@dataclass(frozen=True)
class RecordBatch:
    """What one poll returned for one topic partition: all that the log holds in [start, stop).

    Some of these offsets may have no record: transaction markers and aborted transactions take
    offsets too. So `stop` may lie behind the last record, and a batch may hold no record at all.
    """

    topic: str
    partition: int
    records: Records
    start: int
    stop: int
    skipped: tuple[tuple[int, int], ...] = ()
    """Ranges [first, last + 1) of offsets that are known to have no record for us."""

    @staticmethod
    def of(topic: str, partition: int, records: Records) -> RecordBatch:
        """A batch that begins and ends with its records, of which there must be some."""
        start, stop = int(records.offsets[0]), int(records.offsets[-1]) + 1
        return RecordBatch(topic, partition, records, start, stop)
