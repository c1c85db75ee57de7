"""A committed offset, and the note that goes with it: when the record before it was written.

Kafka says which offset a group has committed, and no time. A consumer that commits the time as well
lets a monitor tell the age of what is unread without reading the topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Committed"]

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
