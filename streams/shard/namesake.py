"""Tells that another worker runs under our instance id, by what that does to the group.

Kafka throws a static member out when another joins by its name. The one thrown out joins again, and
throws the other out: each gets the same shards over and over, and neither gets anything done. The
client doesn't tell us why, but nothing else looks like it: a rebalance that somebody else causes
changes who has what, or comes alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

__all__ = ["TIMES", "WITHIN_SECONDS", "NamesakeWatch"]

TIMES: Final = 6
WITHIN_SECONDS: Final = 30.0  # two workers of one name were seen to take turns every second or two


class NamesakeWatch:
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
