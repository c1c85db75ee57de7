"""Many short texts as pieces of one buffer, with their hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.core.hashing import hashes

__all__ = ["Texts"]


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
