"""Checkpoint pages on their way into the log: compressed, since reading them back is what a restart
takes longest for. LZ4 makes a fifth of a page of rows, at about a gigabyte a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import cramjam

__all__ = ["PACKING", "Unpacked", "pack"]

PACKING: Final = "lz4"
"""A little-endian uint32 length, and an LZ4 block."""
_LONGEST: Final = 64 * 1024 * 1024
"""No page is as long. A damaged length must not ask for all memory there is."""


def pack(page: bytes) -> bytes:
    return bytes(cramjam.lz4.compress_block(page))


class Unpacked(Mapping[bytes, bytes]):
    """Pages by key, unpacked on access. A page that can't be unpacked is empty, and no page that
    was ever written is."""

    def __init__(self, packed: Mapping[bytes, bytes]) -> None:
        self._packed = packed

    def __getitem__(self, key: bytes) -> bytes:
        value = self._packed[key]
        length = int.from_bytes(value[:4], "little")
        if length > _LONGEST:
            return b""
        try:
            page = bytes(cramjam.lz4.decompress_block(value))
        except cramjam.DecompressionError:
            return b""
        return page if len(page) == length else b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
