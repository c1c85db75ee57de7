"""Which lives of shards are over, for point reads: known for a second, and read again ahead.

Once a second a query is not worth 1 % of the answers: who asks for a customer does not wait for it,
unless nobody has asked for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from streams import background
from streams.console.api.questions import PAST_LIVES
from streams.console.reads import Reader

__all__ = ["PastLives"]

OLDEST_SECONDS: Final = 1.0
"""How old the list may be: lives end with `tideline reset`, in no hurry."""
AHEAD_SECONDS: Final = 0.5
"""From this age on it is read again while the old one still counts."""


class PastLives:
    """Shards, and those of their lives that are over."""

    def __init__(self, reader: Reader, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that only go forward."""
        self._reader, self._clock = reader, clock
        self._found: frozenset[tuple[int, int]] = frozenset()
        self._asked_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def now(self) -> frozenset[tuple[int, int]]:
        """Pairs of shard and life. Raises ReadFailed."""
        age_seconds = self._clock() - self._asked_at
        if age_seconds >= AHEAD_SECONDS:
            reading = self._read_again()
            if age_seconds >= OLDEST_SECONDS:
                await asyncio.shield(reading)
        return self._found

    def _read_again(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._reading = background.start_awaited(self._read(), "past lives")
            self._reading.add_done_callback(self._done)
        return self._reading

    async def _read(self) -> None:
        asked_at = self._clock()
        rows = await self._reader.rows(PAST_LIVES)
        self._found = frozenset((row["shard"], row["life"]) for row in rows)
        self._asked_at = asked_at

    def _done(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()  # who needs the list has it; read ahead, it is too old soon
