"""Waiting in tests: `asyncio.run` for results of many megabytes, and turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["awaited", "close_unused_loop", "task_names", "turns"]

T = TypeVar("T")


def awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    """What `coroutine` returns.

    `asyncio.run` puts Python's own SIGINT handler back when it is done, and `signal.signal` makes a
    text of the handler that was there, with the finished task in it, and the task's result: for
    a replay's arrays that takes minutes. Here the task has none.
    """
    results: list[T] = []

    async def run() -> None:
        results.append(await coroutine)

    asyncio.run(run())
    return results[0]


async def turns(n: int) -> None:
    """Give everything that is ready `n` turns: for what takes some turns and no time."""
    for _ in range(n):
        await asyncio.sleep(0)


def task_names() -> set[str]:
    """The names of the tasks that have not ended."""
    return {task.get_name() for task in asyncio.all_tasks()}


def close_unused_loop(app: Any) -> None:
    """Of a Faust app that never ran: its consumer has made an event loop for a thread."""
    app.consumer._thread.thread_loop.close()
