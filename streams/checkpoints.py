"""Writes a shard's checkpoints to a compacted topic, and finds the newest one that is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from streams.core.pages import ArrayPages, Manifest, assemble, changed_pages, page_key
from streams.errors import StateError
from streams.log import KeyValue, Log

__all__ = ["CheckpointStore", "Prepared", "Stored"]

_PARALLEL_PAGES = 64  # pages on the wire at a time: 16 MiB


@dataclass(frozen=True)
class Stored:
    """A whole checkpoint as found in the topic."""

    manifest: Manifest
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Prepared:
    """A checkpoint about to be written: copies, so the state may move on meanwhile."""

    manifest: Manifest
    pages: list[tuple[str, int, int, bytes]]

    @property
    def nbytes(self) -> int:
        return sum(len(page) for *_, page in self.pages)


@dataclass
class CheckpointStore:
    """One shard's partition of the checkpoint topic, for one owner.

    Writing, in this order, so that at any cut the last complete checkpoint stays readable:
      1. changed pages, each to the slot that the last complete checkpoint does not use
      2. the manifest
      3. tombstones for pages that no manifest needs any more
    """

    log: Log
    topic: str
    shard: int
    writer: str
    takeover: int = 0
    """Offset of the takeover that made `writer` the owner. It is part of all keys: what an owner
    before us left is swept away, what one after us writes is not ours to touch."""
    _complete: dict[str, ArrayPages] = field(default_factory=dict)
    _stale_keys: set[bytes] = field(default_factory=set)

    async def load(self) -> Stored | None:
        """The newest whole checkpoint, None if there is none; StateError if all are damaged."""
        first, end = await self.log.ends(self.topic, self.shard)
        records = await self.log.read(self.topic, self.shard, first, end)
        newest: dict[bytes, bytes] = {}
        for key, value in zip(records.keys, records.values, strict=True):
            if key is not None and value is not None:
                newest[key] = value
            elif key is not None:
                newest.pop(key, None)
        manifests = sorted(
            (_manifest(v) for k, v in newest.items() if k.startswith(b"manifest/")),
            key=lambda m: m.journal_offset,
        )
        self._stale_keys = {key for key in newest if _takeover_of(key) < self.takeover}
        problems = []
        for manifest in reversed(manifests):
            try:
                return Stored(manifest, assemble(manifest, newest))
            except ValueError as exc:
                problems.append(f"step {manifest.seq}: {exc}")
        if problems:
            raise StateError(
                f"no checkpoint in {self.topic}/{self.shard} is whole ({'; '.join(problems)}). "
                "Restore the topic, or delete it and the journal to rebuild from the input topics."
            )
        return None

    def prepare(
        self,
        seq: int,
        journal_offset: int,
        meta: bytes,
        arrays: Mapping[str, NDArray[Any]],
    ) -> Prepared:
        """Copy what changed. Call it between steps, where the state is at rest."""
        tables, pages = changed_pages(arrays, self._complete)
        manifest = Manifest(self._name, self.writer, journal_offset, seq, meta, tables)
        return Prepared(manifest, pages)

    async def write(self, prepared: Prepared) -> None:
        """Make the checkpoint durable; returns when it counts."""
        manifest = prepared.manifest
        records: list[KeyValue] = [
            (page_key(self._name, name, index, slot), page)
            for name, index, slot, page in prepared.pages
        ]
        for start in range(0, len(records), _PARALLEL_PAGES):
            await self.log.append(self.topic, self.shard, records[start : start + _PARALLEL_PAGES])
        await self.log.append(
            self.topic, self.shard, [(self._manifest_key, msgspec.msgpack.encode(manifest))]
        )
        await self._sweep(manifest)
        self._complete = manifest.arrays

    async def _sweep(self, manifest: Manifest) -> None:
        """Drop earlier owners' records, and arrays and pages that are gone."""
        gone = self._stale_keys
        for name, table in self._complete.items():
            kept = len(manifest.arrays[name].slots) if name in manifest.arrays else 0
            for index in range(kept, len(table.slots)):
                gone |= {page_key(self._name, name, index, slot) for slot in (0, 1)}
        gone.discard(self._manifest_key)
        if gone:
            await self.log.append(self.topic, self.shard, [(key, None) for key in sorted(gone)])
        self._stale_keys = set()

    @property
    def _name(self) -> str:
        return f"{self.takeover}.{self.writer}"

    @property
    def _manifest_key(self) -> bytes:
        return f"manifest/{self._name}".encode()


def _takeover_of(key: bytes) -> int:
    """Of whoever wrote the record: `page/<takeover>.<writer>/...`, `manifest/<takeover>....`."""
    number = key.split(b"/")[1].split(b".")[0]
    return int(number) if number.isdigit() else -1


def _manifest(value: bytes) -> Manifest:
    try:
        return msgspec.msgpack.decode(value, type=Manifest)
    except msgspec.DecodeError as exc:
        raise StateError(
            f"a checkpoint manifest can't be read ({exc}); was it written by another version?"
        ) from exc
