"""A committed offset, and the note that goes with it: when the record before it was written.

Kafka says which offset a group has committed, and no time. A consumer that commits the time as well
lets a monitor tell the age of what is unread without reading the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Committed", "CommittedColumns"]

_NOTE: Final = "applied_ms="


@dataclass(frozen=True, slots=True)
class Committed:
    """The next offset to read. `applied_ms` is the timestamp of the record before it; 0: not known.

    >>> Committed(7, 1_700_000_000_000).note
    'applied_ms=1700000000000'
    >>> Committed.of(7, "applied_ms=1700000000000").applied_ms
    1700000000000
    >>> Committed.of(7, "what another consumer notes").applied_ms
    0
    """

    offset: int
    applied_ms: int = 0

    @property
    def note(self) -> str:
        return f"{_NOTE}{self.applied_ms}" if self.applied_ms > 0 else ""

    @staticmethod
    def of(offset: int, note: str | None) -> Committed:
        digits = (note or "").removeprefix(_NOTE)
        told = note is not None and note != digits and digits.isascii() and digits.isdigit()
        return Committed(offset, int(digits) if told else 0)


@dataclass(frozen=True, slots=True)
class CommittedColumns:
    """What a group has committed, in 24 bytes per partition where a dictionary takes 200: a monitor
    holds that of all groups at once.

    places: (topic, partition); offsets, applied_ms: int64 [places].
    """

    places: tuple[tuple[str, int], ...]
    offsets: NDArray[np.int64]
    applied_ms: NDArray[np.int64]

    @staticmethod
    def of(found: Mapping[tuple[str, int], Committed]) -> CommittedColumns:
        return CommittedColumns(
            tuple(found),
            np.array([each.offset for each in found.values()], np.int64),
            np.array([each.applied_ms for each in found.values()], np.int64),
        )

    def where(self, holds: Callable[[tuple[str, int]], bool]) -> CommittedColumns:
        """Those whose place passes."""
        kept = [row for row, place in enumerate(self.places) if holds(place)]
        if len(kept) == len(self.places):
            return self
        return CommittedColumns(
            tuple(self.places[row] for row in kept), self.offsets[kept], self.applied_ms[kept]
        )

    def mapping(self) -> dict[tuple[str, int], Committed]:
        """What it was made of."""
        values = map(Committed, self.offsets.tolist(), self.applied_ms.tolist())
        return dict(zip(self.places, values, strict=True))
