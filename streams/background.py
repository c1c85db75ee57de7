"""Tasks that run beside their maker, and threads: none of them may end in silence.

Every task is made here, and every thread but the few that a test names (tests/test_background.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["start", "start_awaited"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_running: set[asyncio.Task[Any]] = set()  # asyncio itself holds tasks weakly


def start(
    work: Coroutine[Any, Any, None], name: str, failed: Callable[[BaseException], object]
) -> asyncio.Task[None]:
    """Run `work` in a task that nobody awaits.

    Args:
        name: of the task; for the log.
        failed: called once, on the event loop, with the error that ended the work. A cancellation
            that somebody asked for is none; one that leaked out of the work itself is.
    """

    def ended(task: asyncio.Task[None]) -> None:
        error = _error(task)
        if error is not None:
            _log.error("%s has ended: %r", name, error, exc_info=error)
            failed(error)

    task = start_awaited(work, name)
    task.add_done_callback(ended)
    return task


def start_awaited(work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
    """Run `work` in a task that its maker awaits, or asks for its error, sooner or later."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def _error(task: asyncio.Task[None]) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    if task.cancelling():
        return None
    return RuntimeError("it was cancelled, though nobody asked for it")
