"""One checkpoint of a shard while its steps go on: steps 4 and 5 of the commit protocol.

The state is frozen between two steps. Its pages are then taken a few at a time by the compute
thread, whose turns lie between steps as well, and written in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from schemas.messages import Erasure
from streams import background
from streams.core.state import snapshot
from streams.core.state.pages import Page
from streams.core.state.shard_state import ShardState
from streams.shard import log_fields
from streams.shard.checkpoints import Begun, CheckpointStore
from streams.shard.effects import Effects
from streams.shard.journal import Journal
from streams.shard.services import Services

__all__ = ["CheckpointRun"]

log = logging.getLogger(__name__)

BYTES_AT_ONCE: Final = 2 * 1024 * 1024  # a few milliseconds of copying and hashing


class CheckpointRun:
    """Made by `begin`. The caller awaits `done` or calls `cancel`."""

    def __init__(
        self,
        shard: int,
        services: Services,
        store: CheckpointStore,
        state: ShardState,
        journal: Journal,
    ) -> None:
        self._shard = shard
        self._s = services
        self._store = store
        self._state = state
        self._journal = journal
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def begin(
        cls,
        shard: int,
        services: Services,
        store: CheckpointStore,
        state: ShardState,
        journal: Journal,
        effects: Effects,
        wake: asyncio.Event,
        applied_ms: tuple[int, int],
    ) -> CheckpointRun:
        """Freeze the state, which must be at rest, and write it in a separate task.

        `effects` are all that must be acknowledged before the checkpoint may count; `wake` is set
        at the end, well or not. `applied_ms` are the timestamps of the last records in it, by
        source.
        """
        run = cls(shard, services, store, state, journal)
        offsets = (state.meta.offsets[0], state.meta.offsets[1])
        loop = asyncio.get_running_loop()
        erased = services.erasures.unreported(state.meta.erased)
        begun = await loop.run_in_executor(services.compute, run._freeze, journal.next_offset)
        run._task = background.start_awaited(
            run._write(begun, (offsets, applied_ms), effects, erased), f"checkpoint-{shard}"
        )

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.exception()  # seen; `done` raises it
            wake.set()

        run._task.add_done_callback(ended)
        return run

    @property
    def ended(self) -> bool:
        """Whether `done` would return, or raise, at once."""
        return self._task is None or self._task.done()

    async def done(self) -> None:
        """Wait until it counts and its offsets are committed; raises what it failed with."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def cancel(self) -> None:
        """Give it up. The state must not be checkpointed again by this store."""
        if self._task is not None:
            self._task.cancel()

    def _freeze(self, journal_offset: int) -> Begun:
        started = time.monotonic()
        meta, sources = snapshot.freeze(self._state, everything=self._store.fresh)
        begun = self._store.begin(self._state.meta.seq, journal_offset, meta, sources)
        self._s.monitor.checkpoint_took(time.monotonic() - started)
        return begun

    def _take(self, begun: Begun) -> list[Page]:
        started = time.monotonic()
        pages = begun.writing.take(BYTES_AT_ONCE)
        if not begun.writing.left:
            snapshot.thaw(self._state)
        self._s.monitor.checkpoint_took(time.monotonic() - started)
        return pages

    async def _write(
        self,
        begun: Begun,
        reached: tuple[tuple[int, int], tuple[int, int]],
        effects: Effects,
        erased: Sequence[Erasure],
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pages = await loop.run_in_executor(self._s.compute, self._take, begun)
            written = await self._store.write(pages)
            self._s.monitor.checkpoint_written(self._shard, written)
            if not begun.writing.left:
                break
        await effects.flushed()
        nbytes = await self._store.complete(begun, purge=bool(erased))
        self._s.monitor.checkpoint_written(self._shard, nbytes)
        started_ns = time.time_ns()
        await self._s.inputs.commit(self._shard, *reached)
        if self._s.tracer is not None:
            self._s.tracer.committed(self._shard, reached[0], started_ns, time.time_ns())
        (clicks, orders), _ = reached
        log.debug(
            "checkpoint counts, offsets are committed",
            extra=log_fields.of_shard(
                "checkpoint", self._shard, clickstream_to=clicks, orders_to=orders
            ),
        )
        # An owner since then may have begun from an older checkpoint, and replay the past.
        if erased and await self._journal.ours_since(begun.journal_offset):
            await self._s.erasures.report(erased)
