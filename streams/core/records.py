"""Raw records of one source partition, as columns: what travels from the transport to the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLICKSTREAM", "ORDERS", "SOURCES", "Records"]

CLICKSTREAM: Final = 0
ORDERS: Final = 1
SOURCES: Final = (CLICKSTREAM, ORDERS)
"""The two input topics, by the index used everywhere a pair of offsets is kept."""


@dataclass(frozen=True)
class Records:
    """A run of records of one topic partition, in offset order.

    offsets and timestamps_ms are int64 [n]; keys and values hold n bytes objects or None.
    """

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, part: slice) -> Records:
        return Records(
            self.offsets[part], self.timestamps_ms[part], self.keys[part], self.values[part]
        )

    @staticmethod
    def empty() -> Records:
        none = np.empty(0, np.int64)
        return Records(none, none, (), ())

    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        """Join runs that follow each other; one run is returned as it is."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Records.empty()
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        for part in parts:
            keys.extend(part.keys)
            values.extend(part.values)
        return Records(
            np.concatenate([p.offsets for p in parts]),
            np.concatenate([p.timestamps_ms for p in parts]),
            keys,
            values,
        )
