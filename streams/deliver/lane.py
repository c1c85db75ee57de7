"""One partition's records for one destination, delivered in order; and the offset to commit.

1. Records are delivered piece by piece. What was refused of one is in the topic of undelivered
   changes before the next one begins.
2. `next_offset` passes a piece only then. Whoever continues there loses nothing; what was delivered
   and not committed is delivered again, under the same ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from schemas.messages import Undelivered
from streams import background
from streams.deliver.changes import IsErased, Piece, Record, letter, nobody, pieces
from streams.deliver.courier import Courier, largest_batch
from streams.deliver.destinations import Destination

__all__ = ["Counted", "Lane", "Write"]

Write = Callable[[Sequence[Undelivered]], Awaitable[None]]
"""Returns once the letters are kept."""


class Counted(Protocol):
    """Gets what became of changes: for metrics."""

    def done(self, result: str, count: int) -> None:
        """So many changes are `delivered`, `undelivered` or `skipped`."""


class Lane:
    """`take` adds records to those that are being delivered; `is_free` says that all are."""

    def __init__(
        self,
        where: Destination,
        partition: int,
        next_offset: int,
        courier: Courier,
        write: Write,
        counted: Counted,
        now_ms: Callable[[], int],
        is_erased: IsErased = nobody,
    ) -> None:
        self.partition = partition
        self.next_offset = next_offset
        self.courier = courier
        self._where, self._write, self._counted, self._now_ms = where, write, counted, now_ms
        self._is_erased = is_erased
        self._waiting: list[Record] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def is_free(self) -> bool:
        return self._task is None or self._task.done()

    def check(self) -> None:
        """Raises the error that ended the delivery, if one did."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def take(self, records: Sequence[Record]) -> None:
        """Deliver `records`, which follow those taken before."""
        self._waiting += [r for r in records if r.offset >= self.next_offset]
        if self._waiting and self.is_free and not self._stopping:
            name = f"{self._where.name} {self.partition}"
            self._task = background.start_awaited(self._deliver(), name)

    async def stop(self, grace_seconds: float) -> None:
        """Let a request that is under way end, within that time; then give up."""
        self._stopping = True
        if self._task is None:
            return
        if not self.courier.trouble:
            await asyncio.wait([self._task], timeout=grace_seconds)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _deliver(self) -> None:
        while self._waiting:
            records, self._waiting = self._waiting, []
            most = largest_batch(self._where)
            for piece in pieces(records, self._where, most, self._is_erased):
                if self._stopping:
                    return
                await self._one(piece)

    async def _one(self, piece: Piece) -> None:
        refusals = await self.courier.deliver([change for _, change in piece.changes])
        refused = [*piece.refused]
        for (record, _), refusal in zip(piece.changes, refusals, strict=True):
            if refusal is not None:
                refused.append((record, refusal))
        if refused:
            at = self._now_ms()
            await self._write([letter(self._where, *each, at) for each in refused])
        self.next_offset = piece.next_offset
        self._counted.done("delivered", refusals.count(None))
        self._counted.done("undelivered", len(refused))
        self._counted.done("skipped", piece.skipped)
