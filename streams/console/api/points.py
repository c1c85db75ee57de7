"""Reads customers one by one for many who ask at once: those who wait share a query.

While a query is under way, ids gather; the next query takes them all. So nobody waits for a timer,
and the more are asked for, the less a customer costs. Nothing is kept: who was erased is in no
answer that was asked for after that.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from streams import background
from streams.console.api.questions import PAST_LIVES, USERS
from streams.console.reads import Reader, ReadFailed

__all__ = ["Points", "TooMany"]

MOST_AT_ONCE: Final = 200
"""Ids in one query."""
MOST_WAITING: Final = 5_000
AT_ONCE: Final = 2
"""Queries under way: one is read while the other is asked."""
LIVES_SECONDS: Final = 1.0
"""How old the list of past lives may be: lives end with `tideline reset`, in no hurry."""


class TooMany(Exception):
    """More is asked than is answered; the client should come again in a second."""


class Points:
    """The newest row of `customer_points` by user id."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._past_lives: set[tuple[int, int]] = set()
        self._past_lives_until = 0.0
        self._reading_lives = asyncio.Lock()

    async def of(self, user_id: str) -> dict[str, Any] | None:
        """The customer's row by column, or None. Raises ReadFailed and TooMany."""
        found = self._waiting.get(user_id)
        if found is None:
            if len(self._waiting) >= MOST_WAITING:
                raise TooMany
            found = asyncio.get_running_loop().create_future()
            self._waiting[user_id] = found
            self._go_on()
        return await asyncio.shield(found)

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            ids = list(self._waiting)[:MOST_AT_ONCE]
            asked = {user_id: self._waiting.pop(user_id) for user_id in ids}
            task = background.start_awaited(self._ask(asked), "point reads")
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it already
        self._go_on()

    async def _ask(self, asked: dict[str, asyncio.Future[dict[str, Any] | None]]) -> None:
        try:
            past = await self._past()
            found = await self._reader.rows(USERS, user_id=tuple(asked))
        except BaseException as error:
            failure = error if isinstance(error, ReadFailed) else ReadFailed(repr(error), None)
            for future in asked.values():
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # whoever asked may be gone
            if not isinstance(error, Exception):
                raise
            return
        rows = {
            str(row["user_id"]): row for row in found if (row["shard"], row["life"]) not in past
        }
        for user_id, future in asked.items():
            if not future.done():
                future.set_result(rows.get(user_id))

    async def _past(self) -> set[tuple[int, int]]:
        """Shards and those of their lives that are over."""
        async with self._reading_lives:
            if time.monotonic() >= self._past_lives_until:
                found = await self._reader.rows(PAST_LIVES)
                self._past_lives = {(row["shard"], row["life"]) for row in found}
                self._past_lives_until = time.monotonic() + LIVES_SECONDS
            return self._past_lives
