"""Cuts a shard's arrays into pages and says which ones changed: the pure half of a checkpoint.

A page is up to 256 KiB of one array's bytes. Pages are compared by hash with those of the last
checkpoint, so that nothing has to keep track of what was touched, and loading checks every byte.

A page has two slots, and each writing goes to the one that the last complete checkpoint does not
use. So a checkpoint that was cut short has overwritten nothing, also in a compacted topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = ["PAGE_BYTES", "ArrayPages", "Manifest", "assemble", "changed_pages", "page_key"]

PAGE_BYTES: Final = 256 * 1024


class ArrayPages(msgspec.Struct, frozen=True):
    """One array: its numpy dtype, length in items, and slot and hash of each page."""

    dtype: str
    length: int
    slots: list[int]
    hashes: list[int]


class Manifest(msgspec.Struct, frozen=True):
    """A complete checkpoint: written last, it makes the pages count."""

    writer: str
    """Whose pages: part of their keys, so that two owners never share one."""
    journal_owner: str
    """Who owned the shard at this point, to go on reading the journal."""
    journal_offset: int
    """The first journal record that is not in this state."""
    seq: int
    meta: bytes
    arrays: dict[str, ArrayPages]


def page_key(writer: str, name: str, index: int, slot: int) -> bytes:
    return f"page/{writer}/{name}/{index}/{slot}".encode()


def changed_pages(
    arrays: Mapping[str, NDArray[Any]], before: Mapping[str, ArrayPages]
) -> tuple[dict[str, ArrayPages], list[tuple[str, int, int, bytes]]]:
    """Compare arrays (1-d, contiguous) with the last complete checkpoint's pages.

    Returns the new page tables and the pages to write: (array name, page index, slot, bytes),
    copies that stay as they are while the state moves on.
    """
    tables: dict[str, ArrayPages] = {}
    to_write: list[tuple[str, int, int, bytes]] = []
    for name, array in arrays.items():
        raw = memoryview(np.ascontiguousarray(array).view(np.uint8).data) if len(array) else b""
        old = before.get(name)
        slots, hashes = [], []
        for index, start in enumerate(range(0, len(raw), PAGE_BYTES)):
            page = raw[start : start + PAGE_BYTES]
            digest = xxhash.xxh3_64_intdigest(page)
            known = old is not None and index < len(old.hashes)
            slot = old.slots[index] if old is not None and known else 1
            if old is None or not known or old.hashes[index] != digest:
                slot = 1 - slot
                to_write.append((name, index, slot, bytes(page)))
            slots.append(slot)
            hashes.append(digest)
        tables[name] = ArrayPages(array.dtype.str, len(array), slots, hashes)
    return tables, to_write


def assemble(manifest: Manifest, pages: Mapping[bytes, bytes]) -> dict[str, NDArray[Any]]:
    """The arrays of a manifest, from pages by key; ValueError if one is missing or altered."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, table in manifest.arrays.items():
        parts = []
        for index, (slot, digest) in enumerate(zip(table.slots, table.hashes, strict=True)):
            page = pages.get(page_key(manifest.writer, name, index, slot))
            if page is None or xxhash.xxh3_64_intdigest(page) != digest:
                raise ValueError(
                    f"page {index} of {name} is {'missing' if page is None else 'altered'}"
                )
            parts.append(page)
        array = np.frombuffer(bytearray(b"".join(parts)), np.dtype(table.dtype))
        if len(array) != table.length:
            raise ValueError(f"{name} has {len(array)} items, not {table.length}")
        arrays[name] = array
    return arrays
