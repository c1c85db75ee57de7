"""The skeleton of a process that runs on: a list of parts, started in order and stopped in reverse.

    start      log ──▶ sink ──▶ background tasks ──▶ what takes work in
    stop       log ◀── sink ◀── background tasks ◀── what takes work in

1. A part starts when all before it have started, and stops when all behind it have stopped.
2. Should a start fail or be cancelled, that part and those before it are stopped, and the error is
   raised.
3. Should a stop fail, the error is logged and the other parts are stopped all the same.
4. A background task that ends on an error stops the process (`streams.background`).
5. A thread that does not end when asked to is left behind: once all parts have stopped, the process
   ends under it, with status 1 if there was an error.

Worker and learner are Faust apps with such a list (`streams.faust_app.App`). A process without
Faust, such as the lag monitor, is run by `run_parts`, until a stop request or an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from streams import background
from streams.stopping import StopRequests

__all__ = [
    "Failed",
    "Part",
    "Parts",
    "at_once",
    "background_part",
    "in_thread",
    "run_parts",
    "thread_part",
]

Failed = Callable[[BaseException], object]
"""Called with an error that the process must stop for, on the event loop."""

# A cancelled task that does not end must not keep the parts before it from stopping.
CANCEL_SECONDS = 5.0

# A thread can't be stopped from outside, and what it waits for may not be worth the wait.
THREAD_SECONDS = 3.0

_STILL_RUNNING = object()

_log = logging.getLogger(__name__)


async def _nothing() -> None:
    """Most parts have either a start or a stop that takes no work."""


@dataclass(frozen=True)
class Part:
    """One part of a process.

    name: what it is, for the log.
    start: returns once the part is ready to be used.
    stop: called once if `start` was, also if that failed or was cancelled halfway.
    """

    name: str
    start: Callable[[], Awaitable[object]] = _nothing
    stop: Callable[[], Awaitable[object]] = _nothing


class Parts:
    """Starts and stops parts; the module has the rules."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._begun: list[Part] = []
        self.left: list[str] = []
        """Names of the parts whose thread went on after their stop."""

    async def start(self) -> None:
        """Start all, in order. Raises a part's error, once those before it have stopped."""
        for part in self._parts:
            self._begun.append(part)
            try:
                await part.start()
            except BaseException:
                with contextlib.suppress(Exception):  # it is in the log
                    await self.stop()
                raise

    async def stop(self) -> None:
        """Stop all that were started, the last one first. Safe to call twice.

        Raises the first error, once all have stopped.
        """
        first: Exception | None = None
        while self._begun:
            part = self._begun.pop()
            try:
                if await part.stop() is _STILL_RUNNING:
                    self.left.append(part.name)
            except Exception as error:
                _log.exception("%s could not be stopped", part.name)
                first = first or error
        if first is not None:
            raise first


def at_once(call: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """`call` as a start or a stop: a plain function that returns at once."""

    async def run() -> None:
        call()

    return run


def in_thread(call: Callable[[], object]) -> Callable[[], Coroutine[Any, Any, None]]:
    """`call` as a start, a stop or background work: a plain function that blocks."""

    async def run() -> None:
        await asyncio.get_running_loop().run_in_executor(None, call)

    return run


def background_part(
    name: str, work: Callable[[], Coroutine[Any, Any, None]], failed: Failed
) -> Part:
    """A task that runs until the part stops; `failed` gets the error that ends it sooner."""
    running: list[asyncio.Task[None]] = []

    async def stop() -> None:
        while running:
            task = running.pop()
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_SECONDS)

    return Part(name, at_once(lambda: running.append(background.start(work(), name, failed))), stop)


def thread_part(
    name: str, work: Callable[[], None], stop: Callable[[], object], failed: Failed
) -> Part:
    """A function that blocks, in a thread, until the part stops.

    Args:
        work: returns soon after `stop` was called; `failed` gets the error that ends it sooner.
        stop: asks it to, and returns at once. It has `THREAD_SECONDS` to end.
    """
    running: list[asyncio.Task[None]] = []

    def begin() -> None:
        running.append(background.start(in_thread(work)(), name, failed))

    async def end() -> object:
        stop()
        _, left = await asyncio.wait(running, timeout=THREAD_SECONDS) if running else ((), ())
        return _STILL_RUNNING if left else None

    return Part(name, at_once(begin), end)


def run_parts(parts: Callable[[Failed], Sequence[Part]], requests: StopRequests) -> None:
    """Run a process without Faust until a stop request; `parts` makes its parts.

    Raises the error of a part that could not start, or of a background task that ended, once all
    parts have stopped. Does not return if a thread goes on by then: it logs the error, and the
    process ends with status 1, or 0 if there was none.
    """
    asyncio.run(_run(parts, requests))


async def _run(make: Callable[[Failed], Sequence[Part]], requests: StopRequests) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    errors: list[BaseException] = []

    def failed(error: BaseException) -> None:
        errors.append(error)
        over.set()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended by itself
            loop.call_soon_threadsafe(over.set)

    parts = Parts(make(failed))
    requests.hand_over(stop)
    error = await _outcome(parts, over)
    error = errors[0] if errors else error
    if parts.left:
        names = ", ".join(parts.left)
        _log.warning(
            "%s did not end within %.0f s: the process ends without", names, THREAD_SECONDS
        )
        if error is not None:
            _log.error("the process ends because of an error: %s", error, exc_info=error)
        requests.leave(0 if error is None else 1)
    if error is not None:
        raise error


async def _outcome(parts: Parts, over: asyncio.Event) -> BaseException | None:
    """Start `parts`, wait until it is over, and stop them; the error that this ended with."""
    starting = background.start_awaited(parts.start(), "start")
    waiting = background.start_awaited(over.wait(), "until it is over")
    error: BaseException | None = None
    try:
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()  # it stops what it has started
            await asyncio.wait([starting])
        if not starting.cancelled():
            await starting
            # What is there now stays as long as the process. To look through it for garbage again
            # and again would stop everything for 40 to 80 ms each time.
            gc.freeze()
            await waiting
    except BaseException as raised:
        error = raised
    waiting.cancel()
    try:
        await parts.stop()
    except Exception as raised:
        error = error or raised
    return error
