"""The helper the drills wait with."""

from __future__ import annotations

import asyncio
import signal

from tests.awaiting import awaited


class _Costly:
    texts = 0

    def __repr__(self) -> str:
        self.texts += 1
        return "costly"


def test_no_text_is_made_of_the_result() -> None:
    costly = _Costly()

    async def give() -> _Costly:
        return costly

    assert awaited(give()) is costly
    assert costly.texts == 0


def test_asyncio_run_makes_one() -> None:
    """When this fails, `awaited` is no longer needed. `asyncio.run` takes SIGINT over only from
    Python's own handler, and a shell has the programs in its background ignore SIGINT."""
    costly = _Costly()

    async def give() -> _Costly:
        return costly

    left = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(give())
    finally:
        signal.signal(signal.SIGINT, left)
    assert costly.texts > 0
