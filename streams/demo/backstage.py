"""Replays the source and follows the learner, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import attrgetter

from schemas.messages import LearnerSnapshot
from streams import background
from streams.kafka.access import kafka_access
from streams.learner.snapshots import SnapshotFollower
from streams.replay.producer import InputTopics, ProduceSummary, produce
from streams.replay.records import Block, Source
from streams.settings import Settings

__all__ = ["Backstage", "parts"]

_STOP_SECONDS = 3.0


def parts(source: Source, hold_at_ms: int | None) -> list[Iterable[Block]]:
    """The source, or what is before that event time and the rest. Blocks are in order."""
    if hold_at_ms is None:
        return [source]
    blocks, rest = iter(source), list[Block]()

    def before() -> Iterator[Block]:
        for block in blocks:
            stop = bisect_left(block, hold_at_ms, key=attrgetter("timestamp_ms"))
            if stop:
                yield block[:stop]
            if stop < len(block):
                rest.append(block[stop:])
                return

    def behind() -> Iterator[Block]:
        yield from rest
        yield from blocks

    return [before(), behind()]


class Backstage:
    """Reads from any thread: `sent` records and `learner` as of now, `held` once all before
    `hold_at_ms` is acknowledged, `done` once everything is.

    `hold_at_ms`: the event time at which the replay waits for `go_on`; None: nowhere.
    """

    def __init__(
        self, settings: Settings, source: Source, speed: float, hold_at_ms: int | None = None
    ) -> None:
        self._settings = settings
        self._parts = parts(source, hold_at_ms)
        self._going_on = threading.Event()
        self._speed = speed
        self._follower = SnapshotFollower(kafka_access(settings), settings.topic_names.learner)
        self._thread = threading.Thread(target=self._run, name="backstage", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self.sent = 0
        """Records that were acknowledged so far."""
        self._sent_before = 0
        self.started_at: float | None = None
        """When the first record was on its way (time.monotonic)."""
        self.held = False
        self.done = False

    def go_on(self) -> None:
        """Send what was held back."""
        self.held = False
        self._going_on.set()

    @property
    def learner(self) -> LearnerSnapshot | None:
        """The newest snapshot that the learner has published."""
        return self._follower.newest

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the replay, if it failed."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop sending and following; waits a few seconds at most."""
        loop, main = self._loop, self._main
        self._going_on.set()  # or the executor's thread would wait for ever
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(main.cancel)
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._error = error

    async def _work(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        following = background.start(self._follower.run(), "learner snapshots", self._fail)
        try:
            names = self._settings.topic_names
            for part in self._parts:
                if self._sent_before:
                    self.held = True
                    await asyncio.get_running_loop().run_in_executor(None, self._going_on.wait)
                found = await produce(
                    part,
                    kafka_access(self._settings),
                    InputTopics(names.clickstream, names.orders),
                    speed=self._speed,
                    check_retention=True,
                    progress=self._progress,
                )
                self._sent_before += found.records
                self.sent = self._sent_before
            self.done = True
            await asyncio.Event().wait()  # until cancelled
        finally:
            following.cancel()
            await asyncio.wait([following])

    def _fail(self, error: BaseException) -> None:
        assert self._main is not None  # noqa: S101  (it started what has failed)
        self._error = error
        self._main.cancel()

    def _progress(self, sent: ProduceSummary) -> None:
        if self.started_at is None:
            self.started_at = time.monotonic() - sent.seconds
        self.sent = self._sent_before + sent.records
