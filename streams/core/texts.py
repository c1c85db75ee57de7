"""Many short texts without a Python object each: on their way in, and as columns of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.core.hashing import hashes

__all__ = ["Coded", "Strings", "TableRows", "Texts"]

TableRows = dict[str, Any]
"""Rows for one ClickHouse table by column: name -> array, list, Coded or Strings, all of one
length. Times are int64 milliseconds."""


@dataclass(frozen=True)
class Texts:
    """Text i is the UTF-8 in data[at[i] : at[i] + size[i]]; hashed[i] is its xxh64."""

    data: NDArray[np.uint8]
    at: NDArray[np.int64]
    size: NDArray[np.int32]
    hashed: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, chosen: NDArray[np.int64]) -> Texts:
        return Texts(self.data, self.at[chosen], self.size[chosen], self.hashed[chosen])

    def tolist(self) -> list[str]:
        """The texts as objects."""
        if not len(self):
            return []
        first, last = int(self.at.min()), int((self.at + self.size).max())
        data = self.data[first:last].tobytes()
        starts = self.at - first
        return [
            data[start:stop].decode(errors="replace")
            for start, stop in zip(starts.tolist(), (starts + self.size).tolist(), strict=True)
        ]

    def pieces(self) -> list[bytes]:
        """The texts' UTF-8."""
        return [
            self.data[start : start + size].tobytes()
            for start, size in zip(self.at.tolist(), self.size.tolist(), strict=True)
        ]

    @staticmethod
    def of(texts: Sequence[str]) -> Texts:
        encoded = [text.encode() for text in texts]
        size = np.array([len(text) for text in encoded], np.int32)
        data = np.frombuffer(b"".join(encoded), np.uint8)
        return Texts(data, np.cumsum(size, dtype=np.int64) - size, size, hashes(texts))

    @staticmethod
    def concat(one: Texts, other: Texts) -> Texts:
        """All of `one`, then all of `other`."""
        return Texts(
            np.concatenate([one.data, other.data]),
            np.concatenate([one.at, other.at + len(one.data)]),
            np.concatenate([one.size, other.size]),
            np.concatenate([one.hashed, other.hashed]),
        )


@dataclass(frozen=True)
class Coded:
    """A column of few different strings, as codes into them.

    codes: integers [n], each 0 <= code < len(names); names: the strings, in any order.
    """

    codes: NDArray[Any]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return iter([self.names[code] for code in self.codes.tolist()])

    @staticmethod
    def same(name: str, n: int) -> Coded:
        """One string, n times."""
        return Coded(np.zeros(n, np.uint8), (name,))


@dataclass(frozen=True)
class Strings:
    """A column of different strings: the UTF-8 of all of them, one after the other.

    data: uint8 [bytes of all]; size: int32 [n], bytes of each.
    """

    data: NDArray[np.uint8]
    size: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.size)

    def __iter__(self) -> Iterator[str]:
        data, ends = self.data.tobytes(), np.cumsum(self.size, dtype=np.int64)
        starts = (ends - self.size).tolist()
        return iter([data[a:b].decode() for a, b in zip(starts, ends.tolist(), strict=True)])

    def length_prefixed(self) -> bytes:
        """As `FORMAT Native` of ClickHouse has a String column: each after its length in bytes, an
        unsigned LEB128 number."""
        # Only a worker has such columns: other processes do without Numba's 60 MB.
        from streams.kernels.strings import length_prefixed  # noqa: PLC0415

        packed = np.empty(len(self.data) + 5 * len(self.size), np.uint8)
        return packed[: length_prefixed(self.data, self.size, packed)].tobytes()
