"""Reads customers one by one for many who ask at once: those who wait share a query.

A query costs ClickHouse as much as thirty customers in it, so one begins only a moment after the
one before; whoever asks meanwhile goes into the next. Who asks alone waits for nothing. Nothing is
kept: who was erased is in no answer that was asked for after that.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from streams import background
from streams.console.api.past_lives import PastLives
from streams.console.api.point import Point, read_point
from streams.console.api.questions import USERS
from streams.console.reads import Reader, ReadFailed, Rows

__all__ = ["Points", "TooMany"]

MOST_AT_ONCE: Final = 200
"""Ids in one query."""
MOST_WAITING: Final = 5_000
AT_ONCE: Final = 2
"""Queries under way: one is read while the other is asked."""
PAUSE_SECONDS: Final = 0.008
"""From the beginning of a query to that of the next."""


class TooMany(Exception):
    """More is asked than is answered; the client should come again in a second."""


class Points:
    """The newest row of `customer_points` by user id."""

    def __init__(self, reader: Reader, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._reader, self._pause_seconds = reader, pause_seconds
        self._waiting: dict[str, asyncio.Future[Point | None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._next_at = 0.0
        self._pausing: asyncio.Task[None] | None = None
        self._past_lives = PastLives(reader)

    async def of(self, user_id: str) -> Point | None:
        """The customer's row, or None. Raises ReadFailed and TooMany."""
        found = self._waiting.get(user_id)
        if found is None:
            if len(self._waiting) >= MOST_WAITING:
                raise TooMany
            found = asyncio.get_running_loop().create_future()
            self._waiting[user_id] = found
            self._go_on()
        return await asyncio.shield(found)

    def _go_on(self) -> None:
        """Begin the next query, unless enough are under way or one has just begun."""
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._running) < AT_ONCE and self._pausing is None:
            pause = self._next_at - loop.time()
            if pause > 0:
                self._pausing = background.start(
                    self._pause(pause), "the pause between point reads", self._unpaused
                )
                return
            self._next_at = loop.time() + self._pause_seconds
            ids = list(self._waiting)[:MOST_AT_ONCE]
            asked = {user_id: self._waiting.pop(user_id) for user_id in ids}
            task = background.start_awaited(self._ask(asked), "point reads")
            self._running.add(task)
            task.add_done_callback(self._done)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._pausing = None
        self._go_on()

    def _unpaused(self, error: BaseException) -> None:
        """The pause ended with an error: nobody may wait for a query that never begins."""
        self._pausing = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _fail(future, ReadFailed(repr(error), None))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it already
        self._go_on()

    async def _ask(self, asked: dict[str, asyncio.Future[Point | None]]) -> None:
        try:
            # Together: who asks in the moment when the list is old does not wait for both.
            past, found = await asyncio.gather(
                self._past_lives.now(), self._reader.rows(USERS, user_id=tuple(asked))
            )
        except BaseException as error:
            failure = error if isinstance(error, ReadFailed) else ReadFailed(repr(error), None)
            for future in asked.values():
                _fail(future, failure)
            if not isinstance(error, Exception):
                raise
            return
        points = _newest(found)
        for user_id, future in asked.items():
            point = points.get(user_id)
            if isinstance(point, ReadFailed):
                _fail(future, point)
            elif not future.done():
                is_over = point is not None and (point.shard, point.life) in past
                future.set_result(None if is_over else point)


def _newest(found: Rows) -> dict[str, Point | ReadFailed]:
    """The newest row of each user; of whom a row can't be read, why."""
    newest: dict[str, Point | ReadFailed] = {}
    for user_id, answer in found.rows:
        known = newest.get(user_id)
        if isinstance(known, ReadFailed):
            continue
        try:
            point = read_point(answer)
        except (msgspec.DecodeError, TypeError) as error:
            newest[user_id] = ReadFailed(
                f"A row of customer_points can't be read ({error}): it was written by another "
                "release. Run `tideline migrate` of the newest release, and update this console.",
                found.as_of_ms,
            )
        else:
            if point.is_newer_than(known):
                newest[user_id] = point
    return newest


def _fail(future: asyncio.Future[Point | None], failure: ReadFailed) -> None:
    if not future.done():
        future.set_exception(failure)
        future.exception()  # whoever asked may be gone
