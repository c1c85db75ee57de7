"""Stop requests (SIGTERM, SIGINT) of a process that runs on, from its first line to its last.

Signal handlers would leave gaps: before they are installed, while a library replaces them, while
the main thread is in a long call, and when Python takes them down. So the first line of the program
blocks both signals, in all threads, and one thread waits for them:

1. `hold()`, before anything that takes time: a request stays pending.
2. A command that ends by itself calls `release()`: signals end it like any other program.
3. A service calls `StopRequests.listen()`. As long as it has nothing that must be stopped in order,
   a request ends the process at once, with status 0.
4. It calls `hand_over(stop)` before it starts anything that must be: a request now calls `stop`.
   No request falls between 3 and 4.

No program covers the time before its first line, while Python itself starts: a signal then ends the
process with the signal as its status, or is lost if the process is number 1 of a container (so run
containers with an init). Child processes inherit blocked signals: a service must start none.
"""
# ruff: noqa: PLC0415  (until `hold` has run, every import lengthens the time without it)

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIGNALS", "StopRequests", "hold", "leave", "release"]

SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})

_before: set[int] | None = None  # the mask as `hold` found it; None while nothing is held


def hold() -> None:
    """Let requests wait. Threads started from now on inherit this. Safe to call twice."""
    global _before  # noqa: PLW0603  (the mask is the process's, too)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if _before is None:
        _before = set(before)


def release() -> None:
    """Undo `hold`; what has waited takes effect now. Does nothing if nothing is held."""
    global _before
    if _before is not None:
        before, _before = _before, None
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(status: int = 0) -> NoReturn:
    """End the process now with that status, wherever its other threads are."""
    os._exit(status)


class StopRequests:
    """What to do when this process is asked to stop; see the module for the steps."""

    def __init__(self, leave: Callable[[int], object] = leave) -> None:
        """`leave` ends the process with a status."""
        import logging
        import threading

        self._log = logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._leave = leave
        self._stop: Callable[[], object] | None = None
        self._stopping = False

    @classmethod
    def listen(cls) -> StopRequests:
        """Start the thread that waits for requests. To be called once, from the main thread."""
        import threading

        hold()
        requests = cls()
        threading.Thread(target=requests._wait, name="stop-requests", daemon=True).start()
        return requests

    def hand_over(self, stop: Callable[[], object]) -> None:
        """From now on a request calls `stop`, on the listening thread, and only the first one."""
        with self._lock:
            self._stop = stop

    def leave(self, status: int) -> None:
        """End the process with that status, though a thread of it would run on."""
        self._leave(status)

    def receive(self, name: str) -> None:
        """Act on a request, which came as the signal of that name."""
        with self._lock:  # no hand-over between the look and the end of the process
            if self._stop is None:
                self._log.info("%s during the start: ending, nothing is under way", name)
                self._leave(0)
                return
            if self._stopping:
                self._log.info("%s: already stopping", name)
                return
            self._stopping = True
        self._log.info("%s: stopping", name)
        self._stop()

    def _wait(self) -> None:
        while True:
            self.receive(signal.Signals(signal.sigwait(SIGNALS)).name)
