"""Writes a shard's checkpoints to a compacted topic, and finds the newest one that is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from schemas.errors import StateError
from schemas.lives import position_of
from schemas.releases import LEVEL, RELEASE, refuse_later
from streams.core.state.pages import (
    TABLE,
    ArrayPages,
    Manifest,
    Page,
    Source,
    Writing,
    assemble,
    contents_of,
    page_key,
)
from streams.kafka.log import KeyValue, Log
from streams.shard.page_codec import PACKING, Unpacked, pack
from streams.shard.starting_over import START_OVER

__all__ = ["Begun", "CheckpointStore", "Stored"]

READ_RECORDS = 512  # at a time, and up to four times as many where pages are small: each read costs
READ_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Stored:
    """A whole checkpoint as found in the topic."""

    manifest: Manifest
    meta: bytes
    arrays: dict[str, NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class Begun:
    """A checkpoint on its way: where in the journal it stands, and what is still to be written."""

    seq: int
    journal_offset: int
    writing: Writing


@dataclass
class CheckpointStore:
    """One shard's partition of the checkpoint topic, for one owner.

    Writing, in this order, so that at any cut the last complete checkpoint stays readable:
      1. changed pages, each to the slot that the last complete checkpoint does not use, some at a
         time; those of the table last
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
    _table: ArrayPages | None = None
    _stale_keys: set[bytes] = field(default_factory=set)

    async def load(self) -> Stored | None:
        """The newest whole checkpoint, None if there is none; StateError if all are damaged, or if
        the newest is a later release's."""
        newest = await self._read()
        manifests = sorted(
            (
                _manifest(v, f"{self.topic}/{self.shard}")
                for k, v in newest.items()
                if k.startswith(b"manifest/")
            ),
            key=lambda m: m.journal_offset,
        )
        self._stale_keys = self._earlier(newest)
        if manifests:
            newest_of_all = manifests[-1]
            place = f"the checkpoint in {self.topic}/{self.shard}"
            refuse_later(place, newest_of_all.release, newest_of_all.level)
        problems = []
        for manifest in reversed(manifests):
            try:
                return await asyncio.to_thread(_whole, manifest, newest)
            except (ValueError, msgspec.DecodeError) as exc:
                problems.append(f"step {position_of(manifest.seq)}: {exc}")
        if problems:
            raise StateError(
                f"no checkpoint in {self.topic}/{self.shard} is whole ({'; '.join(problems)}). "
                f"Restore the topic, or {START_OVER}"
            )
        return None

    async def replace_all(self) -> None:
        """Load nothing: the first complete checkpoint replaces all that earlier owners left."""
        self._stale_keys = self._earlier(await self._read())

    def _earlier(self, newest: Mapping[bytes, bytes]) -> set[bytes]:
        return {key for key in newest if _takeover_of(key) < self.takeover}

    async def _read(self) -> dict[bytes, bytes]:
        """The newest record of every key."""
        first, end = await self.log.ends(self.topic, self.shard)
        newest: dict[bytes, bytes] = {}
        start, count = first, READ_RECORDS
        while start < end:
            stop = min(end, start + count)
            records = await self.log.read(self.topic, self.shard, start, stop)
            mean = sum(len(v) for v in records.values if v is not None) / max(1, len(records))
            count = max(READ_RECORDS, min(4 * READ_RECORDS, int(READ_BYTES / max(1.0, mean))))
            start = stop
            for key, value in zip(records.keys, records.values, strict=True):
                if key is not None and value is not None:
                    newest[key] = value
                elif key is not None:
                    newest.pop(key, None)
        return newest

    @property
    def fresh(self) -> bool:
        """Whether nothing was completed yet, so that the next one needs everything."""
        return self._table is None

    def begin(
        self, seq: int, journal_offset: int, meta: bytes, sources: Mapping[str, Source]
    ) -> Begun:
        """Begin with what `streams.core.state.snapshot.freeze` gave, `everything` if `fresh`."""
        return Begun(seq, journal_offset, Writing(meta, sources, self._complete))

    async def write(self, pages: Sequence[Page]) -> int:
        """Write some of the pages that `writing.take` gave; returns the bytes that this took."""
        if not pages:
            return 0
        records = self._packed(pages)
        await self.log.append(self.topic, self.shard, records)
        return sum(len(value or b"") for _, value in records)

    def _packed(self, pages: Sequence[Page]) -> list[KeyValue]:
        return [
            (page_key(self._name, name, index, slot), pack(page))
            for name, index, slot, page in pages
        ]

    async def complete(self, begun: Begun, *, purge: bool = False) -> int:
        """Make it count, after all of its pages; returns the bytes that this took.

        `purge` also drops what the one before it had on changed pages: they may name a person
        who was erased.
        """
        table, pages = begun.writing.table(self._table)
        written = await self.write(pages)
        manifest = Manifest(
            self._name, self.writer, begun.journal_offset, begun.seq, table, PACKING, RELEASE, LEVEL
        )
        encoded = msgspec.msgpack.encode(manifest)
        await self.log.append(self.topic, self.shard, [(self._manifest_key, encoded)])
        arrays = begun.writing.arrays
        await self._sweep({**arrays, TABLE: table}, purge=purge)
        self._complete, self._table = arrays, table
        return written + len(encoded)

    async def _sweep(self, now: Mapping[str, ArrayPages], *, purge: bool) -> None:
        """Drop earlier owners' records, and arrays and pages that are gone."""
        gone = self._stale_keys
        before = {**self._complete, **({TABLE: self._table} if self._table else {})}
        for name, table in before.items():
            kept = len(now[name].slots) if name in now else 0
            for index in range(kept, len(table.slots)):
                gone |= {page_key(self._name, name, index, slot) for slot in (0, 1)}
        if purge:
            for name, table in now.items():
                for index, slot in enumerate(table.slots):
                    gone.add(page_key(self._name, name, index, 1 - slot))
        gone.discard(self._manifest_key)
        keys = sorted(gone)
        for start in range(0, len(keys), READ_RECORDS):
            some: list[KeyValue] = [(key, None) for key in keys[start : start + READ_RECORDS]]
            await self.log.append(self.topic, self.shard, some)
        self._stale_keys = set()

    @property
    def _name(self) -> str:
        return f"{self.takeover}.{self.writer}"

    @property
    def _manifest_key(self) -> bytes:
        return f"manifest/{self._name}".encode()


def _takeover_of(key: bytes) -> int:
    """Of the record's writer: `page/<takeover>.<writer>/...`, `manifest/<takeover>....`."""
    number = key.split(b"/")[1].split(b".")[0]
    return int(number) if number.isdigit() else -1


def _whole(manifest: Manifest, pages: Mapping[bytes, bytes]) -> Stored:
    if manifest.packed not in ("", PACKING):
        raise ValueError(f"its pages are packed as {manifest.packed}, which this build can't read")
    if manifest.packed:
        pages = Unpacked(pages)
    contents = contents_of(manifest, pages)
    return Stored(manifest, contents.meta, assemble(manifest.writer, contents.arrays, pages))


def _manifest(value: bytes, place: str) -> Manifest:
    try:
        return msgspec.msgpack.decode(value, type=Manifest)
    except msgspec.DecodeError as exc:
        raise StateError(
            f"a checkpoint manifest in {place} can't be read ({exc}). Run the version that wrote "
            f"it, or {START_OVER}"
        ) from exc
