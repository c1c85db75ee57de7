"""Decides when a block may be sent, from elapsed time: event-time speed and record rate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from streams.replay.records import Block

__all__ = ["Pace", "slices"]

TICK_SECONDS: Final = 0.1
"""Paced blocks hold at most this much, so that a slow replay is smooth."""
_time: Final = attrgetter("timestamp_ms")


@dataclass
class Pace:
    """`speed` in event seconds per second and `rate` in records per second; 0 means no limit."""

    speed: float = 0.0
    rate: float = 0.0
    _sent: int = 0
    _first_ms: int | None = None

    def wait_seconds(self, first_ms: int, elapsed_seconds: float) -> float:
        """How long a block that starts at event time `first_ms` must still wait."""
        if self._first_ms is None:
            self._first_ms = first_ms
        due = 0.0
        if self.speed > 0:
            due = (first_ms - self._first_ms) / 1000 / self.speed
        if self.rate > 0:
            due = max(due, self._sent / self.rate)
        return max(0.0, due - elapsed_seconds)

    def sent(self, records: int) -> None:
        """Count what was sent."""
        self._sent += records


def slices(blocks: Iterable[Block], speed: float, rate: float) -> Iterator[Block]:
    """Cut blocks so that none holds more than a tick's worth of event time or records."""
    most = max(1, int(rate * TICK_SECONDS)) if rate > 0 else None
    span_ms = speed * TICK_SECONDS * 1000
    for block in blocks:
        start = 0
        while start < len(block):
            stop = len(block)
            if speed > 0:
                until = block[start].timestamp_ms + span_ms
                stop = bisect_right(block, until, lo=start, key=_time)
            if most is not None:
                stop = min(stop, start + most)
            yield block[start:stop] if (start, stop) != (0, len(block)) else block
            start = stop
