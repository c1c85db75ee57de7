"""Keeps the rows of a query that is dear, for as long as asking again would cost too much.

Only for rows that name nobody: who was erased must be in no answer after that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from streams.console.reads import Reader

__all__ = ["Remembered"]

_SHARE: Final = 0.05
"""Of the time at most is spent on asking, however many look at the page."""
_LEAST_SECONDS: Final = 1.0


class Remembered:
    """The rows of one query. Whoever asks while it is being asked waits for the same answer."""

    def __init__(
        self, reader: Reader, query: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader, self._query, self._clock = reader, query, clock
        self._asking = asyncio.Lock()
        self._until = float("-inf")
        self._rows: list[dict[str, Any]] = []
        self._as_of_ms = 0

    async def rows(self) -> tuple[list[dict[str, Any]], int]:
        """Rows, and when ClickHouse gave them, Unix ms. Raises ReadFailed."""
        async with self._asking:
            if self._clock() >= self._until:
                began = self._clock()
                found = await self._reader.rows(self._query)
                took = self._clock() - began
                self._rows, self._as_of_ms = list(found), found.as_of_ms
                self._until = began + took + max(_LEAST_SECONDS, took / _SHARE)
            return self._rows, self._as_of_ms
