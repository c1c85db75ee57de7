"""Cuts a shard's arrays into pages and says which must be written: the pure half of a checkpoint.

A page is up to 256 KiB of one array's bytes. Loading checks every page by hash; writing leaves out
those whose hash is that of the last checkpoint.

A page has two slots, and each writing goes to the one that the last complete checkpoint does not
use. So a checkpoint that was cut short has overwritten nothing, also in a compacted topic. The
table of all pages is cut into pages as well, so that no record grows with the number of users.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = [
    "PAGE_BYTES",
    "ArrayPages",
    "Contents",
    "Manifest",
    "Page",
    "Source",
    "Writing",
    "assemble",
    "contents_of",
    "page_key",
]

PAGE_BYTES: Final = 256 * 1024
_EVERYTHING: Final = 2**62
_LEAST_BYTES: Final = 64 * 1024
"""What a page counts as, however short: one of 1,024 names takes longer to make than 64 KiB."""
TABLE: Final = "~table"
"""Under this name the table of pages itself is written."""

Page = tuple[str, int, int, bytes]
"""Array name, page index, slot, and the bytes."""


class ArrayPages(msgspec.Struct, frozen=True, array_like=True):
    """One array: its numpy dtype, length in items, bytes per page, and slot and hash of each.

    A length of -1: one page, of whatever length.
    """

    dtype: str
    length: int
    page_bytes: int
    slots: list[int]
    hashes: list[int]


class Contents(msgspec.Struct, frozen=True):
    """What a checkpoint holds."""

    meta: bytes
    arrays: dict[str, ArrayPages]


class Manifest(msgspec.Struct, frozen=True):
    """A complete checkpoint: written last, it makes the pages count."""

    writer: str
    """Whose pages: part of their keys, so that two owners never share one."""
    journal_owner: str
    """Who owned the shard at this point, to go on reading the journal."""
    journal_offset: int
    """The first journal record that is not in this state."""
    seq: int
    table: ArrayPages
    """The pages that hold `Contents`, as MessagePack."""
    packed: str = ""
    """How the shell wrote the pages (`streams.shard.page_codec`); empty: as they are."""
    release: str = ""
    level: int = 0
    """Of the writer, see `schemas.releases`."""


@dataclass(frozen=True)
class Source:
    """An array that a checkpoint writes, as it was when the checkpoint began.

    `take(page)` gives a page's bytes; it is called once at most for each page in `changed`, or for
    every page of an array that was not in the last checkpoint, or had another dtype there.
    """

    dtype: str
    length: int
    take: Callable[[int], bytes]
    changed: Collection[int] = ()
    page_bytes: int = PAGE_BYTES

    @staticmethod
    def constant(array: NDArray[Any], changed: bool = False) -> Source:
        """An array that never changes once it has its name; or a copy made by the caller."""
        raw = np.ascontiguousarray(array).view(np.uint8)
        size = PAGE_BYTES

        def take(page: int) -> bytes:
            return raw[page * size : (page + 1) * size].tobytes()

        pages = range(-(-len(raw) // size)) if changed else ()
        return Source(array.dtype.str, len(array), take, pages, size)

    @property
    def pages(self) -> int:
        """How many pages the array has."""
        if self.length < 0:
            return 1
        return -(-self.length * np.dtype(self.dtype).itemsize // self.page_bytes)


def page_key(writer: str, name: str, index: int, slot: int) -> bytes:
    return f"page/{writer}/{name}/{index}/{slot}".encode()


class Writing:
    """One checkpoint on its way: gives the pages to write, a few at a time."""

    def __init__(
        self, meta: bytes, sources: Mapping[str, Source], before: Mapping[str, ArrayPages]
    ) -> None:
        self._meta = meta
        self._sources = sources
        self._before = before
        self.arrays: dict[str, ArrayPages] = {}
        self._todo: deque[tuple[str, int]] = deque()
        for name, source in sources.items():
            old = before.get(name)
            retyped = old is not None and old.dtype != source.dtype
            unchanged = not retyped and not source.changed
            if old is not None and unchanged and old.length == source.length:
                self.arrays[name] = old  # as most are: nothing is changed in it below
                continue
            pages = source.pages
            known = min(pages, len(old.slots)) if old is not None else 0
            slots, hashes = [1] * pages, [0] * pages
            if old is not None:
                slots[:known], hashes[:known] = old.slots[:known], old.hashes[:known]
            self.arrays[name] = ArrayPages(
                source.dtype, source.length, source.page_bytes, slots, hashes
            )
            changed = range(pages) if retyped else source.changed
            again = {page for page in changed if page < known}
            self._todo.extend((name, page) for page in sorted(again))
            self._todo.extend((name, page) for page in range(known, pages))

    @property
    def left(self) -> int:
        """Pages that were not looked at yet."""
        return len(self._todo)

    def take(self, nbytes: int) -> list[Page]:
        """The next pages that changed, of about so many bytes together."""
        pages: list[Page] = []
        while self._todo and nbytes > 0:
            name, index = self._todo.popleft()
            page = self._sources[name].take(index)
            nbytes -= max(len(page), _LEAST_BYTES)
            written = self._put(self.arrays[name], self._before.get(name), index, page)
            if written is not None:
                pages.append((name, index, written, page))
        return pages

    def table(self, before: ArrayPages | None) -> tuple[ArrayPages, list[Page]]:
        """The pages that hold the table, once everything was taken; `before`: the last one."""
        assert not self._todo  # noqa: S101  (the caller's loop)
        raw = msgspec.msgpack.encode(Contents(self._meta, self.arrays))
        source = Source.constant(np.frombuffer(raw, np.uint8), changed=True)
        writing = Writing(b"", {TABLE: source}, {TABLE: before} if before else {})
        return writing.arrays[TABLE], writing.take(_EVERYTHING)

    @staticmethod
    def _put(table: ArrayPages, old: ArrayPages | None, index: int, page: bytes) -> int | None:
        """Enter a page; the slot to write it to, None if it is there already."""
        digest = xxhash.xxh3_64_intdigest(page)
        known = old is not None and index < len(old.hashes)
        if known and table.hashes[index] == digest:
            return None
        table.slots[index] = slot = 1 - table.slots[index]
        table.hashes[index] = digest
        return slot


def contents_of(manifest: Manifest, pages: Mapping[bytes, bytes]) -> Contents:
    """The table of a checkpoint; ValueError if a page of it is missing or altered."""
    raw = _join(manifest.writer, TABLE, manifest.table, pages)
    return msgspec.msgpack.decode(raw, type=Contents)


def assemble(
    writer: str, arrays: Mapping[str, ArrayPages], pages: Mapping[bytes, bytes]
) -> dict[str, NDArray[Any]]:
    """The arrays, from pages by key; ValueError if one is missing or altered."""
    found: dict[str, NDArray[Any]] = {}
    for name, table in arrays.items():
        array = np.frombuffer(_join(writer, name, table, pages), np.dtype(table.dtype))
        if len(array) != table.length >= 0:
            raise ValueError(f"{name} has {len(array)} items, not {table.length}")
        found[name] = array
    return found


def _join(writer: str, name: str, table: ArrayPages, pages: Mapping[bytes, bytes]) -> bytearray:
    joined = bytearray()
    for index, (slot, digest) in enumerate(zip(table.slots, table.hashes, strict=True)):
        page = pages.get(page_key(writer, name, index, slot))
        if page is None or xxhash.xxh3_64_intdigest(page) != digest:
            raise ValueError(
                f"page {index} of {name} is {'missing' if page is None else 'altered'}"
            )
        joined += page
    return joined
