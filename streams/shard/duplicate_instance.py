"""Detects another worker that runs under our instance id, by what that does to the group.

Kafka removes a static member when another joins under its id. The removed one joins again, and
the other is removed: each gets the same shards over and over, and neither gets anything done. The
client doesn't report why, but nothing else looks like it: a rebalance with another cause changes
the assignment, or comes alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

__all__ = ["TIMES", "WITHIN_SECONDS", "DuplicateInstanceWatch"]

TIMES: Final = 6
WITHIN_SECONDS: Final = 30.0  # two workers with one id were seen to take turns every second or two


class DuplicateInstanceWatch:
    """Remembers the last assignments."""

    def __init__(self) -> None:
        self._given: deque[tuple[frozenset[int], float]] = deque(maxlen=TIMES)

    def assigned(self, shards: Iterable[int], now_seconds: float) -> bool:
        """Note an assignment; whether it is the same for the `TIMES`th time, all of them within
        `WITHIN_SECONDS`."""
        self._given.append((frozenset(shards), now_seconds))
        first, since = self._given[0]
        return (
            len(self._given) == TIMES
            and bool(first)
            and all(given == first for given, _ in self._given)
            and now_seconds - since <= WITHIN_SECONDS
        )
