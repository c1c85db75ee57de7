"""Delivers changes to one destination, in order, and again until each is taken or refused.

1. A request that gets no answer, or one that says nothing about the change, is sent again, as often
   as it takes; nothing behind it goes ahead. `streams.deliver.retry` says which and how long after.
2. Several changes that are refused together are sent again in halves, so that only those that are
   themselves refused are given up.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from schemas.messages import AudienceChange
from streams.deliver import braze, klaviyo
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Answer, Conversation, Refusal, RefusedAllError, Request, chunks
from streams.deliver.retry import backoff_seconds, meaning, told_to_wait_seconds
from streams.deliver.webhook import webhook

__all__ = ["Courier", "Observer", "Send", "largest_batch"]

_log = logging.getLogger(__name__)

Send = Callable[[Request], Awaitable[Answer]]
"""Sends a request once. Raises OSError, TimeoutError included, if there is no answer."""

_Format = Callable[[Destination, Sequence[AudienceChange]], Conversation]
_FORMATS: Final[dict[str, _Format]] = {
    "webhook": webhook,
    "klaviyo": klaviyo.klaviyo,
    "braze": braze.braze,
}
_ONE_PER_USER: Final = {"klaviyo": klaviyo.BATCH, "braze": braze.BATCH}


class Observer(Protocol):
    """Gets what a courier does: for metrics."""

    def tried(self, result: str, seconds: float) -> None:
        """A request had an answer, or none: `taken`, `refused`, `limited` (429) or `failed`."""


def largest_batch(where: Destination) -> int:
    """So many changes are delivered together at most."""
    return _ONE_PER_USER.get(where.format, where.batch)


class Courier:
    """One partition's way to a destination. `trouble` says why nothing gets through, or is ''."""

    def __init__(
        self,
        where: Destination,
        send: Send,
        observer: Observer,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_seconds: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._where, self._send, self._observer = where, send, observer
        self._sleep, self._now_seconds, self._draw = sleep, now_seconds, draw
        self.trouble = ""
        self.failing_since: float | None = None
        """When the first of the tries failed that have all failed since; seconds since 1970."""

    async def deliver(self, changes: Sequence[AudienceChange]) -> list[Refusal | None]:
        """Deliver in order; returns the refusal of each change, None if it was taken."""
        most = largest_batch(self._where)
        found: list[Refusal | None] = []
        for part in chunks(changes, most, once_per_user=self._where.format in _ONE_PER_USER):
            found += await self._together(part)
        return found

    async def _together(self, changes: Sequence[AudienceChange]) -> list[Refusal | None]:
        try:
            return list(await self._converse(_FORMATS[self._where.format](self._where, changes)))
        except RefusedAllError as error:
            if len(changes) == 1:
                return [error.refusal]
        half = len(changes) // 2
        return [*await self._together(changes[:half]), *await self._together(changes[half:])]

    async def _converse(self, conversation: Conversation) -> Sequence[Refusal | None]:
        request = next(conversation)
        while True:
            answer = await self._answer(request)
            try:
                request = conversation.send(answer)
            except StopIteration as end:
                refusals: Sequence[Refusal | None] = end.value
                return refusals
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RefusedAllError(
                    Refusal("unexpected_answer", f"the answer is not as documented: {error!r}")
                ) from None

    async def _answer(self, request: Request) -> Answer:
        """The final answer to a request."""
        tries = 0
        while True:
            started = time.monotonic()
            told = 0.0
            try:
                answer = await self._send(request)
            except OSError as error:
                result, why = "failed", str(error) or type(error).__name__
            else:
                said = meaning(answer.status)
                if said != "again":
                    self._observer.tried(said, time.monotonic() - started)
                    self._well()
                    return answer
                result = "limited" if answer.status == 429 else "failed"
                why = f"HTTP status {answer.status}"
                told = told_to_wait_seconds(answer, self._now_seconds())
            tries += 1
            self._observer.tried(result, time.monotonic() - started)
            wait = max(told, backoff_seconds(tries, self._draw()))
            self._ill(why, tries, wait)
            await self._sleep(wait)

    def _ill(self, why: str, tries: int, wait_seconds: float) -> None:
        if self.failing_since is None:
            self.failing_since = self._now_seconds()
        self.trouble = why
        _log.warning(
            "destination %s: try %s failed: %s; the next one in %.0f s",
            self._where.name, tries, why, wait_seconds,
        )  # fmt: skip

    def _well(self) -> None:
        if self.trouble:
            _log.info("destination %s answers again", self._where.name)
        self.trouble, self.failing_since = "", None
