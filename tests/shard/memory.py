"""`MemoryLog` and `MemorySink`: the log and the sink in memory, to be crashed at any call.

Both are shared storage. A process gets its own client of each, and every client call passes
through the process's `Faults` before and after it takes effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from schemas.errors import StateError
from streams.clickhouse.buffer import checked_rows
from streams.core.events.records import Records
from streams.kafka.log import KeyValue

__all__ = ["SORTING_KEYS", "TOTALS", "Faults", "MemoryLog", "MemorySink", "NoFaults", "rows_of"]

SORTING_KEYS: Mapping[str, tuple[str, ...]] = {
    "score_history": ("user_id", "scored_at", "seq"),
    "alerts": ("alert_id", "version"),
    "segment_changes": ("user_id", "dimension", "changed_at", "change_id"),
    "audience_changes": ("audience", "user_id", "number", "changed_at", "change_id"),
    "alert_budget": ("shard", "life", "day"),
    "contacts": ("user_id", "event_id"),
    "segment_totals": ("dimension", "segment", "shard", "life"),
    "segment_moves": ("hour", "dimension", "from_segment", "to_segment", "shard", "life"),
    "definitions_taken": ("shard", "seq"),
    "campaign_sums": ("salt", "arm", "shard", "life"),
    "matured_predictions": ("shard", "ordinal"),
    "examples": ("asked_at", "user_id", "ordinal"),
    "model_drift": ("detected_at", "drift_id"),
    "score_samples": ("shard", "seq", "user_id"),
    "events": ("user_id", "ts", "event_hash"),
    "user_features": ("user_id",),
    "dead_letters": ("topic", "partition", "offset"),
    "batches": ("shard", "seq"),
}
"""As in `schemas/clickhouse`: a row replaces the one with the same key."""
TOTALS = ("campaign_sums", "segment_totals", "segment_moves", "user_features")
"""Tables where the row with the highest `seq` stays."""


class Faults(Protocol):
    """Sees every call of one process, before and after its effect; may raise, or wait."""

    async def at(self, point: str) -> None: ...

    def at_once(self, point: str) -> None:
        """As `at`, for calls that don't wait."""
        ...


class NoFaults:
    async def at(self, point: str) -> None:
        pass

    def at_once(self, point: str) -> None:
        pass


@dataclass
class _Partition:
    """What one partition holds: (offset, timestamp, key, value), by offset."""

    first: int = 0
    end: int = 0
    entries: list[tuple[int, int, bytes | None, bytes | None]] = field(default_factory=list)


class MemoryLog:
    """`streams.kafka.log.Log` in memory. Offsets, ranges and errors are those of `KafkaLog`."""

    def __init__(self) -> None:
        self._partitions: defaultdict[tuple[str, int], _Partition] = defaultdict(_Partition)
        self._faults: Faults = NoFaults()

    def client(self, faults: Faults) -> MemoryLog:
        """The same log, as one process sees it."""
        other = MemoryLog()
        other._partitions, other._faults = self._partitions, faults
        return other

    async def append(self, topic: str, partition: int, records: Sequence[KeyValue]) -> list[int]:
        await self._faults.at(f"append to {topic}: before")
        offsets = []
        for i, (key, value) in enumerate(records):
            # A producer sends records in one or several requests: any prefix may have landed.
            if i and i == len(records) // 2:
                await self._faults.at(f"append to {topic}: in the middle")
            offsets.append(self.put(topic, partition, key, value))
        await self._faults.at(f"append to {topic}: after")
        return offsets

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Records:
        await self._faults.at(f"read {topic}")
        if stop <= start:
            return Records.empty()
        here = self._partitions[topic, partition]
        if start < here.first or stop > here.end:
            raise StateError(
                f"offsets {start} to {stop} of {topic}/{partition} are needed, but the log has "
                f"{here.first} to {here.end}"
            )
        found = [entry for entry in here.entries if start <= entry[0] < stop]
        return Records.of(
            np.array([e[0] for e in found], np.int64),
            np.array([e[1] for e in found], np.int64),
            [e[2] for e in found],
            [e[3] for e in found],
        )

    async def ends(self, topic: str, partition: int) -> tuple[int, int]:
        await self._faults.at(f"ends of {topic}")
        return self.ends_now(topic, partition)

    # -- for tests: no faults, no waiting

    def put(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, at_ms: int = 0
    ) -> int:
        """Append one record; returns its offset."""
        here = self._partitions[topic, partition]
        here.entries.append((here.end, at_ms, key, value))
        here.end += 1
        return here.end - 1

    def ends_now(self, topic: str, partition: int) -> tuple[int, int]:
        here = self._partitions[topic, partition]
        return here.first, here.end

    def records(self, topic: str, partition: int) -> list[tuple[int, bytes | None, bytes | None]]:
        """All there is: (offset, key, value)."""
        return [(o, k, v) for o, _, k, v in self._partitions[topic, partition].entries]

    def compact(self, topic: str, partition: int, *, up_to: int | None = None) -> None:
        """As the broker may at any time: of each key before `up_to` keep the newest record there,
        and no tombstones. The newest record of all stays (it is in the active segment)."""
        here = self._partitions[topic, partition]
        up_to = here.end - 1 if up_to is None else min(up_to, here.end - 1)
        newest = {e[2]: e[0] for e in here.entries if e[0] < up_to}
        here.entries = [
            e
            for e in here.entries
            if e[0] >= up_to or (newest[e[2]] == e[0] and e[3] is not None) or e[2] is None
        ]

    def cut(self, topic: str, partition: int, end: int) -> None:
        """Forget everything from `end` on: what the log was before the later appends."""
        here = self._partitions[topic, partition]
        here.entries = [e for e in here.entries if e[0] < end]
        here.end = end

    def expire(self, topic: str, partition: int, first: int) -> None:
        """As retention does: drop everything before `first`."""
        here = self._partitions[topic, partition]
        here.entries = [e for e in here.entries if e[0] >= first]
        here.first = first

    def replace(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """Damage one record."""
        entries = self._partitions[topic, partition].entries
        for i, (at, ts, key, _) in enumerate(entries):
            if at == offset:
                entries[i] = (at, ts, key, value)

    def copy(self) -> MemoryLog:
        """An independent log with the same content."""
        other = MemoryLog()
        for key, here in self._partitions.items():
            other._partitions[key] = _Partition(here.first, here.end, list(here.entries))
        return other


def rows_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table's columns as rows of plain values, floats by their bits (so that NaN equals NaN)."""

    def plain(values: Any) -> list[Any]:
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            return [v.tobytes() for v in values]
        return values.tolist() if isinstance(values, np.ndarray) else list(values)

    names = list(table)
    columns = [plain(table[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class MemorySink:
    """`streams.shard.services.Sink` in memory: rows by table and sorting key, as ReplacingMergeTree
    does."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = defaultdict(dict)
        self.changed: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        """Rows that were written again with another content: (table, before, after)."""
        self._faults: Faults = NoFaults()

    def client(self, faults: Faults) -> MemorySink:
        other = MemorySink()
        other.rows, other.changed, other._faults = self.rows, self.changed, faults
        return other

    def submit(
        self,
        blocks: Mapping[str, Mapping[str, Any]],
        on_alerts: Callable[[], None] | None = None,
    ) -> Future[None]:
        for name, table in blocks.items():
            checked_rows(name, table)
        self._faults.at_once("submit: before")
        for name, table in blocks.items():
            for row in rows_of(table):
                key = tuple(row[column] for column in SORTING_KEYS[name])
                before = self.rows[name].get(key)
                if before is not None and name in TOTALS and before["seq"] != row["seq"]:
                    self.rows[name][key] = max(before, row, key=lambda each: each["seq"])
                    continue
                if before is not None and before != row:
                    self.changed.append((name, before, row))
                self.rows[name][key] = row
        self._faults.at_once("submit: after")
        if on_alerts is not None:
            on_alerts()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    async def wait_for_room(self) -> None:
        await self._faults.at("wait for room")
