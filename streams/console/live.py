"""Sends a page again as its numbers change: one stream per page, however many look at it.

1. While somebody looks, the position of the results is read twice a second.
2. When it has moved, each page that is looked at is made once for all visitors of the same rights,
   at most twice a second; what comes between is left out, since each is the whole page.
3. A message's id is the position it shows. Who comes back with the newest id waits for the next;
   anybody else gets the page at once.
4. A sign of life goes out every five seconds. Who hears none says that its numbers are old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from streams import background
from streams.console.position import Position
from streams.console.reads import ReadFailed

__all__ = ["MOST_STREAMS", "Channel", "Live", "Message", "event"]

LOOK_SECONDS: Final = 0.5
LEAST_SECONDS: Final = 0.25
CLOCK_SECONDS: Final = 2.0
ALIVE_SECONDS: Final = 5.0
MOST_STREAMS: Final = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One event of a stream. `name`: page (HTML), away (why there is none) or alive."""

    name: str
    data: str
    position: str = ""


def event(message: Message) -> bytes:
    """As a browser's EventSource reads it.

    >>> event(Message("page", "<p>\\n</p>", "7"))
    b'event: page\\nid: 7\\ndata: <p>\\ndata: </p>\\n\\n'
    """
    lines = [f"event: {message.name}"]
    if message.position:
        lines.append(f"id: {message.position}")
    # Every end of line that the format knows must begin a new data line, or it would end the event.
    text = message.data.replace("\r\n", "\n").replace("\r", "\n")
    lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


@dataclass(eq=False)
class Channel:
    """One page as those with the same rights see it."""

    make: Callable[[Position], Awaitable[str]]
    by_clock: bool
    """Made again every two seconds, too."""
    newest: Message | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0
    made_at: float = 0.0
    making: bool = False

    def tell(self, message: Message) -> None:
        self.newest = message
        self.news.set()
        self.news = asyncio.Event()


class Live:
    """All streams of the process."""

    def __init__(
        self,
        position: Callable[[], Awaitable[Position]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._position, self._clock = position, clock
        self._channels: dict[tuple[str, ...], Channel] = {}
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()
        """Set when the process stops: streams end."""

    @property
    def streams(self) -> int:
        """How many listen now."""
        return sum(channel.listeners for channel in self._channels.values())

    def join(
        self, key: tuple[str, ...], make: Callable[[Position], Awaitable[str]], *, by_clock: bool
    ) -> Channel:
        """Listen to the page of this key; call `leave` in the end."""
        channel = self._channels.setdefault(key, Channel(make, by_clock))
        channel.listeners += 1
        self._wanted.set()
        return channel

    def leave(self, key: tuple[str, ...]) -> None:
        """Whoever was last takes the page along: nothing stays of it."""
        channel = self._channels[key]
        channel.listeners -= 1
        if not channel.listeners:
            del self._channels[key]
        if not self._channels:
            self._wanted.clear()

    async def run(self) -> None:
        """Look and make, until cancelled."""
        while True:
            await self._wanted.wait()
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look at the position, and the pages that are due by it."""
        try:
            position = await self._position()
        except ReadFailed as error:
            for channel in list(self._channels.values()):
                if channel.newest is None or channel.newest.name != "away":
                    channel.tell(Message("away", away_text(error)))
            return
        for channel in list(self._channels.values()):
            if self._due(channel, position):
                channel.making = True
                task = background.start_awaited(
                    self._make(channel, position), "a page for its stream"
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _due(self, channel: Channel, position: Position) -> bool:
        waited = self._clock() - channel.made_at
        if channel.making or (channel.newest is not None and waited < LEAST_SECONDS):
            return False
        if channel.newest is None or channel.newest.position != position.name:
            return True
        return channel.by_clock and waited >= CLOCK_SECONDS

    async def _make(self, channel: Channel, position: Position) -> None:
        try:
            text = await channel.make(position)
            channel.tell(Message("page", text, position.name))
        except ReadFailed as error:
            channel.tell(Message("away", away_text(error)))
        except Exception:
            _log.exception("a page could not be made for its stream")
            channel.tell(
                Message("away", "This page could not be made; the console's log says why.")
            )
        finally:
            channel.making = False
            channel.made_at = self._clock()

    async def next(self, channel: Channel, seen: Message | None, last_id: str = "") -> Message:
        """What to send next to somebody who has seen this; `alive` if nothing comes for a while.

        `last_id`: the position that a returning browser has.
        """
        news = channel.news
        newest = channel.newest
        if newest is not None and newest is not seen:
            if newest.name != "page" or seen is not None or newest.position != last_id:
                return newest
            seen = newest
        ending = background.start_awaited(self.closed.wait(), "end of streams")
        hearing = background.start_awaited(news.wait(), "news of a page")
        try:
            await asyncio.wait(
                (ending, hearing), timeout=ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ending.cancel()
            hearing.cancel()
        if channel.newest is not None and channel.newest is not newest:
            return channel.newest
        return Message(
            "alive", msgspec.json.encode({"now_ms": time.time_ns() // 1_000_000}).decode()
        )


def away_text(error: ReadFailed) -> str:
    """What a visitor is told when ClickHouse does not answer."""
    return str(error)
