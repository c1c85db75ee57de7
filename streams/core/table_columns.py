"""Columns of text for ClickHouse that never become Python objects, one per row, on their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.kernels.strings import length_prefixed

__all__ = ["Coded", "Strings"]


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
        packed = np.empty(len(self.data) + 5 * len(self.size), np.uint8)
        return packed[: length_prefixed(self.data, self.size, packed)].tobytes()
