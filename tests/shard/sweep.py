"""A test that dies, fails or pauses at each call that a process makes, one run for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest


def sweep(attempt: Callable[[int], Awaitable[bool]], stride: int) -> int:
    """Run `attempt(n)` for every `stride`-th n from 1 until it says that the run ended before the
    n-th call.

    Returns the last n that was a call.
    """

    async def go() -> int:
        n = 1
        while await attempt(n):
            n += stride
        return n - stride

    return asyncio.run(go())


STRIDES = pytest.mark.parametrize(
    "stride", [pytest.param(7, id="each 7th"), pytest.param(1, id="each", marks=pytest.mark.full)]
)
"""Which of the calls a sweep dies at: all of them take minutes, so they are in `make faults`."""
